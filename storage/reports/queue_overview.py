"""Reads the first running jobs, waiting jobs and failures, for an overview of the queue.

Each list is read from the beginning of an index, so that it is fast even with millions of rows.
`deployments.status.queue_status` decides what `photojobs status` shows of these lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, TextualSelect, select, text

from storage.database.tables import DELAYED, FAILED, READY, RUNNING, jobs
from storage.lifecycle.job_statement import by_index
from storage.records import Job

#: The maximum number of failed jobs in a summary of failures; the most recently created jobs are used.
FAILURE_SAMPLE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Jobs of one type that failed for the same reason.

    Attributes:
        count: the number of such jobs among the latest `FAILURE_SAMPLE` failed jobs.
        last_at: when the latest of these jobs failed; None if another program wrote a text that is not a time.
        job_id: the id of the latest of these jobs.
    """

    type: str
    reason: str
    count: int
    last_at: datetime | None
    job_id: int


def running_jobs(connection: Connection, *, limit: int, tenant_id: str | None = None) -> list[Job]:
    """Return up to `limit` running jobs, the longest-running first."""
    statement = select(jobs).where(text(RUNNING), *_of(tenant_id)).order_by(jobs.c.started_at, jobs.c.id)
    return _read(connection, statement.limit(limit))


def waiting_jobs(connection: Connection, *, limit: int, tenant_id: str | None = None) -> list[Job]:
    """Return up to `limit` jobs: ready jobs in order of rank, followed by delayed jobs, the soonest first."""
    ready = (
        select(jobs)
        .where(text(READY), *_of(tenant_id))
        .order_by(jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id)
        .limit(limit)
    )
    found = _read(connection, ready)
    if len(found) < limit:
        later = select(jobs).where(text(DELAYED), *_of(tenant_id)).order_by(jobs.c.run_after, jobs.c.id)
        found += _read(connection, later.limit(limit - len(found)))
    return found


def latest_failures(connection: Connection, *, limit: int, tenant_id: str | None = None) -> list[Failure]:
    """Return the failures among the most recently created failed jobs, by type and reason, the latest failure first."""
    is_postgresql = connection.dialect.name == "postgresql"
    latest = _latest_failures(is_postgresql, tenant_id is not None).bindparams(limit=FAILURE_SAMPLE)
    if tenant_id is not None:
        latest = latest.bindparams(tenant_id=tenant_id)
    failures: dict[tuple[str, str], Failure] = {}
    for row in connection.execute(latest):
        reason = next(iter((row.error_message or "").splitlines()), "")
        moment = row.finished_at or row.created_at
        found = Failure(type=row.type, reason=reason, count=1, last_at=moment, job_id=row.id)
        known = failures.get((row.type, reason))
        if known is not None:
            found = replace(max(known, found, key=_last_time), count=known.count + 1)
        failures[row.type, reason] = found
    return sorted(failures.values(), key=_last_time, reverse=True)[:limit]


def _last_time(failure: Failure) -> datetime:
    return failure.last_at or datetime.min.replace(tzinfo=UTC)


@cache
def _latest_failures(is_postgresql: bool, for_tenant: bool) -> TextualSelect:
    failed = f"jobs{by_index(is_postgresql, 'idx_jobs_failed')} WHERE {FAILED}"
    of_tenant = "AND tenant_id = :tenant_id" if for_tenant else ""
    columns = (jobs.c.id, jobs.c.type, jobs.c.error_message, jobs.c.finished_at, jobs.c.created_at)
    names = ", ".join(column.name for column in columns)
    return text(f"SELECT {names} FROM {failed} {of_tenant} ORDER BY created_at DESC LIMIT :limit").columns(*columns)


def _of(tenant_id: str | None) -> Sequence[ColumnElement[bool]]:
    return () if tenant_id is None else (jobs.c.tenant_id == tenant_id,)


def _read(connection: Connection, statement: Select[Any]) -> list[Job]:
    return [Job.from_row(row) for row in connection.execute(statement).mappings()]
