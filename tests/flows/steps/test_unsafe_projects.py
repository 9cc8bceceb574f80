"""What leads out of the library, in rows that another program wrote or on the disk: nothing there is changed, and
a project of that kind costs itself alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage import PhotosRepository, ProjectsRepository, TasksRepository
from storage.database.tables import projects
from storage.history.move_intents import MoveIntent, write_intents
from task_definitions import load_definitions

_OLD_TRASH = ".trash/20200101T000000.000Z_0123456789ab_gone.jpg"


def _is_kept_up(studio: Any) -> bool:
    folder = studio.folder(ProjectsRepository(studio.database).get_by_folder("sound"))
    [new] = [photo for photo in _photos(studio) if photo.filename == "new"]
    return bool(folder.manifest_path.exists() and new.jpg_available) and not (folder.path / _OLD_TRASH).exists()


def _is_discovered(studio: Any) -> bool:
    folders = {one.project_folder for one in ProjectsRepository(studio.database).list(archived=False)}
    return {"inner", "project 0", "new"} <= {*folders, *(photo.filename for photo in _photos(studio))}


def _is_removed(studio: Any) -> bool:
    return not (studio.root / "tenant" / "left").exists()


def _counts(what: str) -> Callable[[Any], bool]:
    def has_counted(studio: Any) -> bool:
        [job] = TasksRepository(studio.database).list_jobs("task")
        return job.result["projects"] == {"sound": {what: 1}}

    return has_counted


#: For each definition, the sign that it has worked on the valid project.
DONE: dict[str, Callable[[Any], bool]] = {
    "maintenance_global": _is_kept_up,
    "folder_discovery": _is_discovered,
    "project_scavenge_global": _is_removed,
    "regenerate_metadata": _counts("metadata changed"),
    "verify_originals": _counts("hashed for the first time"),
}


def _photos(studio: Any) -> list[Any]:
    sound = ProjectsRepository(studio.database).get_by_folder("sound")
    return list(PhotosRepository(studio.database).list_by_project(sound.id))


def _fill(folder: Path) -> Path:
    """Create files that the steps would change if they worked in this folder; return the folder."""
    for name in (_OLD_TRASH, ".thumb/fox.webp", "fox.jpg", "note.xyz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no picture")
    return folder


def _contents(folder: Path) -> dict[Path, tuple[int, bytes | None]]:
    return {
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in folder.rglob("*")
    }


def _add_unsafe(studio: Any, folders: list[str], *, is_archived: bool) -> set[str]:
    """Create projects with one photo each, and change the folders in their rows to these; return their names."""
    names = set()
    for number, folder in enumerate(folders):
        name = f"{'archived' if is_archived else 'project'} {number}"
        project = ProjectsRepository(studio.database).create(project_name=name, project_folder=name, tenant_id="tenant")
        row = {"project_id": project.id, "filename": "fox", "jpg_available": 1}
        PhotosRepository(studio.database).create_many([row])
        if is_archived:
            ProjectsRepository(studio.database).archive(project.id)
        with studio.database.begin() as connection:
            connection.execute(projects.update().where(projects.c.id == project.id).values(project_folder=folder))
        names.add(name)
    return names


def test_every_global_definition_is_tried() -> None:
    # An undo takes its projects from the journal.
    assert {name for name, one in load_definitions().items() if one.scope == "global"} - {"undo"} == set(DONE)


@pytest.mark.parametrize("name", DONE)
def test_an_unsafe_project_costs_itself_alone(studio: Any, jpeg: Any, name: str) -> None:
    outside, tenant = _fill(studio.root.parent / "outside"), studio.root / "tenant"
    deep = _fill(tenant / "inner" / "deep")
    for link in ("link", "link of archived"):
        (tenant / link).symlink_to(outside)
    (tenant / "file").write_bytes(b"no folder")
    sound, left = studio.project("sound"), studio.project("left", archived=True)
    studio.photo(sound, "owl", "jpg", contents={"jpg": jpeg()})
    (_fill(studio.folder(sound).path) / "new.jpg").write_bytes(jpeg(shade=50))
    (tenant / "project 0").mkdir()
    (tenant / "project 0" / "elk.jpg").write_bytes(jpeg(shade=90))
    folders = ["../../outside", str(outside), "", "..", ".", "link", "file", "inner/deep", "in\\ner", ".x", "a\nb"]
    folders += [] if studio.database.is_postgresql else ["nul\0"]
    unsafe = {False: _add_unsafe(studio, folders, is_archived=False)}
    folders = ["link of archived" if folder == "link" else f"{folder}/" for folder in folders]
    unsafe[True] = _add_unsafe(studio, folders, is_archived=True)
    before = _contents(outside) | _contents(deep)

    task = studio.run_task(load_definitions()[name])

    assert _contents(outside) | _contents(deep) == before
    for job in TasksRepository(studio.database).list_jobs(task.id):
        if job.type not in ("generate_derivatives", "upload_postprocess"):
            named = unsafe[job.type == "project_scavenge"]
            assert job.status == "failed", "no repetition helps"
            assert named <= set(job.result["errors"]), job.type
            assert f"{job.result['counts']['failed']} of" in job.error_message
    assert DONE[name](studio)
    assert left.id


@pytest.mark.parametrize("type", ["project_scavenge", "file_removal"])
def test_a_project_whose_interrupted_moves_cannot_be_taken_back_costs_itself_alone(studio: Any, type: str) -> None:
    first, second = (studio.project(name, archived=type == "project_scavenge") for name in ("first", "second"))
    for project in (first, second):
        studio.photo(project, "fox", "jpg", keep_jpg=0)
    intent = MoveIntent(
        group_id="group",
        tenant_id="tenant",
        job_id=None,
        project_id=first.id,
        target_project_id=first.id,
        photo_id=None,
        source="tenant/first/owl.jpg",
        target="tenant/first/../owl.jpg",
        size_bytes=3,
        created_at=studio.database.clock(),
    )
    with studio.database.begin() as connection:
        write_intents(connection, [intent])

    job = studio.run(type, scope="global")

    assert (job.status, set(job.result["errors"])) == ("failed", {"first"})
    assert (studio.folder(first).path / "fox.jpg").exists()
    assert not (studio.folder(second).path / "fox.jpg").exists()


def test_a_file_elsewhere_that_a_hard_link_shares_stays_as_it_is(studio: Any, jpeg: Any) -> None:
    project = studio.project("sound")
    names = ("fox.jpg", ".thumb/fox.webp", ".preview/fox.webp", ".project.yaml")
    photo_id = studio.photo(project, "fox", "jpg", contents={"jpg": jpeg()}, derivatives=True)
    folder, outside = studio.folder(project).path, studio.root.parent / "outside"
    studio.write_manifest(project)
    outside.mkdir()
    for number, name in enumerate(names):
        (outside / str(number)).hardlink_to(folder / name)
    ProjectsRepository(studio.database).rename(project.id, project_name="Another name")
    before = _contents(outside)

    studio.run("generate_derivatives", scope="photo_set", items=[{"photo_id": photo_id}], payload={"force": True})
    studio.run("manifest_check", scope="global")
    PhotosRepository(studio.database).update_many([{"id": photo_id, "keep_jpg": 0}])
    studio.run("file_removal", scope="global")
    [trashed] = (folder / ".trash").glob("*fox.jpg")
    trashed.rename(folder / _OLD_TRASH)
    studio.run("trash_maintenance", scope="global")

    assert not [path for path in folder.rglob("*") if path.name.endswith(".jpg")]
    assert [path.stat().st_nlink for path in outside.iterdir()] == [1] * len(names), "each was replaced or removed"
    assert _contents(outside) == before
