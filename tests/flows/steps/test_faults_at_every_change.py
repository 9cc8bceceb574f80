"""Every step type has the same result after a death or a disk error at any of its changes.

One library has something to do for every step type. On both databases: `python -m pytest -m full` with this file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.steps.targets.journal_changes import relative_path
from flows.testing import run_queued_job
from storage import Database, ProjectsRepository
from storage.history.journal import FileAction, FileChange, write_journal
from storage.library.paths import ProjectFolder
from storage.library.trash import move_to_trash
from task_definitions import load_definitions
from task_definitions.step_types import BUILTIN_STEP_TYPES
from tests.flows.steps.conftest import dying_at, failing_at

_STRIKES = {"death": dying_at, "error": failing_at}

#: The step types with disk errors in the fast tests: they change files in the most different ways.
_FAST_ERRORS = {"file_removal", "folder_check", "generate_derivatives", "image_move_files"}
#: Step types that other tests kill at every change.
_KILLED_ELSEWHERE = {
    "duplicate_resolution",
    "file_removal",
    "folder_alignment",
    "folder_check",
    "folder_discovery",
    "image_move_files",
    "manifest_check",
    "manifest_cleaning",
    "orphaned_project_cleanup",
    "project_delete_files",
    "trash_maintenance",
    "upload_postprocess",
}


def prepare(studio: Any, type: str, jpeg: Callable[..., bytes]) -> int:
    """Create a library in which every step has something to do; return the id of a queued job of this type."""
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    picture = {"jpg": jpeg(DateTimeOriginal="2024:05:06 07:08:09")}
    # Where the row says that it is there, a derivative that a killed run has made is believed like another program's:
    # as good as any, but nobody noted what it was made of.
    status = "missing" if type in {"generate_derivatives", "upload_postprocess"} else "generated"
    ids = [
        studio.photo(iceland, "fox", "jpg", "NEF", "jpg.xmp", contents=picture, keep_jpg=0, tagged=("animal",)),
        studio.photo(iceland, "owl", "jpg", contents=picture, derivatives=True, jpg_available=0),
        studio.photo(iceland, "bear", "jpg", keep_jpg=0, contents=picture, thumbnail_status=status),
        studio.photo(iceland, "lost"),
    ]
    studio.photo(norway, "fox", "jpg", contents={"jpg": jpeg(shade=30)})
    studio.photo(norway, "whale", contents=picture)
    ProjectsRepository(studio.database).rename(norway.id, project_name="Norway 2024")
    place = studio.folder(iceland)
    (place.path / "elk.jpg").write_bytes(picture["jpg"])
    throw_away(studio.database, place, iceland.id, place.path / "gone.jpg")
    new = studio.root / "tenant" / "New"
    new.mkdir()
    (new / "lynx.jpg").write_bytes(b"lynx")
    old = studio.project("Old", archived=True)
    studio.photo(old, "hen", "jpg", derivatives=True, tagged=("bird",))
    shutil.rmtree(studio.folder(studio.project("Gone")).path)
    for path in studio.root.rglob("*.*"):
        if path.is_file():
            os.utime(path, ns=(10**18, 10**18))

    if type == "undo":
        do_something(studio)
        return int(studio.enqueue(type, scope="global", payload={"undo": "task"}))
    unit = BUILTIN_STEP_TYPES[type].unit
    if unit == "items":
        target = {"project_id": norway.id} if type == "image_move_files" else {}
        return int(studio.enqueue(type, *ids, **target))
    if type in {"project_delete_files", "project_cleanup_db", "project_scavenge"}:
        return int(studio.enqueue(type, project_id=old.id))
    if type == "project_stop_processes":
        studio.enqueue("manifest_check", project_id=iceland.id)
        return int(studio.enqueue(type, project_id=iceland.id))
    return int(studio.enqueue(type, scope="global"))


def throw_away(database: Database, place: ProjectFolder, project_id: int, file: Path) -> None:
    """Move a file to the trash with a date of three days ago, and write its entry in the journal."""
    at = database.clock() - timedelta(days=3)
    file.write_bytes(b"gone")
    target = move_to_trash(place, file, at=at)
    change = FileChange(
        action=FileAction.TRASHED,
        source=relative_path(place, file),
        target=relative_path(place, target),
        project_id=project_id,
        size_bytes=4,
    )
    with database.begin() as connection:
        write_journal(connection, [change], tenant_id="tenant", task_id=None, job_id=None, now=at)


def do_something(studio: Any) -> None:
    """Run a task that trashes and removes files, renames a folder and writes its manifest."""
    run_task(studio, "file_removal", "folder_alignment", "manifest_cleaning", scope="global")


def run_task(studio: Any, *types: str, scope: str, task_id: str = "task", **arguments: Any) -> None:
    """Run a task of these steps to its end."""
    steps = [{"type": name} for name in types]
    definition = load_definitions({"tidy": {"label": "Tidy", "scope": scope, "steps": steps}})["tidy"]
    assert studio.run_task(definition, task_id=task_id, **arguments).status == "completed"


def come_to_the_same_end(studio: Any, deaths: Any, jpeg: Callable[..., bytes], type: str, strike: str) -> None:
    job_id = prepare(studio, type, jpeg)
    before = outcome(studio)
    assert run_queued_job(studio.runtime, job_id).status == "completed"
    undisturbed, undisturbed_originals = outcome(studio), without_derivatives(studio)
    assert undisturbed != before, f"the library has nothing to do for {type}"
    for number in deaths.each(lambda studio: prepare(studio, type, jpeg), strike=_STRIKES[strike]):
        if (type, strike) == ("image_move_files", "error"):
            assert without_derivatives(studio) == undisturbed_originals, f"{type}, {strike} at change {number}"
        else:
            assert outcome(studio) == undisturbed, f"{type}, {strike} at change {number}"


def without_derivatives(studio: Any) -> dict[str, Any]:
    """Return the outcome without derivatives, because a derivative that cannot be moved is made again."""
    found = {name: value for name, value in outcome(studio).items() if not re.search(r"/\.(thumb|preview)/", name)}
    for row in found["table photos"]:
        del row["thumbnail_status"], row["preview_status"]
    return found


def outcome(studio: Any) -> dict[str, Any]:
    found: dict[str, Any] = studio.outcome()
    # Names in the trash are random, so they are not compared.
    found["journal"] = sorted(re.sub(r"Z_[0-9a-f]{12}_", "Z_", repr(entry)) for entry in found["journal"])
    return found


class TestOnSqlite:
    @pytest.fixture
    def database(self, sqlite_database: Database) -> Iterator[Database]:
        return sqlite_database

    @pytest.mark.parametrize(
        "type",
        [
            name if name in _FAST_ERRORS else pytest.param(name, marks=pytest.mark.slow)
            for name in sorted(BUILTIN_STEP_TYPES)
        ],
    )
    def test_an_error_of_the_disk_at_any_change(self, studio: Any, deaths: Any, jpeg: Any, type: str) -> None:
        come_to_the_same_end(studio, deaths, jpeg, type, "error")

    @pytest.mark.parametrize(
        "type",
        [
            pytest.param(name, marks=[pytest.mark.slow] * (name == "undo"))
            for name in sorted(BUILTIN_STEP_TYPES.keys() - _KILLED_ELSEWHERE)
        ],
    )
    def test_a_death_at_any_change(self, studio: Any, deaths: Any, jpeg: Any, type: str) -> None:
        come_to_the_same_end(studio, deaths, jpeg, type, "death")


def prepare_undo_of_one_name(studio: Any, jpeg: Callable[..., bytes]) -> int:
    """Let a task rename Iceland's fox and give its name to Norway's fox; return the id of the job that undoes this."""
    norway, iceland = studio.project("Norway"), studio.project("Iceland")
    ids = [
        studio.photo(project, "fox", "jpg", contents={"jpg": jpeg(shade=shade)}, tagged=(project.project_name,))
        for project, shade in ((norway, 30), (iceland, 120))
    ]
    items = [{"photo_id": photo_id} for photo_id in ids]
    steps = ("duplicate_resolution", "image_move_files")
    run_task(studio, *steps, scope="photo_set", project_id=iceland.id, items=items)
    assert studio.get_photo(ids[0]).filename == "fox"
    assert studio.get_photo(ids[1]).filename != "fox"
    return int(studio.enqueue("undo", scope="global", payload={"undo": "task"}))


def prepare_undo_of_undo(studio: Any, jpeg: Callable[..., bytes]) -> int:
    """Let a task rename, move and trash files, and undo it; return the id of the job that undoes the undo."""
    norway, iceland = studio.project("Norway"), studio.project("Iceland")
    studio.photo(norway, "fox", "jpg", contents={"jpg": jpeg(shade=30)})
    studio.photo(iceland, "owl", "jpg")
    options = {"contents": {"jpg": jpeg(shade=120)}, "derivatives": True, "keep_raw": 0}
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", "jpg.xmp", **options)
    steps = ("duplicate_resolution", "image_move_files", "file_removal")
    run_task(studio, *steps, scope="photo_set", project_id=norway.id, items=[{"photo_id": photo_id}])
    run_task(studio, "undo", scope="global", payload={"undo": "task"}, task_id="undo")
    assert studio.get_photo(photo_id).filename == "fox"
    return int(studio.enqueue("undo", scope="global", payload={"undo": "undo"}))


@pytest.mark.slow_on("postgresql")
@pytest.mark.parametrize(
    ("prepare", "place"),
    [
        (prepare_undo_of_one_name, "tenant/Iceland/fox.jpg"),
        pytest.param(prepare_undo_of_undo, "tenant/Norway/fox_duplicate1.jpg", marks=pytest.mark.slow),
    ],
)
def test_an_undo_is_repeated_after_a_death(
    studio: Any, deaths: Any, jpeg: Any, prepare: Callable[..., int], place: str
) -> None:
    assert run_queued_job(studio.runtime, prepare(studio, jpeg)).status == "completed"
    undisturbed = outcome(studio)
    assert undisturbed[place] == jpeg(shade=120)
    for number in deaths.each(lambda studio: prepare(studio, jpeg)):
        assert outcome(studio) == undisturbed, f"death at change {number}"


@pytest.mark.slow_on("postgresql")
@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_after_a_dead_undo_that_is_canceled_the_next_job_moves_files_to_where_their_rows_are(
    studio: Any, deaths: Any, jpeg: Any, every: int
) -> None:
    places = set()
    for number in deaths.each(lambda studio: prepare_undo_of_undo(studio, jpeg), is_repeated=False, every=every):
        before = studio.get_photo(3)
        for project in ProjectsRepository(studio.database).list():
            assert studio.run("folder_check", project_id=project.id).status == "completed"
        photo = studio.get_photo(3)
        assert (photo.project_id, photo.filename) == (before.project_id, before.filename), f"death at change {number}"
        folder = studio.folder(ProjectsRepository(studio.database).get(photo.project_id))
        found = {path.name for path in folder.path.iterdir() if path.name.startswith(photo.filename)}
        raw = {f"{photo.filename}.NEF"} if photo.raw_available else set()
        assert found - {"fox.jpg"} >= ({f"{photo.filename}.jpg.xmp"} | raw), f"death at change {number}"
        assert (folder.path / f"{photo.filename}.jpg").read_bytes() == jpeg(shade=120)
        places.add((photo.project_id, photo.filename, photo.raw_available))
    assert len(places) > 1


@pytest.mark.full
@pytest.mark.parametrize("strike", _STRIKES)
@pytest.mark.parametrize("type", sorted(BUILTIN_STEP_TYPES))
def test_both_databases(studio: Any, deaths: Any, jpeg: Any, type: str, strike: str) -> None:
    come_to_the_same_end(studio, deaths, jpeg, type, strike)
