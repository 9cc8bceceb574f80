"""If two tenants have a folder of the same name, each is a separate project; steps of one do not change the other."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from flows.planning.plan import plan_task
from flows.steps.projects.manifest_check import manifest_of
from storage import PhotosRepository, ProjectsRepository
from storage.library.manifest import read_manifest, write_manifest
from tests.flows.steps.test_faults_at_every_change import run_task


def projects_of(studio: Any, tenant_id: str) -> list[Any]:
    return ProjectsRepository(studio.database).list(tenant_id=tenant_id)


def of_other(studio: Any) -> dict[str, Any]:
    """Return all files and rows of the other tenant."""
    found: dict[str, Any] = {path: file for path, file in studio.disk().items() if path.startswith("other/")}
    for project in projects_of(studio, "other"):
        found[f"project {project.id}"] = project
        found |= {f"photo {photo.id}": photo for photo in PhotosRepository(studio.database).list_by_project(project.id)}
    return found


@pytest.fixture
def other(studio: Any) -> Any:
    """The project Alps of tenant `other`, with a photo."""
    project = studio.project("Alps", tenant_id="other")
    studio.photo(project, "fox", "jpg", contents={"jpg": b"theirs"})
    studio.write_manifest(project)
    return project


def test_a_new_folder_of_a_name_that_another_tenants_project_has_is_a_project(studio: Any, other: Any) -> None:
    folder = studio.root / "tenant" / "Alps"
    folder.mkdir()
    (folder / "fox.jpg").write_bytes(b"ours")
    before = of_other(studio)
    job = studio.run("folder_discovery", scope="global")
    assert (job.status, job.result["counts"].get("skipped")) == ("completed", None)
    [own] = projects_of(studio, "tenant")
    assert (own.project_folder, own.project_name) == ("Alps", "Alps")
    assert own.id != other.id
    assert of_other(studio) == before
    assert [photo.filename for photo in PhotosRepository(studio.database).list_by_project(own.id)] == ["fox"]
    manifest = read_manifest(studio.folder(own))
    assert manifest is not None
    assert manifest.id == own.id


def test_a_copy_of_another_tenants_folder_is_a_project_of_its_own(studio: Any, other: Any) -> None:
    shutil.copytree(studio.root / "other" / "Alps", studio.root / "tenant" / "Alps")
    before = of_other(studio)
    studio.run("folder_discovery", scope="global")
    [own] = projects_of(studio, "tenant")
    assert own.id != other.id
    assert of_other(studio) == before
    manifest = read_manifest(studio.folder(own))
    assert manifest is not None
    assert manifest.id == own.id


def test_a_folder_that_was_renamed_by_hand_to_the_name_of_another_tenants_is_followed(studio: Any, other: Any) -> None:
    own = studio.project("Iceland")
    photo_id = studio.photo(own, "fox", "jpg")
    studio.write_manifest(own)
    studio.folder(own).path.rename(studio.root / "tenant" / "Alps")
    before = of_other(studio)
    studio.run("folder_discovery", scope="global")
    [followed] = projects_of(studio, "tenant")
    assert (followed.id, followed.project_folder) == (own.id, "Alps")
    assert studio.get_photo(photo_id).project_id == own.id
    assert of_other(studio) == before


def test_the_upkeep_of_one_leaves_the_others_project_alone(studio: Any, other: Any, jpeg: Any) -> None:
    own = studio.project("Alps")
    photo_id = studio.photo(own, "fox", "jpg", keep_jpg=0)
    studio.photo(own, "lost")
    (studio.folder(own).path / "owl.jpg").write_bytes(jpeg())
    before = of_other(studio)
    run_task(
        studio,
        *("orphaned_project_cleanup", "duplicate_resolution", "folder_alignment", "manifest_check", "folder_check"),
        *("derivative_validation", "manifest_cleaning", "file_removal", "folder_discovery"),
        scope="global",
    )
    assert of_other(studio) == before
    names = [photo.filename for photo in PhotosRepository(studio.database).list_by_project(own.id)]
    assert sorted(names) == ["owl"]
    assert studio.get_photo(photo_id) is None
    [kept] = projects_of(studio, "tenant")
    assert kept.project_folder == "Alps"


def test_a_folder_is_aligned_to_a_name_that_another_tenants_folder_has_and_back(studio: Any, other: Any) -> None:
    own = studio.project("Iceland")
    studio.photo(own, "fox", "jpg")
    studio.write_manifest(own)
    ProjectsRepository(studio.database).rename(own.id, project_name="Alps")
    before = of_other(studio)
    run_task(studio, "folder_alignment", scope="global")
    [aligned] = projects_of(studio, "tenant")
    assert aligned.project_folder == "Alps"
    assert "tenant/Alps/fox.jpg" in studio.disk()
    assert of_other(studio) == before
    assert studio.run("undo", scope="global", payload={"undo": "task"}).status == "completed"
    [back] = projects_of(studio, "tenant")
    assert back.project_folder == "Iceland"
    assert "tenant/Iceland/fox.jpg" in studio.disk()
    assert of_other(studio) == before


def test_an_undo_puts_files_back_into_the_tenants_own_folder(studio: Any, other: Any) -> None:
    own = studio.project("Alps")
    photo_id = studio.photo(own, "fox", "jpg", keep_jpg=0, contents={"jpg": b"ours"})
    before, theirs = studio.disk(), of_other(studio)
    run_task(studio, "file_removal", scope="photo_set", items=[{"photo_id": photo_id}])
    assert "tenant/Alps/fox.jpg" not in studio.disk()
    assert of_other(studio) == theirs
    assert studio.run("undo", scope="global", payload={"undo": "task"}).status == "completed"
    assert studio.disk() == before
    assert studio.get_photo(photo_id) is not None
    assert of_other(studio) == theirs


def test_an_undo_of_a_removed_project_gives_it_a_folder_name_that_another_tenant_has(studio: Any, other: Any) -> None:
    own = studio.project("Alps")
    write_manifest(studio.folder(own), manifest_of(own), at=studio.database.clock())
    shutil.rmtree(studio.folder(own).path)
    ProjectsRepository(studio.database).archive(own.id)
    theirs = of_other(studio)
    run_task(studio, "project_cleanup_db", scope="project", project_id=own.id)
    assert projects_of(studio, "tenant") == []
    assert studio.run("undo", scope="global", payload={"undo": "task"}).status == "completed"
    [back] = projects_of(studio, "tenant")
    assert (back.id, back.project_folder) == (own.id, "Alps")
    assert of_other(studio) == theirs


def test_a_plan_names_the_tenants_own_project(studio: Any, other: Any) -> None:
    ProjectsRepository(studio.database).rename(other.id, project_name="Theirs")
    own = studio.project("Alps")
    studio.photo(own, "fox", "jpg", keep_jpg=0)
    with studio.runtime.as_current():
        plan = plan_task(type="change_commit", tenant_id="tenant", project_id=own.id)
    removal = next(step for step in plan.steps if step.type == "file_removal")
    assert list(removal.projects) == ["Alps"]


def test_two_projects_of_one_tenant_never_have_one_folder(studio: Any, other: Any) -> None:
    from storage.errors import ConstraintViolated

    studio.project("Alps")
    with pytest.raises(ConstraintViolated):
        ProjectsRepository(studio.database).create(project_name="Two", project_folder="Alps", tenant_id="tenant")
    # A project without a tenant belongs to the default tenant.
    ProjectsRepository(studio.database).create(project_name="One", project_folder="Alps")
    with pytest.raises(ConstraintViolated):
        ProjectsRepository(studio.database).create(project_name="Two", project_folder="Alps", tenant_id="user_0")
