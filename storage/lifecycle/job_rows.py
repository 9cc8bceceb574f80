"""Inserts rows of `jobs`: checks their values and applies their unique keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from storage.database.clock import to_milliseconds
from storage.database.column_types import check_integer, check_tenant_id, check_text, encode_json
from storage.database.driver_statement import Runs
from storage.database.tables import UNFINISHED_UNIQUE, jobs, projects
from storage.errors import InvalidValue, UnknownProject
from storage.lifecycle.job_statement import JOB_COLUMNS, JobStatement
from storage.lifecycle.notifications import CHANNEL, notify
from storage.lifecycle.step_jobs import hold_on, of_tenant
from storage.records import Job
from task_definitions import detect_scope
from task_definitions.foreign_documents import check_json_depth
from task_definitions.model import MAX_PRIORITY
from task_definitions.wording import shown

#: The maximum size of a payload in bytes of JSON. Every job of a task gets a copy of the payload.
MAX_PAYLOAD_BYTES = 1024 * 1024
#: The maximum number of levels of nested mappings and lists in a payload.
MAX_PAYLOAD_DEPTH = 32


def new_job_values(
    *,
    now: datetime,
    tenant_id: str,
    type: str,
    project_id: int | None,
    scope: str | None,
    payload: Mapping[str, Any] | None,
    priority: int,
    progress_total: int | None = None,
    max_attempts: int | None = None,
    run_after: datetime | None = None,
    unique_key: str | None = None,
) -> dict[str, Any]:
    """Check and return the values of a new queued job.

    Raises:
        InvalidValue: a value cannot be stored, or scope and project contradict each other.
    """
    check_tenant_id(tenant_id)
    check_text(type, name="type", maximum=255)
    if project_id is not None:
        check_integer(project_id, name="project_id", minimum=1)
    if unique_key is not None:
        check_text(unique_key, name="unique_key", maximum=1000)
    if max_attempts is not None:
        check_integer(max_attempts, name="max_attempts", minimum=1, maximum=2**31 - 1)
    if progress_total is not None:
        check_integer(progress_total, name="progress_total", minimum=0, maximum=2**31 - 1)
    detected = detect_scope(scope=scope, project_id=project_id)
    return {
        "tenant_id": tenant_id,
        "project_id": project_id,
        "type": type,
        "status": "queued",
        "scope": str(detected),
        "payload_json": None if payload is None else checked_payload(payload),
        "priority": check_integer(priority, name="priority", minimum=0, maximum=MAX_PRIORITY),
        "progress_total": progress_total,
        "progress_done": 0,
        "attempts": 0,
        "max_attempts": max_attempts,
        "run_after": None if run_after is None else checked_start(run_after),
        "unique_key": unique_key,
        "created_at": now,
        "updated_at": now,
    }


def with_hold(connection: Connection, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check that the project of a new job exists, and return the job's values with `held_by` set if a hold applies.

    Raises:
        UnknownProject: the project does not exist, or it belongs to another tenant.
    """
    if values["project_id"] is not None:
        check_project_exists(connection, values["project_id"], tenant_id=values["tenant_id"])
    return {**values, "held_by": hold_on(connection, tenant_id=values["tenant_id"], task_id=None)}


def insert_lone_job(run: Runs, values: Mapping[str, Any], *, is_postgresql: bool) -> Job:
    """Insert a queued job without project and unique key, and wake processes that wait for work, with one statement."""
    parameters = {name: value for name, value in values.items() if value is not None}
    return run(_insertion(tuple(parameters), is_postgresql), parameters)[0]  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _insertion(names: tuple[str, ...], is_postgresql: bool) -> JobStatement:
    insertion = f"INSERT INTO jobs ({', '.join(names)}, held_by) VALUES ({', '.join(f':{name}' for name in names)}"
    hold = "SELECT kind FROM holds WHERE holds.kind = 'tenant' AND holds.name = :tenant_id"
    if not is_postgresql:
        return JobStatement(f"{insertion}, ({hold})) RETURNING {JOB_COLUMNS}")
    # As in `hold_on`, the shared lock makes a simultaneous release wait, so that the release sees the new job.
    return JobStatement(
        f"""
        WITH hold AS MATERIALIZED ({hold} FOR SHARE),
        inserted AS ({insertion}, (SELECT kind FROM hold)) RETURNING {JOB_COLUMNS}),
        notified AS MATERIALIZED (SELECT pg_notify('{CHANNEL}', ''))
        SELECT {JOB_COLUMNS.replace("jobs.", "inserted.")} FROM inserted, notified""",
        is_planned_once=True,
    )


def insert_job(connection: Connection, values: Mapping[str, Any]) -> Job:
    """Insert a queued job, wake the processes that wait for work, and return the job.

    If an unfinished job has the same unique key, that job is returned and nothing is inserted.
    """
    return insert_or_find(connection, values)[0]


def insert_or_find(connection: Connection, values: Mapping[str, Any]) -> tuple[Job, bool]:
    """Return the job as `insert_job` does, and whether it is new, because only a new job gets items."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = (
        dialect.insert(jobs)
        .values(values)
        .on_conflict_do_nothing(index_elements=["tenant_id", "unique_key"], index_where=text(UNFINISHED_UNIQUE))
        .returning(*jobs.columns)
    )
    while True:
        row = connection.execute(statement).mappings().one_or_none()
        if row is not None:
            notify(connection)
            return Job.from_row(row), True
        # If the job with the same unique key has ended since the insert failed, it is not found, and the insert is
        # repeated.
        twin = find_twin(connection, values)
        if twin is not None:
            return twin, False


def find_twin(connection: Connection, values: Mapping[str, Any]) -> Job | None:
    """Return the queued or running job with the same tenant and unique key, or None."""
    if values.get("unique_key") is None:
        return None
    statement = select(jobs).where(
        jobs.c.tenant_id == values["tenant_id"], jobs.c.unique_key == values["unique_key"], text(UNFINISHED_UNIQUE)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else Job.from_row(row)


def checked_payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Check a payload and return it as a dict that both databases can store.

    Raises:
        InvalidValue: the payload is not a mapping, has a value that is not JSON, a NUL character or a lone surrogate,
            or exceeds the limits of size and depth.
    """
    document, text = _document(payload, "payload")
    size = len(text.encode())
    if size > MAX_PAYLOAD_BYTES:
        raise InvalidValue(
            "payload",
            f"has {size:,} bytes as JSON; at most {MAX_PAYLOAD_BYTES:,} are allowed. Each job of the task gets a copy: "
            "store the data elsewhere and give its place, or give photos as items.",
        )
    try:
        check_json_depth(text, MAX_PAYLOAD_DEPTH)
    except RecursionError:
        raise InvalidValue("payload", f"has more than {MAX_PAYLOAD_DEPTH} levels; flatten it") from None
    return document


def checked_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """Check the result of a job and return it as a dict that both databases can store.

    Raises:
        InvalidValue: the result is not a mapping, or it has a value that is not JSON, a NUL character or a lone
            surrogate.
    """
    return _document(result, "result")[0]


def _document(payload: Mapping[str, Any], name: str) -> tuple[dict[str, Any], str]:
    if not isinstance(payload, Mapping):
        raise InvalidValue(name, f"must be a mapping, not {type(payload).__name__}")
    document = dict(payload)
    for key in document:
        if not isinstance(key, str):
            raise InvalidValue(name, f"has a key that is not text ({shown(key)}); use only texts as keys")
    return document, encode_json(document, name=name)


def check_project_exists(connection: Connection, project_id: int, *, tenant_id: str) -> None:
    """Raise `UnknownProject` if no project of the tenant has that id."""
    statement = select(projects.c.id).where(projects.c.id == project_id, of_tenant(tenant_id))
    if connection.execute(statement).first() is None:
        raise UnknownProject(
            f"project {project_id} does not exist for tenant {tenant_id}. `photojobs library list` shows all projects."
        )


def checked_start(run_after: datetime) -> datetime:
    """Return the time before which a job does not start, as both databases store it.

    Raises:
        InvalidValue: it is not a datetime with a time zone, or it cannot be a time in UTC.
    """
    if not isinstance(run_after, datetime):
        raise InvalidValue("run_after", f"must be a datetime, not {shown(run_after)}")
    try:
        return to_milliseconds(run_after)
    except (ValueError, OverflowError) as error:
        raise InvalidValue("run_after", str(error)) from None
