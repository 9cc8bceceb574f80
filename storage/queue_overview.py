"""What runs, what waits and what failed, the first few rows of each: what somebody who looks wants to see.

Each list is read from an index that ends where the list ends, so that millions of rows stay quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select, text, union_all

from storage.records import Job
from storage.tables import DELAYED, READY, RUNNING, jobs
from task_definitions import Scope

#: Failed jobs that failures are summed up from, the latest of each scope.
FAILURE_SAMPLE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Jobs of a type that failed for the same reason.

    Attributes:
        count: how many, among the latest failed jobs.
        last_at: when the latest of them failed.
        job_id: the latest of them.
    """

    type: str
    reason: str
    count: int
    last_at: datetime
    job_id: int


def running_jobs(connection: Connection, *, limit: int, tenant_id: str | None = None) -> list[Job]:
    """The jobs that run, the longest-running first."""
    statement = select(jobs).where(text(RUNNING), *_of(tenant_id)).order_by(jobs.c.started_at, jobs.c.id)
    return _read(connection, statement.limit(limit))


def waiting_jobs(connection: Connection, *, limit: int, tenant_id: str | None = None) -> list[Job]:
    """The jobs that could run now, in rank order, and behind them those that run later, the soonest first."""
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
    """Why jobs failed, among those that were created last; the latest failure first."""
    # By scope, because an index leads with it: the status alone would have every failed job read and sorted.
    parts = [
        select(jobs.c.id, jobs.c.type, jobs.c.error_message, jobs.c.finished_at, jobs.c.created_at)
        .where(jobs.c.scope == str(scope), jobs.c.status == "failed", *_of(tenant_id))
        .order_by(jobs.c.created_at.desc())
        .limit(FAILURE_SAMPLE)
        .subquery()
        for scope in Scope
    ]
    failures: dict[tuple[str, str], Failure] = {}
    for row in connection.execute(union_all(*(select(part) for part in parts))):
        reason = next(iter((row.error_message or "").splitlines()), "")
        moment = row.finished_at or row.created_at
        known = failures.get((row.type, reason))
        is_latest = known is None or moment > known.last_at
        failures[row.type, reason] = Failure(
            type=row.type,
            reason=reason,
            count=1 if known is None else known.count + 1,
            last_at=moment if known is None or is_latest else known.last_at,
            job_id=row.id if known is None or is_latest else known.job_id,
        )
    return sorted(failures.values(), key=lambda failure: failure.last_at, reverse=True)[:limit]


def _of(tenant_id: str | None) -> Sequence[ColumnElement[bool]]:
    return () if tenant_id is None else (jobs.c.tenant_id == tenant_id,)


def _read(connection: Connection, statement: Select[Any]) -> list[Job]:
    return [Job.from_row(row) for row in connection.execute(statement).mappings()]
