"""An undo after a user, another program or the disk has changed what the task left: it overwrites and loses nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from flows.handlers import announced_moves
from flows.planning.plan import make_plan
from flows.starting.new_task import new_task
from flows.testing import run_queued_job
from flows.undoing import added_files, photo_returns, photo_undo
from storage import Job, JobsRepository, ProjectsRepository, TasksRepository
from storage.database.tables import photos, projects
from storage.history import undo_entries
from storage.library.companion_owners import CompanionOwners
from storage.library.paths import THUMB_FOLDER
from storage.photos.originals import OriginalsRepository
from task_definitions import load_definitions
from tests.flows.steps.test_faults_at_every_change import run_task


def _undo(studio: Any, task_id: str = "task", *, tenant_id: str = "tenant") -> Job:
    job: Job = studio.run("undo", scope="global", payload={"undo": task_id}, tenant_id=tenant_id)
    return job


def _left(job: Job) -> str:
    assert job.status == "completed", job.error_message
    return str((job.result or {})["examples"]["cannot be restored"])


def _removed_fox(studio: Any, *files: str) -> tuple[Any, int]:
    """A photo whose files a task has moved to the trash."""
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", *files, keep_jpg=0, keep_raw=0)
    run_task(studio, "file_removal", scope="photo_set", items=[{"photo_id": photo_id}])
    return iceland, photo_id


def _moved_fox(studio: Any, *files: str, name: str = "fox") -> tuple[Any, Any, int]:
    """A photo that a task has moved from Iceland to Norway."""
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, name, *files)
    studio.photo(iceland, "hare", "jpg")
    run_task(studio, "image_move_files", scope="photo_set", project_id=norway.id, items=[{"photo_id": photo_id}])
    assert studio.get_photo(photo_id).project_id == norway.id
    return iceland, norway, photo_id


def _name_is_taken_on_disk(studio: Any) -> None:
    iceland, _ = _removed_fox(studio, "jpg")
    (studio.folder(iceland).path / "fox.jpg").write_bytes(b"another")


def _trash_was_emptied(studio: Any) -> None:
    iceland, _ = _removed_fox(studio, "jpg")
    for path in studio.folder(iceland).trash.iterdir():
        path.unlink()


def _photo_was_moved_on(studio: Any) -> None:
    _, norway, photo_id = _moved_fox(studio, "jpg")
    chile = studio.project("Chile")
    (studio.folder(norway).path / "fox.jpg").rename(studio.folder(chile).path / "fox.jpg")
    with studio.database.begin() as connection:
        connection.execute(photos.update().where(photos.c.id == photo_id).values(project_id=chile.id))


def _photo_was_moved_after_its_raw_file_was_trashed(studio: Any) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo = {"scope": "photo_set", "items": [{"photo_id": studio.photo(iceland, "fox", "jpg", "NEF", keep_raw=0)}]}
    studio.photo(iceland, "hare", "jpg")
    run_task(studio, "file_removal", **photo)
    run_task(studio, "image_move_files", project_id=norway.id, task_id="later", **photo)


def _one_of_two_files_is_missing(studio: Any) -> None:
    _, norway, _ = _moved_fox(studio, "jpg", "NEF")
    (studio.folder(norway).path / "fox.NEF").unlink()


def _another_file_is_at_its_place(studio: Any) -> None:
    iceland, norway, _ = _moved_fox(studio, "jpg")
    (studio.folder(norway).path / "fox.jpg").unlink()
    (studio.folder(iceland).path / "fox.jpg").write_bytes(b"another photo")


def _a_companion_of_another_photo_would_be_its_own(studio: Any) -> None:
    iceland, _, _ = _moved_fox(studio, "jpg", name="hare_01")
    (studio.folder(iceland).path / "hare_01.jpg.xmp").write_bytes(b"a version of hare")


def _its_companion_would_be_that_of_another_photo(studio: Any) -> None:
    iceland, _, _ = _moved_fox(studio, "jpg", "MP")
    studio.photo(iceland, "fox.MP", "jpg")


def _another_photo_has_its_name(studio: Any) -> None:
    iceland, *_ = _moved_fox(studio, "jpg")
    studio.photo(iceland, "fox", "NEF")


def _project_has_another_tenant(studio: Any) -> None:
    iceland, *_ = _moved_fox(studio, "jpg")
    studio.give_away(iceland, "other")


def _disk_is_away(studio: Any) -> None:
    iceland, *_ = _moved_fox(studio, "jpg")
    path = studio.folder(iceland).path
    path.rename(studio.root.parent / "away")
    path.mkdir()


def _manifest_was_edited(studio: Any) -> None:
    iceland = studio.project("Iceland")
    studio.photo(iceland, "fox", "jpg")
    run_task(studio, "manifest_check", scope="global")
    with studio.folder(iceland).manifest_path.open("a") as file:
        file.write("# by hand\n")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (_name_is_taken_on_disk, "fox.jpg: another file has this name now"),
        (_a_companion_of_another_photo_would_be_its_own, "hare_01.jpg.xmp belongs to photo hare"),
        (
            _its_companion_would_be_that_of_another_photo,
            "fox.MP belongs to photo fox, but would belong to photo fox.MP",
        ),
        (_trash_was_emptied, "fox.jpg: the file is no longer at tenant/Iceland/.trash/"),
        (_photo_was_moved_on, "the photo has been moved or renamed since"),
        (_photo_was_moved_after_its_raw_file_was_trashed, "fox.NEF stays in the trash, at tenant/Iceland/.trash/"),
        (
            _one_of_two_files_is_missing,
            "fox.NEF: the file is no longer at tenant/Norway/fox.NEF, and the files of a photo move only together",
        ),
        (_another_file_is_at_its_place, "where the task put it, and another file has its former name"),
        (_another_photo_has_its_name, "another photo of Iceland has the same name now"),
        (_project_has_another_tenant, "its project no longer exists"),
        (_disk_is_away, "its disk may not be mounted"),
        (_manifest_was_edited, "the manifest has been changed since"),
    ],
)
def test_what_cannot_come_back_stays_as_it_is_with_the_reason(
    studio: Any, changed: Callable[[Any], None], reason: str
) -> None:
    changed(studio)
    before = studio.everything()

    job = _undo(studio)

    assert reason in _left(job)
    assert studio.everything() == before


def test_a_folder_that_was_renamed_again_keeps_its_name_and_its_manifest(studio: Any) -> None:
    project = _aligned(studio)
    (studio.root / "tenant" / "Alps").rename(studio.root / "tenant" / "Andes")
    with studio.database.begin() as connection:
        connection.execute(projects.update().where(projects.c.id == project.id).values(project_folder="Andes"))
    before = studio.disk()

    job = _undo(studio)

    assert "the project's folder has been renamed since" in _left(job)
    assert _project(studio, project).project_folder == "Andes"
    assert "name: Alps" in before["tenant/Andes/.project.yaml"].decode()
    assert studio.disk() == before


def test_a_photo_comes_back_when_the_disk_of_its_project_is_there_again(studio: Any) -> None:
    iceland, _, photo_id = _moved_fox(studio, "jpg", "NEF")
    path, away = studio.folder(iceland).path, studio.root.parent / "away"
    path.rename(away)
    path.mkdir()
    assert "its disk may not be mounted" in _left(_undo(studio))
    path.rmdir()
    away.rename(path)

    job = _undo(studio)

    assert (job.result or {})["counts"] == {"moved back": 2, "rows changed back": 1}
    assert studio.get_photo(photo_id).project_id == iceland.id
    assert {"tenant/Iceland/fox.jpg", "tenant/Iceland/fox.NEF"} <= studio.disk().keys()


def test_a_photo_whose_file_was_moved_back_by_hand_gets_its_row_back(studio: Any) -> None:
    iceland, norway, photo_id = _moved_fox(studio, "jpg")
    (studio.folder(norway).path / "fox.jpg").rename(studio.folder(iceland).path / "fox.jpg")
    before = studio.disk()

    job = _undo(studio)

    assert (job.result or {})["counts"] == {"rows changed back": 1}
    assert studio.get_photo(photo_id).project_id == iceland.id
    assert studio.disk() == before


def test_files_that_a_photo_got_since_go_back_with_it_and_forth(studio: Any) -> None:
    iceland, norway, photo_id = _moved_fox(studio, "jpg", "xmp")
    studio.photo(norway, "foxglove", "jpg", "xmp")
    late = {"fox.jpg.xmp": b"darktable", "fox.NEF": b"the RAW file", "NKSC_PARAM/fox.NEF.nksc": b"Nikon"}
    moved, kept = studio.folder(norway).path, studio.disk()
    for name, content in late.items():
        (moved / name).parent.mkdir(exist_ok=True)
        (moved / name).write_bytes(content)

    def beside_fox(project: str) -> dict[str, bytes]:
        added = {f"tenant/{project}/{name}": content for name, content in late.items()}
        former = {name: kept[f"tenant/Norway/{name}"] for name in ("fox.jpg", "fox.xmp")}
        rest = {name: content for name, content in kept.items() if "/Norway/fox." not in name}
        return rest | added | {f"tenant/{project}/{name}": content for name, content in former.items()}

    run_task(studio, "undo", scope="global", payload={"undo": "task"}, task_id="undo")
    assert studio.disk() == beside_fox("Iceland")
    assert studio.get_photo(photo_id).project_id == iceland.id

    run_task(studio, "undo", scope="global", payload={"undo": "undo"}, task_id="undo of undo")
    assert studio.disk() == beside_fox("Norway")
    assert studio.get_photo(photo_id).project_id == norway.id


@pytest.mark.parametrize(
    ("change", "place"), [(_removed_fox, "Renamed"), (_moved_fox, "Renamed"), (_removed_fox, "Iceland")]
)
def test_files_return_to_the_folder_that_their_project_has_now(
    studio: Any, change: Callable[..., Any], place: str
) -> None:
    iceland, *_, photo_id = change(studio, "jpg")
    folder = studio.folder(iceland).path
    if place == "Renamed":
        folder.rename(folder.with_name("Renamed"))
        folder.mkdir()
        (folder / "owl.jpg").write_bytes(b"another program put it here")
    ProjectsRepository(studio.database).rename(iceland.id, project_folder="Renamed")

    job = _undo(studio)

    assert "cannot be restored" not in job.result["counts"]
    assert studio.get_photo(photo_id).project_id == iceland.id
    assert f"tenant/{place}/fox.jpg" in studio.disk()


@pytest.mark.parametrize(
    ("has_manifest", "reason"),
    [(True, "the project's folder was renamed to Renamed"), (False, "it holds neither the manifest nor any photo")],
)
def test_no_file_returns_to_another_folder_that_has_the_name_of_a_renamed_one(
    studio: Any, has_manifest: bool, reason: str
) -> None:
    iceland, norway, photo_id = _moved_fox(studio, "jpg")
    folder = studio.folder(iceland).path
    if has_manifest:
        studio.write_manifest(iceland)
        studio.run("verify_originals", scope="global")
    # No step has seen the change yet.
    folder.rename(folder.with_name("Renamed"))
    folder.mkdir()
    (folder / "owl.jpg").write_bytes(b"another")

    assert reason in _left(_undo(studio))

    assert studio.get_photo(photo_id).project_id == norway.id
    assert "tenant/Norway/fox.jpg" in studio.disk()


def test_two_rows_of_the_same_files_both_get_their_name_and_their_derivatives_back(
    studio: Any, jpeg: Callable[..., bytes]
) -> None:
    first, second = studio.project("first"), studio.project("second")
    studio.photo(first, "fox", "jpg")
    # Another program may insert a second row of one name.
    ids = [studio.photo(second, "fox", "jpg", contents={"jpg": jpeg()}, derivatives=True) for _ in range(2)]
    before = studio.disk()
    run_task(studio, "duplicate_resolution", scope="global")
    assert {studio.get_photo(photo_id).filename for photo_id in ids} == {"fox_duplicate1"}

    assert _undo(studio).status == "completed"

    assert studio.disk() == before
    photos = [studio.get_photo(photo_id) for photo_id in ids]
    assert {(photo.filename, photo.thumbnail_status) for photo in photos} == {("fox", "generated")}


def test_folders_of_photos_of_several_batches_are_read_once(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    ids = [studio.photo(iceland, name, "jpg") for name in ("crow", "fox", "hare")]
    items = [{"photo_id": photo_id} for photo_id in ids]
    run_task(studio, "image_move_files", scope="photo_set", project_id=norway.id, items=items)
    for name in ("crow", "fox", "hare"):
        (studio.folder(norway).path / f"{name}.xmp").write_bytes(name.encode())
    monkeypatch.setattr(photo_undo, "BATCH_SIZE", 1)
    find, listed = added_files.find_files, []
    monkeypatch.setattr(added_files, "find_files", lambda *args: listed.append(args[1]) or find(*args))
    read, arrived_at = CompanionOwners.read, []
    monkeypatch.setattr(
        CompanionOwners, "read", lambda folder, **options: arrived_at.append(folder) or read(folder, **options)
    )

    assert _undo(studio).status == "completed"

    assert (listed, arrived_at) == ([studio.folder(norway)], [studio.folder(iceland)])
    wanted = {f"{name}.{extension}" for name in ("crow", "fox", "hare") for extension in ("jpg", "xmp")}
    assert wanted <= {path.name for path in studio.folder(iceland).path.iterdir()}


def test_the_files_of_a_merged_photo_return_together_or_not_at_all(
    studio: Any, jpeg: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    iceland = studio.project("Iceland")
    studio.photo(iceland, "fox", "jpg")
    studio.write_manifest(iceland)
    folder = studio.folder(iceland).path
    copy = folder.with_name("Copy")
    shutil.copytree(folder, copy)
    for shade, name in enumerate(("crow", "deer", "hare", "lynx")):
        (copy / f"{name}.jpg").write_bytes(jpeg(shade=60 * shade))
        (copy / f"{name}.jpg.xmp").write_bytes(b"five stars")
    (copy / "lynx.pp3").write_bytes(b"edited")
    run_task(studio, "folder_discovery", scope="global")
    assert {path.name for path in copy.iterdir() if path.is_file()} == {"fox.jpg", ".project.yaml"}
    rows = dict(_select(studio, "SELECT filename, id FROM photos"))
    (folder / "lynx.xmp").write_bytes(b"written after the merge")
    (folder / "lynx.pp3").unlink()
    # Another file has the name of one sidecar, and the row of another photo was edited, so it is kept.
    (copy / "crow.jpg.xmp").write_bytes(b"another")
    _execute(studio, "UPDATE photos SET visibility = 'public' WHERE filename = 'deer'")
    monkeypatch.setattr(undo_entries, "PAGE_SIZE", 3)
    monkeypatch.setattr(photo_undo, "BATCH_SIZE", 1)

    run_task(studio, "undo", scope="global", payload={"undo": "task"}, task_id="undo")

    [undone] = TasksRepository(studio.database).list_jobs("undo")
    assert (undone.result or {})["counts"]["files moved back"] == 4

    def places(name: str) -> list[str]:
        return [path.parent.name for path in sorted(studio.root.rglob(f"{name}.jpg*"))]

    assert [places(name) for name in ("crow", "deer", "hare", "lynx")] == [
        ["Copy", "Iceland", "Iceland"],
        ["Iceland"] * 2,
        ["Copy"] * 2,
        ["Copy"] * 2,
    ]
    assert (copy / "crow.jpg.xmp").read_bytes() == b"another"
    # A row stays with its files.
    kept = {name: rows[name] for name in ("crow", "deer", "fox")}
    assert dict(_select(studio, "SELECT filename, id FROM photos")) == kept
    assert [path.parent.name for path in studio.root.rglob("lynx.xmp")] == ["Copy"]

    (folder / "hare.jpg.xmp").write_bytes(b"another")
    run_task(studio, "undo", scope="global", payload={"undo": "undo"}, task_id="undo of undo")

    assert (places("hare"), places("lynx")) == (["Copy", "Copy", "Iceland"], ["Iceland"] * 2)
    assert dict(_select(studio, "SELECT filename, id FROM photos")) == kept | {"lynx": rows["lynx"]}
    assert [path.parent.name for path in studio.root.rglob("lynx.xmp")] == ["Iceland"]


def test_a_row_that_followed_a_merged_photo_stays_with_its_file(studio: Any, jpeg: Callable[..., bytes]) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    studio.photo(iceland, "fox", "jpg")
    ids = {}
    for shade, name in enumerate(("crow", "hare")):
        ids[name] = studio.photo(norway, name, "jpg", contents={"jpg": jpeg(shade=60 * shade)})
    studio.photo(norway, "lynx", "jpg")
    items = [{"photo_id": photo_id} for photo_id in ids.values()]
    assert studio.run("upload_postprocess", scope="photo_set", items=items).status == "completed"
    studio.write_manifest(iceland)
    folder = studio.folder(iceland).path
    copy = folder.with_name("Copy")
    shutil.copytree(folder, copy)
    for name in ids:
        studio.folder(norway).original(f"{name}.jpg").rename(copy / f"{name}.jpg")
    run_task(studio, "folder_discovery", scope="global")

    def projects_of() -> list[int]:
        return [studio.get_photo(photo_id).project_id for photo_id in ids.values()]

    assert projects_of() == [iceland.id] * 2
    (copy / "crow.jpg").write_bytes(b"another")

    run_task(studio, "undo", scope="global", payload={"undo": "task"}, task_id="undo")

    assert projects_of() == [iceland.id, norway.id]
    assert ((folder / "crow.jpg").exists(), (copy / "hare.jpg").exists()) == (True, True)

    (folder / "hare.jpg").write_bytes(b"another")
    run_task(studio, "undo", scope="global", payload={"undo": "undo"}, task_id="undo of undo")

    assert projects_of() == [iceland.id, norway.id]


def test_a_photo_whose_new_sidecar_has_no_free_name_at_its_former_place_stays(studio: Any) -> None:
    iceland, norway, _ = _moved_fox(studio, "jpg")
    for project in (iceland, norway):
        (studio.folder(project).path / "fox.jpg.xmp").write_bytes(project.project_name.encode())
    before = studio.everything()

    assert "fox.jpg.xmp: another file has this name now" in _left(_undo(studio))
    assert studio.everything() == before


def test_a_photo_comes_back_without_a_sidecar_that_a_user_deleted(studio: Any) -> None:
    iceland, norway, photo_id = _moved_fox(studio, "jpg", "NEF", "xmp", "jpg.xmp", name="Day 1: fox")
    (studio.folder(norway).path / "Day 1: fox.xmp").unlink()

    job = _undo(studio)

    reason = "the file is no longer at tenant/Norway/Day 1: fox.xmp, where the task put it"
    assert (_left(job), job.result["left"]) == (f"['Day 1: fox.xmp: {reason}']", {"Day 1: fox.xmp": reason})
    assert (job.result or {})["counts"] == {"moved back": 3, "rows changed back": 1, "cannot be restored": 1}
    assert studio.get_photo(photo_id).project_id == iceland.id
    left = {"tenant/Iceland/hare.jpg"} | {f"tenant/Iceland/Day 1: fox.{end}" for end in ("jpg", "NEF", "jpg.xmp")}
    assert set(studio.disk()) == left


def test_a_file_comes_back_into_the_folder_that_its_project_has_now(studio: Any) -> None:
    iceland, photo_id = _removed_fox(studio, "jpg")
    studio.folder(iceland).path.rename(studio.root / "tenant" / "Andes")
    with studio.database.begin() as connection:
        connection.execute(projects.update().where(projects.c.id == iceland.id).values(project_folder="Andes"))

    job = _undo(studio)

    assert job.status == "completed", job.error_message
    assert "tenant/Andes/fox.jpg" in studio.disk()
    assert studio.get_photo(photo_id).jpg_available == 1
    assert not (studio.root / "tenant" / "Iceland").exists()


def test_a_file_that_a_task_removed_from_the_trash_does_not_come_back(studio: Any, clock: Any) -> None:
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", keep_jpg=0, keep_raw=0)
    studio.run("file_removal", scope="photo_set", items=[{"photo_id": photo_id}])
    clock.advance(seconds=1000 * 86_400)
    run_task(studio, "trash_maintenance", scope="global")
    before = studio.everything()

    assert "the file was permanently removed from the trash" in _left(_undo(studio))
    assert studio.everything() == before


def test_the_files_that_are_still_in_the_trash_come_back(studio: Any) -> None:
    iceland, photo_id = _removed_fox(studio, "jpg", "NEF")
    [lost] = studio.folder(iceland).trash.glob("*.NEF")
    lost.unlink()

    job = _undo(studio)

    assert "fox.NEF: the file is no longer at tenant/Iceland/.trash/" in _left(job)
    assert (job.result or {})["counts"]["restored from the trash"] == 1
    photo = studio.get_photo(photo_id)
    assert (photo.jpg_available, photo.raw_available) == (1, 0)
    assert "tenant/Iceland/fox.jpg" in studio.disk()


@pytest.mark.parametrize("failing", ["jpg", "NEF"])
def test_if_one_file_of_a_photo_cannot_move_the_others_return(
    studio: Any, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    iceland, _, photo_id = _moved_fox(studio, "jpg", "NEF")
    before = studio.everything()
    move = announced_moves.move_without_overwrite

    def fail(source: Path, target: Path, **options: Any) -> None:
        if source.name == f"fox.{failing}":
            raise OSError(5, os.strerror(5), os.fspath(source))
        move(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(announced_moves, "move_without_overwrite", fail)
        job = _undo(studio)
    assert "1 change could not be undone" in str(job.error_message)
    assert studio.everything() == before

    assert _undo(studio).status == "completed"
    assert studio.get_photo(photo_id).project_id == iceland.id
    assert {"tenant/Iceland/fox.jpg", "tenant/Iceland/fox.NEF"} <= studio.disk().keys()


def test_a_task_that_cannot_be_undone_is_named(studio: Any, make_task: Any) -> None:
    make_task({"unit": "library"}, scope="global", task_id="waiting")
    refusals = [
        (studio.run("undo", scope="global", payload={}), "no task to undo is given"),
        (studio.run("undo", scope="global", payload={"undo": ""}), "no task to undo is given"),
        (_undo(studio, "nothing"), "task nothing does not exist for tenant tenant"),
        (_undo(studio, "waiting", tenant_id="other"), "task waiting does not exist for tenant other"),
        (_undo(studio, "waiting"), "task waiting is queued"),
    ]
    for job, reason in refusals:
        assert job.status == "failed"
        assert reason in str(job.error_message)


def _aligned(studio: Any) -> Any:
    """A project whose folder a task has renamed from Iceland to Alps."""
    project = studio.project("Iceland")
    studio.photo(project, "fox", "jpg")
    studio.write_manifest(project)
    ProjectsRepository(studio.database).rename(project.id, project_name="Alps")
    run_task(studio, "folder_alignment", scope="global")
    assert "tenant/Alps/fox.jpg" in studio.disk()
    return project


def _folder_is_missing(tenant: Path) -> None:
    (tenant / "Alps").rename(tenant.parent.parent / "away")


def _folder_is_empty(tenant: Path) -> None:
    _folder_is_missing(tenant)
    (tenant / "Alps").mkdir()


def _another_folder_has_the_name(tenant: Path) -> None:
    _folder_is_empty(tenant)
    (tenant / "Alps" / "owl.jpg").write_bytes(b"another")


def _former_name_is_taken(tenant: Path) -> None:
    (tenant / "Iceland").mkdir()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_folder_is_missing, "folder Alps no longer exists"),
        (_folder_is_empty, "folder Alps is empty; its disk may not be mounted"),
        (_another_folder_has_the_name, "it holds neither the manifest nor any photo of the project"),
        (_former_name_is_taken, "“Iceland” already exists there"),
    ],
)
def test_a_folder_that_cannot_be_renamed_back_keeps_its_name(
    studio: Any, change: Callable[[Path], None], reason: str
) -> None:
    project = _aligned(studio)
    change(studio.root / "tenant")

    job = _undo(studio)

    assert reason in _left(job)
    assert _project(studio, project).project_folder == "Alps"
    assert {path.name for path in (studio.root / "tenant").iterdir()} <= {"Alps", "Iceland"}


def test_the_folder_of_another_project_does_not_get_the_former_name(studio: Any) -> None:
    norway = studio.project("Norway")
    studio.photo(norway, "owl", "jpg")
    studio.write_manifest(norway)
    project = _aligned(studio)
    studio.run("verify_originals", scope="global")
    tenant = studio.root / "tenant"
    (tenant / "Alps").rename(tenant / "Sea")
    (tenant / "Norway").rename(tenant / "Alps")

    job = _undo(studio)

    assert re.search(
        r"tenant/Iceland: Alps: folder \S+ has the manifest and the photos of project \d+ \(Norway\)", _left(job)
    )
    assert "tenant/Alps/owl.jpg" in studio.disk()
    assert _project(studio, project).project_folder == "Alps"


def test_a_folder_of_another_project_is_not_taken_for_the_one_that_was_renamed_back(studio: Any) -> None:
    norway = studio.project("Norway")
    studio.write_manifest(norway)
    project = _aligned(studio)
    tenant = studio.root / "tenant"
    _folder_is_missing(tenant)
    shutil.copytree(tenant / "Norway", tenant / "Iceland")

    job = _undo(studio)

    assert "folder Alps no longer exists" in _left(job)
    assert _project(studio, project).project_folder == "Alps"


@pytest.mark.parametrize("kind", ["projects", "folders"])
def test_an_undo_changes_nothing_of_what_it_is_to_leave_out(studio: Any, kind: str) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    removed = [
        studio.photo(iceland, "fox", "jpg", keep_jpg=0, keep_raw=0),
        studio.photo(norway, "hare", "jpg", keep_jpg=0, keep_raw=0),
    ]
    run_task(studio, "file_removal", scope="photo_set", items=[{"photo_id": photo_id} for photo_id in removed])
    left_out = {"projects": [norway.id], "folders": ["Norway"]}[kind]

    job = studio.run("undo", scope="global", payload={"undo": "task", "leave_out": {kind: left_out}})

    assert job.status == "completed", job.error_message
    assert studio.folder(iceland).original("fox.jpg").exists()
    assert not studio.folder(norway).original("hare.jpg").exists()
    assert [studio.get_photo(photo_id) is None for photo_id in removed] == [False, True]


def test_a_project_that_a_task_created_is_kept_once_it_is_used(studio: Any, jpeg: Callable[..., bytes]) -> None:
    folder = studio.root / "tenant" / "Found"
    folder.mkdir()
    (folder / "fox.jpg").write_bytes(jpeg())
    run_task(studio, "folder_discovery", scope="global")
    [found] = ProjectsRepository(studio.database).list()
    own = studio.photo(found, "elk", "jpg")

    job = _undo(studio)

    assert "the task created this project, but the project now has" in _left(job)
    assert _project(studio, found) is not None
    assert studio.get_photo(own).filename == "elk"
    assert {"tenant/Found/fox.jpg", "tenant/Found/elk.jpg", "tenant/Found/.project.yaml"} <= studio.disk().keys()
    kept = {"tenant/Found/.project.yaml": "the project is kept, so its manifest is kept too"}
    assert kept.items() <= (job.result or {})["left"].items()

    with studio.database.begin() as connection:
        connection.execute(photos.delete().where(photos.c.id == own))

    assert "left" not in (_undo(studio).result or {})
    assert _project(studio, found) is None
    assert "tenant/Found/.trash/.project.yaml" in studio.disk()


def _add_columns(studio: Any, table: str, columns: dict[str, str]) -> None:
    """Add columns to a table as another program does."""
    for name, kind in columns.items():
        _execute(studio, f"ALTER TABLE {table} ADD COLUMN {name} {kind}")


def _add_columns_of_all_types(studio: Any, table: str) -> None:
    columns = {
        "stars": "integer DEFAULT 0",
        '"Note 100%"': "text",
        "weight": "numeric(6, 3)",
        "seen_at": "timestamp",
        # SQLite adds no computed column that is stored, and PostgreSQL before 18 has no other kind.
        "doubled": f"integer GENERATED ALWAYS AS (2 * id) {'STORED' if studio.database.is_postgresql else 'VIRTUAL'}",
    }
    _add_columns(studio, table, columns)


def _execute(studio: Any, statement: str) -> None:
    with studio.database.begin() as connection:
        connection.execute(text(statement))


def _select(studio: Any, statement: str) -> list[Any]:
    with studio.database.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def _set_columns(studio: Any, table: str) -> list[Any]:
    """Give each row of a table values in the columns of `_add_columns_of_all_types`, and return these values."""
    values = "stars = 5, \"Note 100%\" = 'at dawn', weight = 1.25, seen_at = '2025-10-01 12\\:30\\:00'"
    _execute(studio, f"UPDATE {table} SET {values}")
    return _columns(studio, table)


def _columns(studio: Any, table: str) -> list[Any]:
    return _select(studio, f'SELECT stars, "Note 100%", weight, seen_at, doubled FROM {table} ORDER BY id')


def test_a_row_comes_back_with_the_values_of_columns_that_another_program_added(studio: Any) -> None:
    _add_columns_of_all_types(studio, "photos")
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", keep_jpg=0, keep_raw=0)
    before = _set_columns(studio, "photos")
    run_task(studio, "file_removal", scope="photo_set", items=[{"photo_id": photo_id}])
    assert studio.get_photo(photo_id) is None

    _undo(studio)

    assert _columns(studio, "photos") == before


def test_a_project_comes_back_with_the_values_of_columns_that_another_program_added(studio: Any) -> None:
    _add_columns_of_all_types(studio, "projects")
    project = studio.project("Iceland")
    before = _set_columns(studio, "projects")
    _remove_project(studio, project)

    _undo(studio)

    assert _columns(studio, "projects") == before


def _discover(studio: Any, *files: str) -> None:
    """Make the folders of new files projects, by a task that ends before it reads the files."""
    for file in files:
        path = studio.root / "tenant" / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file.encode())
    tasks = TasksRepository(studio.database)
    tasks.start(new_task(load_definitions()["folder_discovery"], task_id="task", tenant_id="tenant"))
    [job] = JobsRepository(studio.database).list_by_tenant("tenant", status="queued")
    assert run_queued_job(studio.runtime, job.id).status == "completed"
    tasks.cancel("task")


def _add_links(studio: Any) -> None:
    """Add a table of another program, with a row for a photo and one for a project."""
    columns = ("photo_id bigint REFERENCES photos (id)", "project_id bigint REFERENCES projects ON DELETE CASCADE")
    _execute(studio, f"CREATE TABLE public_links ({', '.join(columns)})")
    _execute(studio, "INSERT INTO public_links (photo_id) SELECT id FROM photos WHERE filename = 'seal'")
    _execute(studio, "INSERT INTO public_links (project_id) SELECT id FROM projects WHERE project_folder = 'Scans'")


def test_a_row_that_a_task_added_is_kept_if_a_user_or_another_program_has_changed_it_since(studio: Any) -> None:
    is_postgresql = studio.database.is_postgresql
    kinds = {
        "stars": "integer NOT NULL DEFAULT 0",
        "weight": "numeric(6, 3) DEFAULT 0",
        "label": "varchar(20) DEFAULT 'none; it''s'",
        "is_best": "boolean DEFAULT FALSE",
        # The database computes this value for each row.
        "number": "integer GENERATED BY DEFAULT AS IDENTITY" if is_postgresql else "integer",
    }
    later = {"cover": "bytea" if is_postgresql else "blob", "comment": "text DEFAULT ''"}
    changes = {
        "bear": "stars = 5",
        "crow": "weight = 0.5",
        "deer": "label = NULL",
        "duck": "is_best = TRUE",
        "hare": "cover = '\\x01'",
        "lynx": "comment = 'at dawn'",
        "puma": "date_time_original = '2024-05-06T07\\:08\\:09'",
    }
    columns = [change.partition(" ")[0] for change in changes.values()]
    _add_columns(studio, "photos", kinds)
    _add_columns(studio, "projects", {"stars": "integer DEFAULT 0"})
    _discover(studio, *(f"Found/{name}.jpg" for name in (*changes, "seal", "fox", "wolf")), "Prints/note", "Scans/note")
    _add_columns(studio, "photos", later)
    for name, change in changes.items():
        _execute(studio, f"UPDATE photos SET {change} WHERE filename = '{name}'")
    _execute(studio, "UPDATE projects SET stars = 5, project_name = 'Foxes' WHERE project_folder = 'Prints'")
    _add_links(studio)
    kept = f"SELECT {', '.join(columns)} FROM photos WHERE filename NOT IN ('fox', 'seal', 'wolf') ORDER BY id"
    before = _select(studio, kept)
    new = new_task(load_definitions()["undo"], tenant_id="tenant", payload={"undo": "task"})
    [planned] = make_plan(studio.runtime, new).steps

    left = (_undo(studio).result or {})["left"]

    edited = {f"tenant/Found/{name}": column for name, column in zip(changes, columns, strict=True)}
    edited["tenant/Prints"] = "project_name, stars"
    in_use = "the task created this project, but the project now has 8 photos, so it is kept"
    linked = "rows of other programs refer to the row that the task added (public_links), so it is kept"
    assert left == {
        **{name: _EDITED.format(column) for name, column in edited.items()},
        "tenant/Found": in_use,
        "tenant/Found/seal": linked,
        "tenant/Scans": linked,
        **{
            f"tenant/{folder}/.project.yaml": "the project is kept, so its manifest is kept too"
            for folder in ("Found", "Prints", "Scans")
        },
    }
    assert planned.left == left
    assert _select(studio, kept) == before
    assert _select(studio, "SELECT count(*) FROM photos") == [(len(changes) + 1,)]
    assert _select(studio, "SELECT count(*) FROM public_links") == [(2,)]
    assert _select(studio, "SELECT project_name, stars FROM projects WHERE project_folder = 'Prints'") == [("Foxes", 5)]


def test_a_row_that_an_undo_restored_is_kept_if_another_program_has_set_its_column_since(studio: Any) -> None:
    _add_columns(studio, "photos", {"stars": "integer", "label": "text"})
    iceland = studio.project("Iceland")
    ids = [studio.photo(iceland, name, "jpg", keep_jpg=0, keep_raw=0) for name in ("crow", "fox")]
    _execute(studio, "UPDATE photos SET stars = 3, label = 'seen'")
    run_task(studio, "file_removal", scope="photo_set", items=[{"photo_id": photo_id} for photo_id in ids])
    run_task(studio, "undo", scope="global", task_id="undo", payload={"undo": "task"})
    _execute(studio, "UPDATE photos SET stars = NULL WHERE filename = 'crow'")

    job = _undo(studio, "undo")

    assert (job.result or {})["left"] == {"tenant/Iceland/.trash/crow.jpg": _EDITED.format("stars")}
    assert _select(studio, "SELECT filename, stars, label FROM photos") == [("crow", None, "seen")]


#: The reason why a row that a task added is kept.
_EDITED = "the row that the task added has been edited since ({}), so the row is kept"


def _removed_project(studio: Any, *photo_names: str) -> Any:
    """An archived project without a folder, whose row a task has removed."""
    project = studio.project("Alps")
    studio.write_manifest(project)
    for name in photo_names:
        studio.photo(project, name, "jpg")
    _remove_project(studio, project)
    return project


def _remove_project(studio: Any, project: Any) -> None:
    shutil.rmtree(studio.folder(project).path)
    ProjectsRepository(studio.database).archive(project.id)
    run_task(studio, "project_cleanup_db", scope="project", project_id=project.id)
    assert _project(studio, project) is None


def test_a_project_that_was_removed_with_its_photos_stays_removed(studio: Any) -> None:
    project = _removed_project(studio, "fox", "elk")
    before = studio.everything()
    assert "its row and its 2 photos were permanently removed" in _left(_undo(studio))
    assert studio.everything() == before
    assert _project(studio, project) is None


def test_a_removed_project_whose_folder_name_is_used_again_stays_removed(studio: Any) -> None:
    project = _removed_project(studio)
    studio.project("Alps")
    before = studio.everything()
    assert "now has the folder Alps" in _left(_undo(studio))
    assert studio.everything() == before
    assert _project(studio, project) is None


def _project(studio: Any, project: Any) -> Any:
    return ProjectsRepository(studio.database).get_by_id(project.id)


def test_a_photo_that_one_task_renamed_and_moved_comes_back_and_goes_again(
    studio: Any, jpeg: Callable[..., bytes]
) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    studio.photo(norway, "owl", "jpg", contents={"jpg": jpeg(shade=30)})
    studio.photo(iceland, "hare", "jpg")
    photo_id = studio.photo(
        iceland, "owl", "jpg", "NEF", "jpg.xmp", contents={"jpg": jpeg()}, derivatives=True, keep_raw=0
    )
    steps = ("duplicate_resolution", "image_move_files", "file_removal")
    before = studio.disk()
    run_task(studio, *steps, scope="photo_set", project_id=norway.id, items=[{"photo_id": photo_id}])
    after = studio.disk()
    name = studio.get_photo(photo_id).filename
    assert {f"tenant/Norway/{name}.jpg", f"tenant/Norway/.trash/{name}.NEF"} <= after.keys()
    assert name != "owl"

    run_task(studio, "undo", scope="global", payload={"undo": "task"}, task_id="undo")
    undone = studio.disk()
    run_task(studio, "undo", scope="global", payload={"undo": "undo"}, task_id="undo of undo")

    assert undone == before
    assert studio.get_photo(photo_id).filename == name
    assert studio.disk() == after


def test_a_derivative_comes_back_with_its_photo_in_place_of_a_stray_one(studio: Any) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg", derivatives=True)
    studio.photo(iceland, "hare", "jpg")
    own = studio.folder(iceland).thumbnail("fox").read_bytes()
    run_task(studio, "image_move_files", scope="photo_set", project_id=norway.id, items=[{"photo_id": photo_id}])
    studio.folder(iceland).thumbnail("fox").write_bytes(b"of a photo that no longer exists")

    job = _undo(studio)

    assert job.status == "completed", job.error_message
    assert studio.folder(iceland).thumbnail("fox").read_bytes() == own
    assert not studio.folder(norway).thumbnail("fox").exists()
    assert studio.get_photo(photo_id).thumbnail_status == "generated"


def test_a_derivative_that_cannot_come_back_is_made_again(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg", derivatives=True)
    studio.photo(iceland, "hare", "jpg")
    run_task(studio, "image_move_files", scope="photo_set", project_id=norway.id, items=[{"photo_id": photo_id}])
    move = announced_moves.move_without_overwrite

    def fail(source: Path, target: Path, **options: Any) -> None:
        if source.parent.name == THUMB_FOLDER:
            raise OSError(5, os.strerror(5), os.fspath(source))
        move(source, target, **options)

    monkeypatch.setattr(announced_moves, "move_without_overwrite", fail)
    job = _undo(studio)

    assert job.status == "completed", job.error_message
    photo = studio.get_photo(photo_id)
    assert (photo.project_id, photo.thumbnail_status, photo.preview_status) == (iceland.id, "missing", "generated")
    wanted = JobsRepository(studio.database).claim_next("worker")
    assert wanted is not None
    assert wanted.type == "generate_derivatives"


def test_a_derivative_whose_folder_leads_elsewhere_counts_as_missing(studio: Any) -> None:
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", keep_jpg=0, keep_raw=0, derivatives=True)
    run_task(studio, "file_removal", scope="photo_set", items=[{"photo_id": photo_id}])
    assert studio.get_photo(photo_id) is None
    thumbs, elsewhere = studio.folder(iceland).thumb, studio.root.parent / "elsewhere"
    thumbs.rename(elsewhere)
    thumbs.symlink_to(elsewhere)

    job = _undo(studio)

    assert job.status == "completed", job.error_message
    assert studio.get_photo(photo_id).thumbnail_status == "missing"


def test_the_removal_of_derivatives_is_on_the_disk_before_the_rows_say_so(
    studio: Any, jpeg: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": jpeg()}, thumbnail_status="missing")
    run_task(studio, "generate_derivatives", scope="photo_set", items=[{"photo_id": photo_id}])
    thumbnail = studio.folder(iceland).thumbnail("fox")
    assert thumbnail.exists()
    events: list[str] = []
    sync, write = photo_returns.fsync_folder, photo_returns.PhotoStates.write

    def note_sync(folder: Path) -> None:
        events.append(folder.name)
        sync(folder)

    def note_rows(*arguments: Any, **options: Any) -> Any:
        events.append("rows")
        return write(*arguments, **options)

    monkeypatch.setattr(photo_returns, "fsync_folder", note_sync)
    monkeypatch.setattr(photo_returns.PhotoStates, "write", note_rows)
    job = _undo(studio)

    assert job.status == "completed", job.error_message
    assert not thumbnail.exists()
    assert THUMB_FOLDER in events[: events.index("rows")]


def test_a_photo_keeps_its_name_if_a_later_move_of_it_cannot_be_undone(studio: Any, jpeg: Callable[..., bytes]) -> None:
    finland, iceland, norway = (studio.project(name) for name in ("Finland", "Iceland", "Norway"))
    studio.photo(finland, "owl", "jpg", contents={"jpg": jpeg(shade=30)})
    studio.photo(iceland, "hare", "jpg")
    photo_id = studio.photo(iceland, "owl", "jpg", contents={"jpg": jpeg()})
    steps = ("duplicate_resolution", "image_move_files")
    run_task(studio, *steps, scope="photo_set", project_id=norway.id, items=[{"photo_id": photo_id}])
    name = studio.get_photo(photo_id).filename
    studio.folder(iceland).original(f"{name}.jpg").write_bytes(b"another picture")
    originals = {path: content for path, content in studio.disk().items() if path.endswith(".jpg")}

    job = _undo(studio)

    assert f"{name}.jpg: another file has this name now" in _left(job)
    photo = studio.get_photo(photo_id)
    assert (photo.project_id, photo.filename) == (norway.id, name)
    assert {path: content for path, content in studio.disk().items() if path.endswith(".jpg")} == originals


def test_what_is_known_of_a_file_that_was_read_again_since_returns_with_its_name(
    studio: Any, jpeg: Callable[..., bytes]
) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    studio.photo(norway, "owl", "jpg", contents={"jpg": jpeg(shade=30)})
    studio.photo(iceland, "hare", "jpg", contents={"jpg": jpeg(shade=60)})
    photo_id = studio.photo(iceland, "owl", "jpg", contents={"jpg": jpeg()})
    studio.run("upload_postprocess", scope="photo_set", items=[{"photo_id": photo_id}])
    run_task(studio, "image_move_files", scope="photo_set", project_id=norway.id, items=[{"photo_id": photo_id}])
    moved = studio.folder(norway).original(f"{studio.get_photo(photo_id).filename}.jpg")
    os.utime(moved, ns=(1, moved.stat().st_mtime_ns + 10**9))
    assert studio.run("derivative_validation", scope="global").status == "completed"
    (known,) = OriginalsRepository(studio.database).get_many([photo_id])[photo_id].values()

    assert _undo(studio).status == "completed"

    assert OriginalsRepository(studio.database).get_many([photo_id])[photo_id] == {
        "owl.jpg": replace(known, name="owl.jpg")
    }
    job = studio.run("derivative_validation", project_id=iceland.id)
    assert "thumbnails found missing" not in job.result.get("counts", {})


def test_files_return_from_the_trash_although_the_disk_of_their_former_project_is_missing(studio: Any) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", keep_raw=0)
    steps = ("image_move_files", "file_removal")
    run_task(studio, *steps, scope="photo_set", project_id=norway.id, items=[{"photo_id": photo_id}])
    shutil.rmtree(studio.folder(iceland).path)
    studio.folder(iceland).path.mkdir()

    job = _undo(studio)

    assert "its disk may not be mounted" in _left(job)
    assert studio.folder(norway).original("fox.NEF").exists()
    assert studio.get_photo(photo_id).raw_available


def test_a_derivative_that_a_task_found_missing_and_made_is_made_again_by_the_undo_of_its_undo(
    studio: Any, jpeg: Callable[..., bytes]
) -> None:
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": jpeg()}, thumbnail_status="missing")
    thumbnail = studio.folder(iceland).thumbnail("fox")
    run_task(studio, "generate_derivatives", scope="photo_set", items=[{"photo_id": photo_id}], task_id="long before")
    thumbnail.unlink()
    run_task(studio, "derivative_validation", "generate_derivatives", scope="project", project_id=iceland.id)
    assert thumbnail.exists()

    run_task(studio, "undo", scope="global", payload={"undo": "task"}, task_id="undo")
    # The follow-up job of the undo has made it from the original.
    assert thumbnail.exists()
    run_task(studio, "undo", scope="global", payload={"undo": "undo"}, task_id="undo of undo")

    assert thumbnail.exists()
    assert studio.get_photo(photo_id).thumbnail_status == "generated"


@pytest.mark.parametrize("undone", ["duplicate_resolution", "image_move_files"])
def test_another_file_with_the_name_that_a_task_gave_a_photo_is_not_taken_for_its_file(
    studio: Any, jpeg: Callable[..., bytes], undone: str
) -> None:
    finland, iceland, norway = (studio.project(name) for name in ("Finland", "Iceland", "Norway"))
    studio.photo(finland, "owl", "jpg", contents={"jpg": jpeg(shade=30)})
    studio.photo(iceland, "hare", "jpg")
    photo_id = studio.photo(iceland, "owl", "jpg", contents={"jpg": jpeg()})
    later = "image_move_files" if undone == "duplicate_resolution" else "duplicate_resolution"
    photo = {"project_id": norway.id, "items": [{"photo_id": photo_id}]}
    run_task(studio, undone, scope="photo_set", **photo)
    first = studio.get_photo(photo_id)
    run_task(studio, later, scope="photo_set", task_id="later", **photo)
    project = ProjectsRepository(studio.database).get(first.project_id)
    studio.folder(project).original(f"{first.filename}.jpg").write_bytes(b"another picture")
    originals = {path: content for path, content in studio.disk().items() if path.endswith(".jpg")}
    before = studio.get_photo(photo_id)
    assert (before.project_id, before.filename) != (first.project_id, first.filename)

    job = _undo(studio)

    assert "the photo has been moved or renamed since" in _left(job)
    assert {path: content for path, content in studio.disk().items() if path.endswith(".jpg")} == originals
    now = studio.get_photo(photo_id)
    assert (now.project_id, now.filename) == (before.project_id, before.filename)


def test_a_photo_does_not_return_to_a_folder_that_was_renamed_by_hand(studio: Any) -> None:
    iceland, _, photo_id = _moved_fox(studio, "jpg", "xmp")
    studio.write_manifest(iceland)
    studio.folder(iceland).path.rename(studio.root / "tenant" / "Iceland 2024")
    before = studio.everything()

    assert "run folder_discovery" in _left(_undo(studio))
    assert studio.everything() == before
    assert studio.run("folder_discovery").status == "completed"
    job = _undo(studio)

    assert job.status == "completed", job.error_message
    assert {"tenant/Iceland 2024/fox.jpg", "tenant/Iceland 2024/fox.xmp"} <= studio.disk().keys()
    assert studio.get_photo(photo_id).project_id == iceland.id
    assert not (studio.root / "tenant" / "Iceland").exists()


def test_photos_return_to_the_folder_of_an_emptied_project_that_a_user_removed(studio: Any) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    items = [{"photo_id": studio.photo(iceland, name, "jpg", "xmp")} for name in ("fox", "owl")]
    before = studio.disk()
    run_task(studio, "image_move_files", scope="photo_set", project_id=norway.id, items=items)
    shutil.rmtree(studio.folder(iceland).path)

    job = _undo(studio)

    assert job.status == "completed", job.error_message
    assert (job.result or {})["counts"] == {"moved back": 4, "rows changed back": 2}
    assert studio.disk() == before
