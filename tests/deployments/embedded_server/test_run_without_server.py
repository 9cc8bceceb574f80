"""`photojobs run` without a Prefect server begins at once, and its flow run is in Prefect's history."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from deployments.embedded_server import empty_database
from deployments.embedded_server.run_history import COLUMNS, RunHistory
from deployments.server.prefect_server import embedded_server
from storage import Database, JobsRepository, TasksRepository
from storage.database.tables import jobs
from storage.errors import DatabaseUnavailable
from storage.reports.task_summary import summarize_task
from tests.prefect_api import PrefectApi

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the server that other tests of this process use."""
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(place: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the server that `photojobs up` would start in the folder of `place`."""
    monkeypatch.delenv("PREFECT_HOME")
    return Path(place.folder / ".photojobs-prefect" / "prefect")


@pytest.fixture
def rows(home: Path) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """A function that reads rows from Prefect's database."""

    def read(query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(home / "prefect.db")) as connection:
            return connection.execute(query).fetchall()

    return read


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.xdist_group("deploy")
def test_the_run_is_in_prefects_history_as_if_prefect_had_run_it(
    command: Command, place: Any, place_database: Database, home: Path
) -> None:
    (place.library / "user_0" / "Iceland").mkdir(parents=True)

    ran = command("run", "folder_discovery", "--json")

    assert ran.code == 0, ran.err
    task = TasksRepository(place_database).get(ran.document["task_id"])
    with embedded_server(home) as url, PrefectApi(url, timeout=60) as api:
        [run] = api.post("/flow_runs/filter", json={}).raise_for_status().json()
        [of_job] = api.post("/task_runs/filter", json={}).raise_for_status().json()
        [artifact] = api.post("/artifacts/filter", json={}).raise_for_status().json()
        [latest] = api.post("/artifacts/latest/filter", json={}).raise_for_status().json()
        states = api.get("/flow_run_states/", params={"flow_run_id": run["id"]}).raise_for_status().json()
        lines = api.post("/logs/filter", json={}).raise_for_status().json()
        graph = api.get(f"/flow_runs/{run['id']}/graph-v2").raise_for_status().json()
        # Prefect has only one flow of each name, also if both the server and photojobs write it.
        flow = api.post("/flows/", json={"name": "folder_discovery"}).raise_for_status().json()
    assert run["id"] == task.flow_run_id
    assert (run["name"], run["flow_id"]) == ("folder_discovery (user_0)", flow["id"])
    assert run["parameters"] == {"tenant_id": "user_0", "source": "user", "task_id": task.id}
    assert [state["name"] for state in states] == ["Pending", "Running", "Completed"]
    assert run["state"]["message"] == "1 job completed, 0 failed, 0 canceled"
    assert task.started_at is not None
    assert task.finished_at is not None
    assert run["total_run_time"] == pytest.approx((task.finished_at - task.started_at).total_seconds(), abs=0.002)
    assert (of_job["name"], of_job["state_name"]) == ("folder_discovery 1/1", "Completed")
    assert {"priority:95", "lane:priority", "tenant:user_0", f"task:{task.id}"} == set(of_job["tags"])
    assert (artifact["key"], artifact["flow_run_id"]) == ("folder-discovery", run["id"])
    assert "projects created" in artifact["data"]
    assert latest["data"] == artifact["data"]
    assert [line["message"].split()[0] for line in lines] == ["Beginning", "folder_discovery:", "Finished"]
    assert [node["label"] for _, node in graph["nodes"]] == ["folder_discovery 1/1"]


def test_each_run_adds_to_the_history_and_a_failed_one_says_why(
    command: Command, place: Any, place_database: Database, home: Path, rows: Callable[..., list[tuple[Any, ...]]]
) -> None:
    folder = place.library / "user_0"
    (folder / "Iceland").mkdir(parents=True)
    assert command("run", "folder_discovery").code == 0
    (folder / "Norway").mkdir()
    (folder / "Norway" / "broken.jpg").write_bytes(b"not a picture")

    assert command("run", "folder_discovery", "--json").code == 1

    assert rows("SELECT name FROM flow") == [("folder_discovery",)]
    runs = rows("SELECT state_name, count(*) FROM flow_run GROUP BY 1 ORDER BY 1")
    assert runs == [("Completed", 1), ("Failed", 1)]
    of_jobs = rows(
        "SELECT s.message FROM task_run r JOIN task_run_state s ON s.id = r.state_id WHERE r.state_name = 'Failed'"
    )
    errors = [
        job.error_message for job in JobsRepository(place_database).list_by_tenant("user_0") if job.status == "failed"
    ]
    assert sorted(of_jobs) == sorted((error,) for error in errors) != []
    assert rows("PRAGMA foreign_key_check") == []

    # Another program has a word of its own for the end of a job.
    with place_database.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.status == "completed").values(status="done"))
    ended = TasksRepository(place_database).list_newest()[-1]
    history = RunHistory.of(home)
    assert history is not None
    history.record(summarize_task(place_database, ended.id), place_database)
    assert rows("SELECT state_name, count(*) FROM task_run GROUP BY 1 ORDER BY 1")[0] == ("Completed", 3)


@pytest.mark.parametrize(
    "acting",
    [
        "INSERT INTO automation (name, description, trigger, actions) VALUES ('alarm', '', '{}', '[]')",
        "INSERT INTO concurrency_limit (tag, concurrency_limit) VALUES ('lane:normal', 1)",
        "INSERT INTO concurrency_limit_v2 VALUES "
        "('1', '2026-01-01', '2026-01-01', 1, 'tag:lane:normal', 1, 0, 0, 0, 0)",
        "DROP TABLE log; CREATE TABLE log (id, name, level, flow_run_id, message, timestamp, needed TEXT NOT NULL)",
        "ALTER TABLE log RENAME COLUMN message TO words",
    ],
)
def test_what_must_act_while_a_task_runs_and_tables_of_an_unknown_form_need_prefect_itself(
    tmp_path: Path, acting: str
) -> None:
    assert RunHistory.of(tmp_path) is not None
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as connection, connection:
        connection.executescript(acting)

    assert RunHistory.of(tmp_path) is None


def test_with_another_database_in_the_environment_prefect_itself_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://db/prefect")

    assert RunHistory.of(tmp_path / "home") is None
    assert not (tmp_path / "home").exists()


def test_a_history_that_cannot_be_written_does_not_keep_a_task_from_running(
    command: Command, place: Any, place_database: Database, home: Path
) -> None:
    (place.library / "user_0" / "Iceland").mkdir(parents=True)
    home.parent.write_text("a file in place of the folder")

    ran = command("run", "folder_discovery", "--json")

    assert (ran.code, ran.document["status"]) == (0, "completed")
    assert "Prefect's pages do not show this task" in ran.err


@pytest.mark.parametrize(
    ("owner", "name", "error", "said"),
    [
        (RunHistory, "record", OSError(errno.ENOSPC, "No space left on device"), "history cannot be written"),
        (
            TasksRepository,
            "link_flow_run",
            DatabaseUnavailable("the database is away."),
            "may not show this task: the database is away. `",
        ),
    ],
)
def test_a_task_that_has_ended_is_not_said_to_be_canceled_if_its_history_cannot_be_written(
    command: Command,
    place: Any,
    place_database: Database,
    monkeypatch: Any,
    owner: Any,
    name: str,
    error: Exception,
    said: str,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    (place.library / "user_0" / "Iceland").mkdir(parents=True)
    monkeypatch.setattr(owner, name, fail)

    ran = command("run", "folder_discovery", "--json")

    assert (ran.code, ran.document["status"]) == (0, "completed")
    assert said in ran.err


@pytest.mark.parametrize("has_hard_links", [True, False])
def test_a_new_database_is_private_and_one_that_exists_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_hard_links: bool
) -> None:
    if not has_hard_links:

        def refuse(*_: Any) -> None:
            raise PermissionError("no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    file = empty_database.prepare_database(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO flow (name) VALUES ('kept')")

    empty_database.prepare_database(tmp_path)

    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM flow").fetchall() == [("kept",)]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".new"] == []


def in_one_order(dump: str) -> list[str]:
    """Return the lines of a dump with constraints and indexes sorted, because Alembic writes them in random order."""
    lines = (line.strip().rstrip(",") for line in dump.splitlines())
    groups = groupby(lines, key=lambda line: line.startswith(("CONSTRAINT ", "CREATE INDEX ", "CREATE UNIQUE INDEX ")))
    return [line for in_any_order, group in groups for line in (sorted(group) if in_any_order else group)]


@pytest.mark.slow
def test_the_prepared_database_is_what_the_migrations_of_the_oldest_prefect_make(tmp_path: Path) -> None:
    made = empty_database.migrated_database(tmp_path)

    kept = Path(empty_database.__file__).with_suffix(".sql").read_text()
    assert in_one_order(empty_database.dump_of(made)) == in_one_order(kept), (
        "renew it: python -m deployments.embedded_server.empty_database"
    )
    with closing(sqlite3.connect(made)) as connection:
        for table, columns in COLUMNS.items():
            assert {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} >= set(columns)


def test_a_run_imports_neither_prefect_nor_a_web_server_nor_alembic(place: Any, sqlite_url: str) -> None:
    (place.library / "user_0" / "Iceland").mkdir(parents=True)
    program = (
        "import sys\n"
        "from deployments.cli.command_line import run_command_line\n"
        "code = run_command_line(['run', 'folder_discovery', '--quiet'])\n"
        "print(code, sorted({'prefect', 'fastapi', 'uvicorn', 'pyvips', 'alembic'} & sys.modules.keys()))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place.folder,
        env=os.environ | place.environment,
        capture_output=True,
        text=True,
    )

    assert ran.stdout == "0 []\n", ran.stderr
