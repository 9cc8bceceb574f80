"""Users exchange the names of folders whose photos have the same names: each photo keeps its row and its own file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import Mock

import pytest

from flows.planning.plan import make_plan
from flows.starting.new_task import new_task
from storage import PhotosRepository, ProjectsRepository
from storage.library.manifest import read_manifest
from storage.library.paths import TenantFolder
from task_definitions import load_definitions
from tests.flows.steps.test_faults_at_every_change import run_task

#: What renames folders, as pairs of the former and the present name, one after the other.
_RENAMES = {
    "exchanged": (("Iceland", "x"), ("Norway", "Iceland"), ("x", "Norway")),
    "passed on": (("Norway", "Oslo"), ("Iceland", "Norway")),
    "in a ring": (("Iceland", "x"), ("Norway", "Iceland"), ("Chile", "Norway"), ("x", "Chile")),
    "name of a missing folder": (("Norway", "../elsewhere"), ("Iceland", "Norway")),
}
_UPKEEP = (
    "trash_maintenance",
    "orphaned_project_cleanup",
    "folder_alignment",
    "manifest_check",
    "folder_check",
    "manifest_cleaning",
)


@pytest.fixture
def photo_ids(studio: Any) -> dict[str, list[int]]:
    """The photos of three projects, with the same names, by the name of the project."""
    found = {}
    for name in ("Iceland", "Norway", "Chile"):
        project = studio.project(name)
        studio.write_manifest(project)
        found[name] = [studio.photo(project, f"IMG_{n}", "jpg", "jpg.xmp", tagged=(name,)) for n in (1, 2)]
    assert studio.run("verify_originals", scope="global").status == "completed"
    return found


def _rename(studio: Any, renames: Sequence[tuple[str, str]]) -> None:
    for former, present in renames:
        (studio.root / "tenant" / former).rename(studio.root / "tenant" / present)


def _refused(studio: Any, types: Sequence[str]) -> list[str]:
    jobs = [studio.run(step, scope="global") for step in types]
    return [job.error_message or "" for job in jobs if job.status != "completed"]


def _check_photos(studio: Any, photo_ids: dict[str, list[int]], *, but_for: Sequence[str] = ()) -> None:
    """Each photo has its own files and its own tags."""
    for name, ids in photo_ids.items():
        for number, photo_id in enumerate(ids, start=1):
            photo = studio.get_photo(photo_id)
            project = ProjectsRepository(studio.database).get(photo.project_id)
            assert studio.tags_of(photo_id) == [(project.id, name)]
            if name not in but_for:
                for extension in ("jpg", "jpg.xmp"):
                    file = studio.folder(project).path / f"{photo.filename}.{extension}"
                    assert file.read_bytes() == f"{name}/IMG_{number}.{extension}".encode()
                assert read_manifest(studio.folder(project)).id == project.id


@pytest.mark.parametrize("how", ["exchanged", "in a ring"])
def test_a_plan_of_one_project_is_refused_as_the_run_is(studio: Any, photo_ids: dict[str, list[int]], how: str) -> None:
    _rename(studio, _RENAMES[how])
    project = ProjectsRepository(studio.database).list()[1]
    arguments = {"tenant_id": "tenant", "scope": "project", "project_id": project.id}
    definition = load_definitions({"check": {"label": "Check", "steps": [{"type": "manifest_check"}]}})["check"]

    [planned] = make_plan(studio.runtime, new_task(definition, **arguments)).steps

    assert planned.errors == (studio.run("manifest_check", **arguments).error_message,)
    assert "under another name" in planned.errors[0]


@pytest.mark.parametrize("is_maintained_first", [False, True])
@pytest.mark.parametrize("how", _RENAMES)
def test_each_photo_keeps_its_file(
    studio: Any, photo_ids: dict[str, list[int]], how: str, is_maintained_first: bool
) -> None:
    _rename(studio, _RENAMES[how])
    before = {name: content for name, content in studio.disk().items() if not name.endswith(".yaml")}
    gone = ["Norway"] if how == "name of a missing folder" else []
    if is_maintained_first:
        refused = _refused(studio, _UPKEEP)
        assert len(refused) == len(_UPKEEP)
        assert all("under another name" in reason for reason in refused)

    assert studio.run("folder_discovery", scope="global").status == "completed"
    assert _refused(studio, _UPKEEP) == []

    assert {name: content for name, content in studio.disk().items() if not name.endswith(".yaml")} == before
    _check_photos(studio, photo_ids, but_for=gone)
    everything = studio.everything()
    assert studio.run("folder_discovery", scope="global").status == "completed"
    assert studio.everything() == everything
    if gone:
        (studio.root / "elsewhere").rename(studio.root / "tenant" / "Norway again")
        assert studio.run("folder_discovery", scope="global").status == "completed"
        _check_photos(studio, photo_ids)


def _remove_file(studio: Any, ids: Sequence[int]) -> str:
    items = [{"photo_id": photo_id} for photo_id in ids]
    return str(studio.run("file_removal", scope="photo_set", items=items).error_message)


def _move_files(studio: Any, ids: Sequence[int]) -> str:
    items = [{"photo_id": photo_id} for photo_id in ids]
    return str(studio.run("image_move_files", scope="photo_set", project_id=3, items=items).error_message)


def _move_files_there(studio: Any, ids: Sequence[int]) -> str:
    [chile] = [one for one in ProjectsRepository(studio.database).list() if one.project_folder == "Chile"]
    photo_id = studio.photo(chile, "IMG_3", "jpg")
    project_id = studio.get_photo(ids[0]).project_id
    job = studio.run("image_move_files", scope="photo_set", project_id=project_id, items=[{"photo_id": photo_id}])
    (studio.folder(chile).path / "IMG_3.jpg").unlink()
    return str(job.error_message)


def _delete_project(studio: Any, ids: Sequence[int]) -> str:
    project_id = studio.get_photo(ids[0]).project_id
    ProjectsRepository(studio.database).archive(project_id)
    return str(studio.run("project_delete_files", scope="project", project_id=project_id).error_message)


@pytest.mark.parametrize("act", [_remove_file, _move_files, _move_files_there, _delete_project])
def test_files_of_the_other_project_are_neither_moved_nor_removed(
    studio: Any, photo_ids: dict[str, list[int]], act: Callable[[Any, Sequence[int]], str]
) -> None:
    with studio.database.begin() as connection:
        connection.exec_driver_sql("UPDATE photos SET keep_jpg = 0")
    _rename(studio, _RENAMES["exchanged"])
    before = studio.disk()
    assert "under another name" in act(studio, photo_ids["Iceland"])
    assert studio.disk() == before


@pytest.mark.parametrize("act", [_remove_file, _move_files, *_UPKEEP])
def test_files_of_a_new_folder_with_the_former_name_of_a_renamed_one_are_of_new_photos(
    studio: Any, photo_ids: dict[str, list[int]], act: Callable[[Any, Sequence[int]], str] | str
) -> None:
    with studio.database.begin() as connection:
        connection.exec_driver_sql("UPDATE photos SET keep_jpg = 0")
    _rename(studio, [("Iceland", "Trip")])
    # A user empties the same card again, and the camera has counted from 1 again.
    new = studio.root / "tenant" / "Iceland"
    new.mkdir()
    for number in (1, 2):
        (new / f"IMG_{number}.jpg").write_bytes(b"a new photo")
    before = studio.disk()

    reason = _refused(studio, [act])[0] if isinstance(act, str) else act(studio, photo_ids["Iceland"])

    assert "Trip" in reason
    assert "folder_discovery" in reason
    assert studio.disk() == before
    assert studio.run("folder_discovery", scope="global").status == "completed"
    _check_photos(studio, photo_ids)
    assert [photo.filename for photo in PhotosRepository(studio.database).list_by_project(4)] == ["IMG_1", "IMG_2"]


def test_a_folder_with_the_name_of_an_archived_project_keeps_its_project(
    studio: Any, photo_ids: dict[str, list[int]]
) -> None:
    norway = studio.get_photo(photo_ids["Norway"][0]).project_id
    ProjectsRepository(studio.database).archive(norway)
    _rename(studio, _RENAMES["name of a missing folder"])
    assert studio.run("folder_discovery", scope="global").status == "completed"
    _check_photos(studio, photo_ids, but_for=["Norway"])
    assert ProjectsRepository(studio.database).get(norway).is_archived


def test_a_folder_into_which_all_files_of_another_were_moved_stays_with_its_project(
    studio: Any, photo_ids: dict[str, list[int]]
) -> None:
    tenant = studio.root / "tenant"
    (tenant / "Iceland" / ".project.yaml").replace(tenant / "Norway" / ".project.yaml")
    for file in (tenant / "Iceland").glob("IMG_*"):
        file.rename(tenant / "Norway" / file.name.replace("IMG", "DSC"))
    for folder in (tenant / "Iceland").iterdir():
        folder.rmdir()
    (tenant / "Iceland").rmdir()
    norway = studio.get_photo(photo_ids["Norway"][0]).project_id
    assert _refused(studio, _UPKEEP) == []
    assert [studio.get_photo(one).project_id for ids in photo_ids.values() for one in ids][:4] == [norway] * 4
    assert read_manifest(studio.folder(ProjectsRepository(studio.database).get(norway))).id == norway


def test_an_undo_of_the_discovery_separates_no_photo_from_its_file(
    studio: Any, photo_ids: dict[str, list[int]]
) -> None:
    _rename(studio, _RENAMES["exchanged"])
    run_task(studio, "folder_discovery", scope="global")
    job = studio.run("undo", scope="global", payload={"undo": "task"})
    assert job.status == "completed", job.error_message
    assert studio.run("folder_discovery", scope="global").status == "completed"
    assert _refused(studio, _UPKEEP) == []
    _check_photos(studio, photo_ids)


def test_an_undo_moves_no_file_of_the_other_project(studio: Any, photo_ids: dict[str, list[int]]) -> None:
    iceland, norway, chile = ProjectsRepository(studio.database).list()
    fox, _ = studio.photo(iceland, "fox", "jpg"), studio.photo(chile, "fox", "jpg")
    run_task(studio, "image_move_files", scope="photo_set", project_id=norway.id, items=[{"photo_id": fox}])
    assert studio.run("verify_originals", scope="global").status == "completed"
    _rename(studio, (("Norway", "x"), ("Chile", "Norway"), ("x", "Chile")))
    before = studio.disk()
    job = studio.run("undo", scope="global", payload={"undo": "task"})
    assert "run folder_discovery" in job.result["examples"]["cannot be restored"][0]
    assert studio.disk() == before
    assert studio.run("folder_discovery", scope="global").status == "completed"
    assert studio.run("undo", scope="global", payload={"undo": "task"}).status == "completed"
    assert studio.disk()["tenant/Iceland/fox.jpg"] == b"Iceland/fox.jpg"


def test_a_project_without_known_photos_is_not_searched_for_in_all_folders(
    studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a new library, no folder has a manifest yet, so the search of each project would read every folder.
    listed = Mock()
    monkeypatch.setattr(TenantFolder, "project_folders", listed)
    studio.photo(studio.project("Peru"), "IMG_1", "jpg")
    assert studio.run("manifest_check", scope="global").status == "completed"
    listed.assert_not_called()
