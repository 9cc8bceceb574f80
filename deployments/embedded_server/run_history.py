"""Writes tasks that ran without Prefect into the database of the embedded server, so that its pages show them.

The tables are Prefect's own, in the schema of the installed server. If they lack a column that this module writes, or
require another column, `RunHistory.of` returns None, and the task must run through Prefect.
`deployments.cli.commands.tasks.running` decides whether a task runs without Prefect.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployments.embedded_server.empty_database import database_is_elsewhere, prepare_database
from flows.starting.deployment_names import flow_run_name, task_run_position, task_run_tags
from flows.telemetry.step_markdown import step_line, step_markdown
from storage.database.engine import Database
from storage.queue.tasks import TasksRepository
from storage.records import Job, Task
from storage.reports.task_summary import TaskSummary

#: How long to wait for a running server that has locked the database.
BUSY_SECONDS = 30.0

_STATE = ("id", "type", "name", "message", "timestamp", "state_details")
_RUN = (
    *("id", "name", "flow_run_id", "state_id", "state_type", "state_name", "state_timestamp", "run_count"),
    *("expected_start_time", "start_time", "end_time", "total_run_time", "tags", "labels"),
)
_ARTIFACT = ("key", "type", "data", "metadata_", "flow_run_id", "description")

#: The columns that this module writes, by table.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "flow": ("id", "name", "tags", "labels"),
    "flow_run": ("flow_id", "parameters", *(name for name in _RUN if name != "flow_run_id")),
    "flow_run_state": ("flow_run_id", *_STATE),
    "task_run": ("task_key", "dynamic_key", "flow_run_run_count", *_RUN),
    "task_run_state": ("task_run_id", *_STATE),
    "artifact": ("id", *_ARTIFACT),
    "artifact_collection": ("latest_id", *_ARTIFACT),
    "log": ("id", "name", "level", "flow_run_id", "message", "timestamp"),
}

#: Queries for features of Prefect that must act while a task runs: automations, and concurrency limits of tags.
_ACTING = (
    "SELECT 1 FROM automation WHERE enabled",
    "SELECT 1 FROM concurrency_limit",
    "SELECT 1 FROM concurrency_limit_v2 WHERE active AND name LIKE 'tag:%'",
)

#: Prefect's states for the end of a task or a job.
_ENDINGS = {"completed": "Completed", "failed": "Failed", "canceled": "Cancelled"}

_INFO, _ERROR = 20, 40


class RunHistory:
    """Prefect's history in the database file of an embedded server."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @classmethod
    def of(cls, home: Path) -> RunHistory | None:
        """Return the history of the server with this home; its database is created if it is missing.

        Return None if tasks must run through Prefect: another database is configured, the database cannot be read,
        Prefect's tables have an unknown form, or an automation or a concurrency limit of a tag must act while a task
        runs.
        """
        if database_is_elsewhere():
            return None
        history = cls(prepare_database(home))
        try:
            with history._connected() as connection:
                is_known = all(_takes(connection, table, columns) for table, columns in COLUMNS.items())
                is_passive = is_known and not any(connection.execute(query).fetchone() for query in _ACTING)
        except sqlite3.Error:
            return None
        return history if is_passive else None

    def record(self, summary: TaskSummary, database: Database) -> str:
        """Write the flow run of an ended task to Prefect's history, with a task run for each ended job.

        The jobs are read from `database`.

        Returns:
            The id of the flow run.

        Raises:
            sqlite3.Error: Prefect's database could not be written.
        """
        task, flow_run_id = summary.task, str(uuid.uuid4())
        with self._connected() as connection:
            # IMMEDIATE takes the write lock at once. A transaction that first reads may fail to get the lock later.
            connection.execute("BEGIN IMMEDIATE")
            _write_flow_run(connection, summary, flow_run_id)
            for job in TasksRepository(database).list_jobs(task.id):
                if job.is_final:
                    _write_task_run(connection, job, flow_run_id)
            for step in summary.steps:
                _write_artifact(
                    connection,
                    flow_run_id,
                    key=step.type.replace("_", "-").lower(),
                    markdown=step_markdown(step),
                    description=f"{task.label}: {step.type}",
                )
            connection.execute("COMMIT")
        return flow_run_id

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection


def _takes(connection: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> bool:
    info = connection.execute(f"PRAGMA table_info({table})")
    known = {name: needed and default is None for _, name, _, needed, default, _ in info}
    return known.keys() >= set(columns) and {name for name, is_needed in known.items() if is_needed} <= set(columns)


def _write_flow_run(connection: sqlite3.Connection, summary: TaskSummary, flow_run_id: str) -> None:
    task = summary.task
    parameters: dict[str, Any] = {"tenant_id": task.tenant_id, "source": task.source, "task_id": task.id}
    if task.project_id is not None:
        parameters["project_id"] = task.project_id
    name = flow_run_name(task.type, parameters)
    ending = "Skipped" if summary.found_nothing else _ENDINGS[task.status]
    states = _states(task, ending=ending, message=summary.message)
    _write_run(
        connection,
        "flow_run",
        {"id": flow_run_id, "name": name, "flow_id": _flow_id(connection, task.type), "parameters": parameters},
        states,
    )
    lines = [(_INFO, states[0][1], f"Beginning flow run '{name}' for flow '{task.type}'")]
    lines += [(_INFO, states[-1][1], step_line(step)) for step in summary.steps]
    level = _INFO if _type(ending) == "COMPLETED" else _ERROR
    lines.append((level, states[-1][1], f"Finished in state {ending}({summary.message!r})"))
    for level, at, message in lines:
        line = {"name": "prefect.flow_runs", "level": level, "message": message, "timestamp": at}
        _insert(connection, "log", line | {"id": str(uuid.uuid4()), "flow_run_id": flow_run_id})


def _flow_id(connection: sqlite3.Connection, name: str) -> str:
    found = connection.execute("SELECT id FROM flow WHERE name = ?", (name,)).fetchone()
    if found:
        return str(found[0])
    flow_id = str(uuid.uuid4())
    _insert(connection, "flow", {"id": flow_id, "name": name, "tags": [], "labels": {}})
    return flow_id


def _write_task_run(connection: sqlite3.Connection, job: Job, flow_run_id: str) -> None:
    # A status that another program invented counts as completed, as in `flows.orchestration.job_task`.
    ending = _ENDINGS.get(job.status, "Completed")
    _write_run(
        connection,
        "task_run",
        {
            "id": str(uuid.uuid4()),
            "name": f"{job.type} {task_run_position(job)}",
            "flow_run_id": flow_run_id,
            "task_key": "run_job",
            "dynamic_key": str(job.id),
            "flow_run_run_count": 1,
            "tags": task_run_tags(job),
        },
        _states(job, ending=ending, message=job.error_message),
    )


def _states(row: Task | Job, *, ending: str, message: str | None) -> list[tuple[str, datetime, str | None]]:
    """Return the states of a run in Prefect, in order: the name, moment and message of each."""
    ended_at = row.finished_at or row.updated_at or row.created_at
    states: list[tuple[str, datetime, str | None]] = [("Pending", row.created_at, None)]
    if row.started_at is not None:
        states.append(("Running", row.started_at, None))
    return [*states, (ending, ended_at, message)]


def _type(name: str) -> str:
    # `Skipped` is a name of ours for a state of the type COMPLETED.
    return "COMPLETED" if name == "Skipped" else name.upper()


def _write_run(
    connection: sqlite3.Connection,
    table: str,
    values: Mapping[str, Any],
    states: list[tuple[str, datetime, str | None]],
) -> None:
    run_id, last = values["id"], states[-1]
    details = {f"{table}_id": run_id}
    for name, at, message in states:
        state_id = str(uuid.uuid4())
        state = {"id": state_id, "type": _type(name), "name": name, "message": message, "timestamp": at}
        _insert(connection, f"{table}_state", state | {f"{table}_id": run_id, "state_details": details})
    started_at = next((at for name, at, _ in states if name == "Running"), None)
    run = {
        "state_id": state_id,
        "state_type": _type(last[0]),
        "state_name": last[0],
        "state_timestamp": last[1],
        "run_count": 0 if started_at is None else 1,
        "expected_start_time": states[0][1],
        "start_time": started_at,
        "end_time": last[1],
        # Prefect stores a duration as the moment this long after the epoch.
        "total_run_time": datetime.fromtimestamp(0, UTC) + (last[1] - (started_at or last[1])),
        "tags": [],
        "labels": {},
    }
    _insert(connection, table, run | dict(values))


def _write_artifact(
    connection: sqlite3.Connection, flow_run_id: str, *, key: str, markdown: str, description: str
) -> None:
    artifact_id = str(uuid.uuid4())
    artifact = {
        "key": key,
        "type": "markdown",
        "data": json.dumps(markdown),
        "metadata_": "null",
        "flow_run_id": flow_run_id,
        "description": description,
    }
    _insert(connection, "artifact", artifact | {"id": artifact_id})
    # The table `artifact_collection` has only the latest artifact of each key.
    connection.execute("DELETE FROM artifact_collection WHERE key = ?", (key,))
    _insert(connection, "artifact_collection", artifact | {"latest_id": artifact_id})


def _insert(connection: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> None:
    assert values.keys() <= set(COLUMNS[table]), table  # noqa: S101 - `RunHistory.of` checked the columns.
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [_stored(value) for value in values.values()])


def _stored(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, list | dict):
        return json.dumps(value)
    return value
