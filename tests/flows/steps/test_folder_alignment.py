"""Folders get the names of their projects, and never replace another folder."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from storage import ProjectsRepository
from storage.library.manifest import Manifest, read_manifest, write_manifest


def named(studio: Any, project: Any, name: str) -> Any:
    return ProjectsRepository(studio.database).rename(project.id, project_name=name)


def folder_name(studio: Any, project: Any) -> str:
    found = ProjectsRepository(studio.database).get_by_id(project.id)
    assert found is not None
    return found.project_folder


@pytest.mark.parametrize("runtime", [{"rename_user_files": "report"}], indirect=True)
def test_nothing_is_renamed_unasked(studio: Any) -> None:
    named(studio, studio.project("one"), "Iceland")
    before = studio.everything()
    job = studio.run("folder_alignment", scope="global")
    assert (job.status, job.result["examples"]) == (
        "completed",
        {"folders that are not named like their projects": ["one: the name of its project would make it Iceland"]},
    )
    assert studio.everything() == before


@pytest.mark.parametrize("scope", ["project", "photo_set", "global"])
def test_folder_row_and_manifest_change_together(studio: Any, scope: str) -> None:
    projects = [studio.project(name) for name in ("one", "two", "three")]
    ids = [studio.photo(project, "a", "jpg") for project in projects]
    for project, name in zip(projects, ("Iceland: 2024/25", "  Ünïcode ", "CON..."), strict=True):
        named(studio, project, name)
    arguments: dict[str, Any] = {
        "project": {"project_id": projects[0].id},
        "photo_set": {"items": [{"photo_id": photo_id} for photo_id in ids[:2]]},
        "global": {"scope": "global"},
    }[scope]
    reached = {"project": 1, "photo_set": 2, "global": 3}[scope]

    assert studio.run("folder_alignment", **arguments).result["counts"]["renamed"] == reached
    after = studio.everything()
    assert studio.run("folder_alignment", **arguments).status == "completed"

    wanted = ["Iceland: 2024-25", "Ünïcode", "CON"][:reached] + ["one", "two", "three"][reached:]
    assert [folder_name(studio, project) for project in projects] == wanted
    for project, name in zip(projects[:reached], wanted, strict=False):
        folder = studio.runtime.library.project("tenant", name)
        assert (folder.path / "a.jpg").is_file()
        assert read_manifest(folder).id == project.id
    assert [entry[0] for entry in studio.journal()] == ["renamed_folder"] * reached
    assert studio.everything() == after


def test_a_folder_in_the_way_is_left_alone_in_any_spelling(studio: Any) -> None:
    first, second = studio.project("first"), studio.project("second")
    named(studio, first, "Taken")
    named(studio, second, "Caf\u00e9")
    for name in ("TAKEN", "cafe\u0301"):
        (studio.root / "tenant" / name).mkdir()
        (studio.root / "tenant" / name / "note.txt").write_bytes(b"mine")
    before = studio.disk()

    job = studio.run("folder_alignment", scope="global")

    assert job.status == "completed"
    assert job.result["counts"] == {"skipped": 2}
    assert [folder_name(studio, project) for project in (first, second)] == ["first", "second"]
    assert {name: data for name, data in studio.disk().items() if not name.endswith(".project.yaml")} == before


def test_a_folder_that_has_the_name_already_is_followed_not_renamed(studio: Any) -> None:
    project = studio.project("old")
    studio.photo(project, "a", "jpg")
    write_manifest(
        studio.folder(project), Manifest(name="new", id=project.id, created_at="2024-01-01"), at=studio.database.clock()
    )
    studio.folder(project).path.rename(studio.root / "tenant" / "new")
    named(studio, project, "new")

    assert studio.run("folder_alignment", scope="global").status == "completed"

    assert folder_name(studio, project) == "new"
    assert studio.journal() == [("followed_folder", "tenant/old", "tenant/new")]


def test_a_missing_folder_is_skipped(studio: Any) -> None:
    project, _ = studio.project("old"), studio.project("there")
    named(studio, project, "new")
    shutil.rmtree(studio.folder(project).path)
    before = studio.everything()
    job = studio.run("folder_alignment", scope="global")
    assert job.result["examples"]["skipped"] == ["old: the folder is missing"]
    assert studio.everything() == before


def test_projects_of_one_name_get_folders_of_their_own_and_keep_them(studio: Any) -> None:
    owner = studio.project("Iceland")
    second, third = studio.project("b"), studio.project("c")
    for project in (second, third):
        named(studio, project, "Iceland")

    studio.run("folder_alignment", scope="global")
    after = studio.everything()
    studio.run("folder_alignment", scope="global")

    assert [folder_name(studio, project) for project in (owner, second, third)] == ["Iceland", "Iceland_2", "Iceland_3"]
    assert studio.everything() == after


def test_only_the_case_of_a_name_can_change(studio: Any) -> None:
    project = studio.project("iceland")
    studio.photo(project, "a", "jpg")
    named(studio, project, "Iceland")
    assert studio.run("folder_alignment", project_id=project.id).status == "completed"
    assert folder_name(studio, project) == "Iceland"
    assert "tenant/Iceland/a.jpg" in studio.disk()


@pytest.mark.slow_on("postgresql")
def test_a_death_at_any_point_is_repaired_and_no_project_is_taken_for_an_orphan(studio: Any, deaths: Any) -> None:
    def prepare(studio: Any) -> int:
        project = studio.project("old")
        studio.photo(project, "a", "jpg")
        named(studio, project, "New name")
        return int(studio.enqueue("folder_alignment", scope="global"))

    deaths.check(prepare, more_than=3)


def test_a_rename_without_its_row_survives_the_cleanup_of_orphans(studio: Any) -> None:
    project, _ = studio.project("old"), studio.project("there")
    studio.photo(project, "a", "jpg")
    studio.run("manifest_check", scope="global")
    named(studio, project, "New name")
    studio.folder(project).path.rename(studio.root / "tenant" / "New name")

    for step_type in ("orphaned_project_cleanup", "folder_alignment"):
        assert studio.run(step_type, scope="global").status == "completed"

    found = ProjectsRepository(studio.database).get_by_id(project.id)
    assert found is not None
    assert (found.project_folder, found.status) == ("New name", None)
