"""Statistics about jobs: counts by status, type and lane, and how long the oldest ready job of a lane has waited.

The statistics are read only from indexes, so they are fast even with millions of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import Connection, Integer, TextClause, TextualSelect, func, select, text

from storage.database.engine import Access, Database
from storage.database.tables import DELAYED, HELD, READY, RUNNING, jobs
from storage.lifecycle.job_statement import by_index
from storage.queue.lanes import LanesRepository
from storage.records import JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLoad:
    """The load of a lane; `slots` is None without a limit, and `oldest_waiting_at` is None if no job is ready."""

    name: str
    slots: int | None
    running: int
    queued: int
    oldest_waiting_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJobs:
    """The number of queued and of running jobs."""

    queued: int
    running: int


class Statistics:
    """Statistics about the table `jobs`, in a `Database` or inside a caller's own transaction."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def count_by_status(self) -> dict[str, int]:
        """Return the number of jobs by status; 0 for a status without jobs."""
        statement = select(jobs.c.status, func.count()).group_by(jobs.c.status)
        counts = {str(status): 0 for status in JobStatus}
        with self._access.read() as connection:
            counts.update({row[0]: row[1] for row in connection.execute(statement)})
        return counts

    def open_by_type(self, *, limit: int = 1_000) -> dict[str, OpenJobs]:
        """Return the number of queued and running jobs by type, for the first `limit` types in order of name."""
        with self._access.read() as connection:
            rows = connection.execute(_OPEN_BY_TYPE, {"limit": limit})
            return {row.type: OpenJobs(queued=row.queued, running=row.running) for row in rows}

    def lanes(self) -> Sequence[LaneLoad]:
        """Return the load of each lane, the lane with the highest priorities first."""
        with self._access.read() as connection:
            lanes = LanesRepository(connection).list()
            is_postgresql = self._access.is_postgresql
            running, queued = (
                {row.priority: row.number for row in connection.execute(_count_by_priority(is_postgresql, status))}
                for status in ("running", "queued")
            )
            oldest = {row.priority: row.oldest for row in connection.execute(_oldest_by_priority(is_postgresql))}
        loads = []
        for lane in lanes:
            bounds = range(lane.min_priority, lane.max_priority + 1)
            waiting = [moment for priority, moment in oldest.items() if priority in bounds and moment is not None]
            loads.append(
                LaneLoad(
                    name=lane.name,
                    slots=lane.slots,
                    running=sum(count for priority, count in running.items() if priority in bounds),
                    queued=sum(count for priority, count in queued.items() if priority in bounds),
                    oldest_waiting_at=min(waiting, default=None),
                )
            )
        return loads

    def count_delayed(self) -> int:
        """Return the number of delayed jobs."""
        delayed = f"jobs{by_index(self._access.is_postgresql, 'idx_jobs_delayed')} WHERE {DELAYED}"
        with self._access.read() as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {delayed}")).scalar_one())


#: Conditions that together cover all jobs of a status. For each condition, an index has the priorities of its jobs.
_PARTS = {"running": (RUNNING,), "queued": (READY, DELAYED, HELD)}


@cache
def _count_by_priority(is_postgresql: bool, status: str) -> TextualSelect:
    if not is_postgresql:
        # With a partial index, SQLite would read each row, too, to check the status.
        parts = [f"jobs{by_index(is_postgresql, 'idx_jobs_status_priority_created')} WHERE status = '{status}'"]
    else:
        parts = [f"jobs WHERE {condition}" for condition in _PARTS[status]]
    counts = " UNION ALL ".join(f"SELECT priority, count(*) AS number FROM {part} GROUP BY priority" for part in parts)
    statement = f"SELECT priority, CAST(sum(number) AS bigint) AS number FROM ({counts}) AS parts GROUP BY priority"
    return text(statement).columns(jobs.c.priority, number=Integer)


# The query makes one index lookup for each type, and then counts only open jobs of the type.
_OPEN_BY_TYPE = text("""
    WITH RECURSIVE types(type) AS (
        SELECT min(type) FROM jobs
        UNION ALL
        SELECT (SELECT min(jobs.type) FROM jobs WHERE jobs.type > types.type) FROM types WHERE types.type IS NOT NULL
    )
    SELECT type,
        (SELECT count(*) FROM jobs WHERE jobs.type = types.type AND jobs.status = 'queued') AS queued,
        (SELECT count(*) FROM jobs WHERE jobs.type = types.type AND jobs.status = 'running') AS running
    FROM types WHERE type IS NOT NULL LIMIT :limit
""")


@cache
def _oldest_by_priority(is_postgresql: bool) -> TextClause:
    # The query makes one index lookup for each priority that has ready jobs, however many jobs there are.
    ready = f"jobs{by_index(is_postgresql, 'idx_jobs_ready')} WHERE {READY}"
    return text(f"""
        WITH RECURSIVE ranks(priority) AS (
            SELECT max(priority) FROM {ready}
            UNION ALL
            SELECT (SELECT max(jobs.priority) FROM {ready} AND jobs.priority < ranks.priority)
            FROM ranks WHERE ranks.priority IS NOT NULL
        )
        SELECT priority, (
            SELECT created_at FROM {ready} AND jobs.priority = ranks.priority ORDER BY created_at LIMIT 1
        ) AS oldest FROM ranks WHERE priority IS NOT NULL
    """).columns(jobs.c.priority, oldest=jobs.c.created_at.type)  # type: ignore[return-value]
