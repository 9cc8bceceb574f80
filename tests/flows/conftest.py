"""Fixtures of flow tests: step types, a runtime on a new database, and one running Prefect server for the session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flows import PermanentStepError
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.process.runtime import Runtime
from storage import Database, PhotosRepository, ProjectsRepository, Settings
from task_definitions import TaskDefinition, load_definitions
from tests.waiting import wait_until


class Stage:
    """The actions of the handlers of a test, and the instructions for these handlers."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self.gates: dict[str, threading.Event] = {}
        self.entered: dict[str, threading.Event] = {}
        self.failures: dict[str, int] = {}
        self.error: Exception = RuntimeError()
        self.items: list[int] = []


stage = Stage()


@step("note", unit="items", modifies_files=False)
def note(ctx: StepContext) -> None:
    """Records its items in the stage."""
    stage.started.append((ctx.job.type, ctx.job.id))
    for batch in ctx.item_batches():
        for item in batch:
            with ctx.item(item):
                if item.name.startswith("bad"):
                    raise PermanentStepError("is bad")
                stage.items.append(item.photo.id)


@step("count", unit="projects", modifies_files=False)
def count(ctx: StepContext) -> None:
    """Counts projects."""
    stage.started.append((ctx.job.type, ctx.job.id))
    ctx.report.count("projects", len(ctx.projects()))


@step("stumble", unit="projects", modifies_files=False)
def stumble(ctx: StepContext) -> None:
    """Fails as often as the stage says."""
    stage.started.append((ctx.job.type, ctx.job.id))
    if stage.failures.get(ctx.job.tenant_id, 0) > 0:
        stage.failures[ctx.job.tenant_id] -= 1
        raise OSError("stumbled")


@step("reraise", unit="projects", modifies_files=False)
def reraise(ctx: StepContext) -> None:
    """Raises the error that the stage contains."""
    raise stage.error


@step("wait_at_gate", unit="projects", modifies_files=False)
def wait_at_gate(ctx: StepContext) -> None:
    """Waits until the test opens the gate, or until the job must stop."""
    stage.started.append((ctx.job.type, ctx.job.id))
    key = str(ctx.payload.get("gate", "gate"))
    stage.entered.setdefault(key, threading.Event()).set()
    while not stage.gates.setdefault(key, threading.Event()).wait(0.01):
        ctx.checkpoint()
    ctx.report.count("passed")


@step("ask_for_more", unit="items", modifies_files=False)
def ask_for_more(ctx: StepContext) -> None:
    """Requests a follow-up job for each of its photos, twice."""
    for batch in ctx.item_batches():
        ids = [item.photo.id for item in batch]
        ctx.enqueue("note", photo_ids=ids, priority=60)
        ctx.enqueue("note", photo_ids=ids, priority=60)
        for item in batch:
            with ctx.item(item):
                pass


@pytest.fixture(autouse=True)
def _no_thread_stays_behind() -> Iterator[None]:
    """Wait until no thread runs a job. A thread that is left would call functions that a later test has replaced."""
    yield

    def left() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("photojobs-job-")]

    wait_until(lambda: not left(), what=lambda: f"no thread runs a job: {left()}", limit_seconds=20)


@pytest.fixture(name="stage")
def _stage() -> Iterator[Stage]:
    stage.__init__()  # type: ignore[misc]
    yield stage
    for gate in stage.gates.values():
        gate.set()


@pytest.fixture
def runtime(tmp_path: Path, sqlite_url: str) -> Iterator[Runtime]:
    """A runtime on SQLite with the system's clock and short intervals."""
    database = Database(sqlite_url)
    with Runtime(database, settings=quick_settings(tmp_path)) as opened, opened.as_current():
        yield opened


def quick_settings(folder: Path, **changes: Any) -> Settings:
    """Return settings with which nothing takes long."""
    library = folder / "library"
    library.mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "database_url": f"sqlite:///{folder / 'photojobs.db'}",
        "library_root": library,
        "heartbeat_seconds": 0.2,
        "stale_seconds": 2.0,
        "poll_seconds": 0.05,
        "retry_delay_seconds": 0.0,
        "drain_seconds": 5.0,
        "concurrency": 4,
    }
    return Settings.load(**(values | changes))


def add_photos(database: Database, names: Iterable[str], *, tenant_id: str | None = None) -> list[int]:
    """Add the project Alps with photos of these names; return the ids of the photos."""
    project = ProjectsRepository(database).create(project_name="Alps", project_folder="alps", tenant_id=tenant_id)
    return PhotosRepository(database).create_many({"project_id": project.id, "filename": name} for name in names)


def items_of(*photo_ids: int) -> list[dict[str, int]]:
    """Return the items of a job for these photos."""
    return [{"photo_id": photo_id} for photo_id in photo_ids]


@pytest.fixture(name="define")
def _define() -> Callable[..., TaskDefinition]:
    """A function that makes a definition: `define("name", {"type": …}, …, scope="global")`."""
    return define


def define(name: str, *steps: dict[str, Any], scope: str = "photo_set") -> TaskDefinition:
    """Return a definition with these steps."""
    mapping = {name: {"label": name.replace("_", " ").title(), "scope": scope, "steps": list(steps)}}
    return load_definitions(mapping, builtin=False)[name]


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory, quick_flow_runs: None) -> Iterator[str]:
    """The URL of the API of a running Prefect server."""
    from deployments.server.prefect_server import embedded_server

    with ExitStack() as stack:
        yield stack.enter_context(embedded_server(tmp_path_factory.mktemp("prefect")))
