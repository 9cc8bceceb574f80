"""`photojobs plan`, `run --plan` and `undo` as a user runs them: plan, carry out the plan, and undo it."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from deployments.cli.options import signals
from storage import Database, PhotosRepository, ProjectsRepository, TasksRepository
from storage.database.tables import metadata
from storage.library.paths import Library
from tests.waiting import wait_until

Command = Callable[..., Any]

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


@pytest.fixture(autouse=True)
def _folders_are_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let upkeep rename a folder whose name differs from its project's name. By default, upkeep only reports it."""
    monkeypatch.setenv("PHOTOJOBS_RENAME_USER_FILES", "rename")


@pytest.fixture
def two_projects(
    place: Any,
    place_database: Database,
    make_images: Callable[[Path, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Database:
    """Create two projects, each with two photographs without rows; the second has another name than its folder."""
    monkeypatch.setenv("PHOTOJOBS_RENAME_USER_FILES", "rename")
    projects = ProjectsRepository(place_database)
    for name, folder in (("Iceland", "Iceland"), ("Alps 2024", "Alps")):
        projects.create(project_name=name, project_folder=folder)
        make_images(place.library / "user_0" / folder, 2)
        Library(place.library).project("user_0", folder).create()
    return place_database


def everything(place: Any, database: Database) -> dict[str, Any]:
    """Return all files with their contents and times, and all rows."""
    found: dict[str, Any] = {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in place.library.rglob("*") if path.is_file()
    }
    with database.connect() as connection:
        for table in metadata.sorted_tables:
            found[table.name] = [tuple(row) for row in connection.execute(select(table))]
    return found


def originals(place: Any) -> dict[str, bytes]:
    """Return the contents of all files except derivatives and the trash, by their paths."""
    return {
        path.relative_to(place.library).as_posix(): path.read_bytes()
        for path in place.library.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(place.library).parts)
    }


def test_a_plan_tells_what_would_be_done_and_changes_nothing(
    command: Command, two_projects: Database, place: Any
) -> None:
    before = everything(place, two_projects)

    shown = command("plan", "maintenance_global")
    document = command("plan", "maintenance_global", "--json").document

    assert shown.code == 0
    assert "user_0/Alps → user_0/Alps 2024" in shown.out
    assert shown.out.splitlines()[-1].endswith("Nothing has been changed.")
    assert document["counts"] == {"rename_folder": 1, "write": 2, "add_row": 16, "make": 8, "change_row": 5}
    by_type = {step["type"]: step["projects"] for step in document["steps"]}
    # In a plan, a later step sees the changes of an earlier step: here the new name of the folder.
    assert by_type["folder_check"]["Alps 2024"]["counts"] == {"add_row": 2}
    assert "user_0/Alps 2024/.thumb/photo_0.webp" in str(by_type["upload_postprocess"]["Alps 2024"]["first"])
    assert everything(place, two_projects) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_plan_that_is_ended_by_a_signal_leaves_no_copy_behind(
    command: Command, place_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))

    def shadow(*_: Any, **__: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="photojobs-plan-"):
            os.kill(os.getpid(), number)

    monkeypatch.setattr("deployments.cli.commands.tasks.plan.plan_task", shadow)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # `nohup` lets a command ignore the end of its terminal.
    with signals.removing_temporary_files():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)]
    try:
        with pytest.raises(SystemExit) as ended:
            command("plan", "maintenance_global")
        assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)

    assert ended.value.code == 128 + number
    assert list(copies.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [("plan", "maintenance_global"), ("run", "--plan", "night.plan")])
def test_what_a_process_put_aside_is_gone_when_sigterm_has_ended_it(
    launch: Command, command: Command, place: Any, two_projects: Database, make_images: Any, words: tuple[str, ...]
) -> None:
    ProjectsRepository(two_projects).create(project_name="many", project_folder="many")
    make_images(place.library / "user_0" / "many", 400)
    command("plan", "maintenance_global", "--save", "night.plan")
    aside = place.folder / "aside"
    aside.mkdir()

    process = launch(*words, TMPDIR=str(aside))
    wait_until(lambda: list(aside.glob("photojobs-plan-*/library/user_0/many")), what="the shadow is there")
    process.send_signal(signal.SIGTERM)
    _, complaints = process.communicate(timeout=60)

    assert (process.returncode, complaints) == (143, "")
    assert list(aside.iterdir()) == []


def test_a_saved_plan_is_run_as_it_was_read(
    command: Command, prefect_url: str, two_projects: Database, place: Any
) -> None:
    planned = command("plan", "maintenance_global", "--save", "night.plan", "--json").document

    ran = command("run", "--plan", "night.plan", "--json", PREFECT_API_URL=prefect_url)

    assert (ran.code, ran.document["refused"]) == (0, [])
    assert planned["counts"]["make"] == len(list(place.library.rglob("*.webp"))) == 8
    assert (place.library / "user_0" / "Alps 2024" / "photo_1.jpg").is_file()
    again = command("run", "--plan", "night.plan")
    assert again.code == 2
    assert "nothing was started" in again.out + again.err
    assert len(TasksRepository(two_projects).list_newest()) == 1


def test_a_saved_plan_makes_a_project_of_a_new_folder(
    command: Command, two_projects: Database, place: Any, make_images: Callable[[Path, int], None]
) -> None:
    make_images(place.library / "user_0" / "Norway", 1)
    assert command("plan", "folder_discovery", "--save", "found.plan").code == 0

    ran = command("run", "--plan", "found.plan")

    assert ran.code == 0, ran.out + ran.err
    projects = ProjectsRepository(two_projects)
    assert [project.project_name for project in projects.list()] == ["Iceland", "Alps 2024", "Norway"]
    assert command("plan", "folder_discovery", "--json").document["counts"] == {}


def test_what_has_changed_since_is_refused_by_name_and_the_rest_is_done(
    command: Command, prefect_url: str, two_projects: Database, place: Any
) -> None:
    command("plan", "maintenance_global", "--save", "night.plan")
    (place.library / "user_0" / "Iceland" / "photo_0.jpg").unlink()

    ran = command("run", "--plan", "night.plan", PREFECT_API_URL=prefect_url)

    assert ran.code == 1
    assert [line for line in ran.err.splitlines() if "refused" in line] == [
        line for line in ran.err.splitlines() if line.startswith("photojobs: refused project Iceland: ")
    ]
    assert {photo.filename for photo in PhotosRepository(two_projects).list_by_project(2)} == {"photo_0", "photo_1"}
    assert PhotosRepository(two_projects).list_by_project(1) == []
    assert not list((place.library / "user_0" / "Iceland").rglob("*.webp"))


def test_of_a_photo_set_a_photo_that_has_changed_is_refused_and_the_others_are_done(
    command: Command, prefect_url: str, two_projects: Database, place: Any
) -> None:
    photos = PhotosRepository(two_projects)
    for name in ("photo_0", "photo_1"):
        photos.create_many([{"project_id": 1, "filename": name, "ext": "jpg", "jpg_available": 1}])
    command("plan", "generate_derivatives", "--all", "--save", "made.plan")
    (place.library / "user_0" / "Iceland" / "photo_0.jpg").write_bytes(b"no longer a picture")

    ran = command("run", "--plan", "made.plan", PREFECT_API_URL=prefect_url)

    assert ran.code == 1
    assert "photojobs: refused photo_0 of Iceland: " in ran.err
    assert {path.name for path in place.library.rglob("*.webp")} == {"photo_1.webp"}
    assert photos.get_by_id(1).thumbnail_status is None  # type: ignore[union-attr]


def test_of_a_selection_a_project_that_was_archived_since_is_refused_and_the_others_are_done(
    command: Command, two_projects: Database, place: Any
) -> None:
    PhotosRepository(two_projects).create_many(
        [{"project_id": project_id, "filename": "photo_0", "ext": "jpg", "jpg_available": 1} for project_id in (1, 2)]
    )
    command("plan", "generate_derivatives", "--in-project", "1", "2", "--save", "made.plan")
    ProjectsRepository(two_projects).archive(2)

    ran = command("run", "--plan", "made.plan")

    assert ran.code == 1
    (refused,) = [line for line in ran.err.splitlines() if line.startswith("photojobs: refused photo_0 of Alps 2024: ")]
    assert refused.endswith("; the project is archived now")
    assert {path.parent.parent.name for path in place.library.rglob("*.webp")} == {"Iceland"}


@pytest.mark.parametrize("content", ["", "no plan\n", '{"format": "photojobs plan", "version": 99}\n'])
def test_a_file_that_is_no_plan_is_named_and_starts_nothing(
    command: Command, two_projects: Database, place: Any, content: str
) -> None:
    (place.folder / "bad.plan").write_text(content)

    ran = command("run", "--plan", "bad.plan")

    assert ran.code == 2
    assert "bad.plan" in ran.complaints[0]
    assert TasksRepository(two_projects).list_newest() == []


def test_an_undo_is_shown_before_it_is_done_and_brings_all_back(
    command: Command, prefect_url: str, two_projects: Database, place: Any
) -> None:
    before = originals(place)
    run = command("run", "maintenance_global", "--json", PREFECT_API_URL=prefect_url)
    task_id = run.document["task_id"]
    after = everything(place, two_projects)

    looked = command("undo", task_id, "--dry-run")
    unasked = command("undo", task_id)

    assert looked.code == 0
    assert "1 folder to rename" in looked.out
    assert unasked.code == 2
    assert everything(place, two_projects) == after

    undone = command("undo", task_id, "--yes", PREFECT_API_URL=prefect_url)

    assert undone.code == 0, undone.out + undone.err
    assert originals(place) == before
    assert not list(place.library.rglob("*.webp"))
    assert PhotosRepository(two_projects).list_by_project(1) == []
    assert ProjectsRepository(two_projects).get_by_id(2).project_folder == "Alps"  # type: ignore[union-attr]


def test_what_cannot_come_back_is_said_beforehand_and_left(
    command: Command, prefect_url: str, two_projects: Database, place: Any
) -> None:
    task_id = command("run", "maintenance_global", "--json", PREFECT_API_URL=prefect_url).document["task_id"]
    (place.library / "user_0" / "Alps").mkdir()

    looked = command("undo", task_id, "--dry-run")

    assert looked == command("undo", task_id, "--dry-run", "--yes")
    assert looked.code == 1
    assert any("Alps" in line and "already exists there" in line for line in looked.err.splitlines()), looked.err
    undone = command("undo", task_id, "--yes", PREFECT_API_URL=prefect_url)
    assert undone.code == 1
    assert (place.library / "user_0" / "Alps 2024" / "photo_0.jpg").is_file()


def test_a_task_that_does_not_exist_cannot_be_undone(command: Command, two_projects: Database) -> None:
    ran = command("undo", "nothing", "--yes")

    assert ran.code == 2
    assert "nothing" in ran.complaints[0]
