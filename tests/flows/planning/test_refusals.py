"""The run of a saved plan refuses changes that it would no longer make, and says why."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flows.api.saved_plan_run import prepare_run
from flows.api.start import start_task
from flows.execution.job_run import run_claimed_job
from flows.planning import plan as planning
from flows.planning.plan import PlanBroken, make_plan
from flows.planning.saved_plan import SavedPlan, writing_plan
from flows.process.runtime import Runtime
from flows.starting import outbox
from flows.starting.new_task import new_task
from flows.telemetry.spans import Spans
from storage import Database
from storage.library.tree import LibraryTree
from storage.photos.projects import ProjectsRepository
from storage.queue.tasks import TasksRepository
from storage.records import Job
from task_definitions import load_definitions
from tests.flows.planning.worlds import NOW, LibrarySpec, PhotoSpec, ProjectSpec, World
from tests.flows.telemetry.test_spans import provider_to
from tests.flows.undoing.looking import run, start

_FOX, _ELK = PhotoSpec("fox"), PhotoSpec("elk", keep_jpg=1)
_LIBRARY = LibrarySpec(
    (
        ProjectSpec("Iceland", folder="Iceland", photos=(_FOX,), trash=("old",)),
        ProjectSpec("Norway", folder="Norway", photos=(_ELK,)),
    )
)


class _ClockedWorld:
    """A world of two projects with the ids 2 and 3, and with a clock that the test sets."""

    def __init__(self, make_world: Callable[..., World], path: Path, template: Path) -> None:
        shutil.copy(template, path / "photojobs.db")
        self.now = NOW
        database = Database(path / "photojobs.db", clock=lambda: self.now)
        self.world = make_world(_LIBRARY, database=database)
        self.plan = path / "saved.plan"

    def save(self, name: str, **arguments: Any) -> None:
        new = new_task(load_definitions()[name], tenant_id="tenant", **arguments)
        with writing_plan(self.plan, new, self.world.runtime, is_thorough=False) as add:
            assert not make_plan(self.world.runtime, new, on_change=add).is_empty

    def refusals(self) -> dict[str, str]:
        prepared = prepare_run(SavedPlan.read(self.plan), self.world.runtime)
        assert (prepared.new is None) == bool(prepared.refusals)
        return {refusal.name: refusal.reason for refusal in prepared.refusals}


@pytest.fixture
def clocked(make_world: Callable[..., World], tmp_path: Path, _sqlite_template: Path) -> _ClockedWorld:
    return _ClockedWorld(make_world, tmp_path, _sqlite_template)


def test_a_move_whose_destination_is_missing_is_refused_with_the_reason(clocked: _ClockedWorld) -> None:
    clocked.save("image_move", scope="photo_set", project_id=3, items=[{"photo_id": clocked.world.photo_ids()[0]}])
    assert clocked.refusals() == {}
    shutil.rmtree(clocked.world.root / "tenant" / "Norway")

    reason = clocked.refusals()["fox of Iceland"]

    assert reason.startswith("the run would no longer make this change: ")
    assert "; the step image_move_files would fail: the folder of project 3 (Norway) is missing" in reason


def test_a_change_of_a_project_with_another_name_is_refused_with_the_reason(clocked: _ClockedWorld) -> None:
    clocked.save("trash_only", project_id=2)
    projects = ProjectsRepository(clocked.world.runtime.database)
    projects.rename(2, project_folder="Iceland", project_name="Island")

    assert clocked.refusals() == {"project Iceland": "project Iceland is called Island now"}


def test_that_a_project_was_archived_before_the_plan_is_no_reason_for_a_difference(clocked: _ClockedWorld) -> None:
    ProjectsRepository(clocked.world.runtime.database).archive(2)
    clocked.save("project_delete", project_id=2)
    next((clocked.world.root / "tenant" / "Iceland").glob("*.jpg")).unlink()

    [reason] = clocked.refusals().values()

    assert reason.startswith("the run would no longer make this change: tenant/Iceland/")
    assert "archived" not in reason


def test_what_is_not_yet_due_after_the_clock_was_set_back_is_refused_with_the_reason(clocked: _ClockedWorld) -> None:
    clocked.save("trash_only", project_id=2)
    clocked.now -= timedelta(days=3)

    [(name, reason)] = clocked.refusals().items()

    assert name == "project Iceland"
    assert reason.startswith("the run would no longer make this change: tenant/Iceland/.trash/")
    assert "(file to remove); the database's clock was set back after the plan was made; correct this clock" in reason


def test_what_the_clock_does_not_affect_is_run_after_it_was_set_back(clocked: _ClockedWorld) -> None:
    assert start(clocked.world, "change_commit", "task")
    run(clocked.world, "task")
    clocked.now += timedelta(minutes=1)
    clocked.save("undo", payload={"undo": "task"})
    clocked.now -= timedelta(hours=1)
    assert clocked.refusals() == {}
    clocked.plan.unlink()
    clocked.save("undo", payload={"undo": "task"})
    clocked.now += timedelta(hours=1)
    assert clocked.refusals() == {}


def test_a_folder_that_another_program_removes_meanwhile_is_planned_as_removed(
    clocked: _ClockedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed, scandir = clocked.world.root / "tenant" / "Norway", os.scandir

    def remove_first(path: Any) -> Any:
        if str(path) == str(removed) and removed.exists():
            shutil.rmtree(removed)
        return scandir(path)

    new = new_task(load_definitions()["folder_discovery"], tenant_id="tenant")
    monkeypatch.setattr(os, "scandir", remove_first)
    plan = make_plan(clocked.world.runtime, new)
    assert not removed.exists()
    assert not plan.would_fail


def test_a_temporary_folder_inside_the_library_is_not_planned_over_and_over(
    clocked: _ClockedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(clocked.world.root / "tenant" / "Norway"))
    new = new_task(load_definitions()["folder_discovery"], tenant_id="tenant")
    assert not make_plan(clocked.world.runtime, new).would_fail


@pytest.mark.parametrize("is_of_sqlite", [True, False])
def test_a_plan_without_space_for_its_shadow_names_the_folder(
    clocked: _ClockedWorld, monkeypatch: pytest.MonkeyPatch, is_of_sqlite: bool
) -> None:
    def fill(tree: LibraryTree, _: object) -> None:
        if not is_of_sqlite:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "shadow")
        tree._connection.execute("PRAGMA max_page_count = 1")
        tree._connection.execute("CREATE TABLE too_much (id)")

    monkeypatch.setattr(LibraryTree, "note_origins", fill)
    new = new_task(load_definitions()["folder_discovery"], tenant_id="tenant")
    reason = "disk is full" if is_of_sqlite else "No space left"
    with pytest.raises(PlanBroken, match=rf"{reason}.* {tempfile.gettempdir()}, or set TMPDIR"):
        make_plan(clocked.world.runtime, new)


def test_the_jobs_of_a_plan_are_in_no_log_and_no_trace(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(_LIBRARY, log_format="json")
    exporter = InMemorySpanExporter()
    spans = Spans(provider_to(exporter))
    monkeypatch.setattr("flows.process.runtime.open_tracing", lambda: spans)
    with caplog.at_level(logging.INFO, logger="photojobs.log"):
        assert not make_plan(
            world.runtime, new_task(load_definitions()["trash_only"], tenant_id="tenant", project_id=2)
        ).is_empty
    assert [record.message for record in caplog.records if record.name == "photojobs.log"] == []
    assert exporter.get_finished_spans() == ()


def test_a_task_that_a_handler_starts_in_a_plan_is_not_started(
    clocked: _ClockedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run_and_start(job: Job, runtime: Runtime) -> Job | None:
        start_task(type="trash_only", tenant_id="tenant", project_id=3)
        with runtime.database.begin() as connection:
            start_task(type="trash_only", tenant_id="tenant", project_id=3, connection=connection)
        return run_claimed_job(job, runtime)

    monkeypatch.setattr(outbox, "request_flow_run", lambda task: asked.append(task.id))
    monkeypatch.setattr(planning, "run_claimed_job", run_and_start)
    new = new_task(load_definitions()["trash_only"], tenant_id="tenant", project_id=2)
    with clocked.world.runtime.as_current():
        assert not make_plan(clocked.world.runtime, new).is_empty
    assert TasksRepository(clocked.world.database).list_newest() == []
    for thread in threading.enumerate():
        if thread.name == "photojobs-ask-prefect":
            thread.join()
    # The flow run of a task that is not in the real database would start this task there.
    assert asked == []
