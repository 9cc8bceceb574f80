"""Reads the state of a lane: its running jobs, the next job, and the number of jobs that rank before a given job.

`storage.reports.waiting_reasons` uses this state to explain why a job waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import Connection, TextClause, bindparam, func, select, text

from storage.database.column_types import Identifier, UtcTimestamp
from storage.database.tables import READY, RUNNING, jobs
from storage.lifecycle.job_statement import by_index
from storage.queue.claims import rank_heads
from storage.records import Job, Lane

#: The maximum number of running jobs that are read from a lane, the longest-running first.
MAX_RUNNING_JOBS = 100

#: The maximum number of jobs that are counted before a given job. If there are more, users see "more than".
MAX_COUNTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneQueue:
    """The state of a lane.

    Attributes:
        running: running jobs, the longest-running first; at most `MAX_RUNNING_JOBS`.
        best_id: the ready job that is claimed next, by rank, aging and fairness; None if no job is ready.
        waiting: the priorities of ready jobs by tenant.
    """

    running: tuple[Job, ...]
    running_count: int
    running_by_tenant: Mapping[str, int]
    best_id: int | None
    waiting: Mapping[str, frozenset[int]]

    def tenants_waiting(self, priority: int) -> frozenset[str]:
        """Return the tenants that have ready jobs of at least this priority."""
        return frozenset(tenant for tenant, priorities in self.waiting.items() if max(priorities) >= priority)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """The number of ready jobs that rank before a job; `is_more` is set if not all of them were counted."""

    count: int
    is_more: bool


def read_lane_queue(connection: Connection, lane: Lane, *, now: datetime) -> LaneQueue:
    """Return the current state of a lane."""
    in_lane = (text(RUNNING), jobs.c.priority.between(lane.min_priority, lane.max_priority))
    counts = select(jobs.c.tenant_id, func.count()).where(*in_lane).group_by(jobs.c.tenant_id)
    by_tenant = {row[0]: row[1] for row in connection.execute(counts)}
    oldest = select(jobs).where(*in_lane).order_by(jobs.c.started_at, jobs.c.id).limit(MAX_RUNNING_JOBS)
    heads = rank_heads(connection, lane=lane, now=now)
    waiting: dict[str, frozenset[int]] = {}
    for head in heads:
        waiting[head.tenant_id] = waiting.get(head.tenant_id, frozenset()) | {head.priority}
    return LaneQueue(
        running=tuple(Job.from_row(row) for row in connection.execute(oldest).mappings()),
        running_count=sum(by_tenant.values()),
        running_by_tenant=by_tenant,
        best_id=heads[0].id if heads else None,
        waiting=waiting,
    )


def count_before(connection: Connection, job: Job, lane: Lane) -> Ahead:
    """Count the ready jobs of a lane that rank before a job, by priority, age and id."""
    counted = connection.execute(
        _count_before(connection.dialect.name == "postgresql"),
        {
            "priority": job.priority,
            "max_priority": lane.max_priority,
            "created_at": job.created_at,
            "id": job.id,
            "enough": MAX_COUNTED + 1,
        },
    ).scalar_one()
    return Ahead(count=min(counted, MAX_COUNTED), is_more=counted > MAX_COUNTED)


@cache
def _count_before(is_postgresql: bool) -> TextClause:
    # The query reads three ranges of the index, and at most `enough` entries of each.
    ready = f"SELECT 1 FROM jobs{by_index(is_postgresql, 'idx_jobs_ready')} WHERE {READY}"
    ranges = (
        "priority > :priority AND priority <= :max_priority",
        "priority = :priority AND created_at < :created_at",
        "priority = :priority AND created_at = :created_at AND id < :id",
    )
    parts = " UNION ALL ".join(f"SELECT * FROM ({ready} AND {part} LIMIT :enough) AS part" for part in ranges)
    return text(f"SELECT count(*) FROM (SELECT * FROM ({parts}) AS every LIMIT :enough) AS counted").bindparams(
        bindparam("created_at", type_=UtcTimestamp), bindparam("id", type_=Identifier)
    )
