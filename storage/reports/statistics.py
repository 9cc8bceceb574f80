"""Statistics about jobs: counts by status, type, tenant and lane, waiting and running times, and the oldest ready job.

Counts read only indexes, and times come from the latest ended jobs, so both are fast even with millions of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from statistics import quantiles

from sqlalchemy import Column, Connection, Integer, TextClause, TextualSelect, and_, func, select, text

from storage.database.engine import Access, Database
from storage.database.tables import DELAYED, HELD, READY, RUNNING, jobs
from storage.lifecycle.job_statement import by_index
from storage.queue.lanes import LanesRepository
from storage.records import Job, JobStatus

#: Times are computed from at most this number of jobs, those that ended last.
SAMPLE_SIZE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Statistics of a sample of durations; the numbers are None if the sample is empty."""

    sample_size: int
    average_seconds: float | None
    median_seconds: float | None
    p95_seconds: float | None
    longest_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLoad:
    """The load of a lane; `slots` is None if the lane has no limit."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Waiting times (before the last start) and running times of the latest ended jobs."""

    waiting: Durations
    running: Durations


class Statistics:
    """Statistics about the table `jobs`, in a `Database` or inside a caller's own transaction."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def count_by_status(self, *, tenant_id: str | None = None) -> dict[str, int]:
        """Return the number of jobs by status, of all tenants or of one tenant; 0 for a status without jobs."""
        statement = select(jobs.c.status, func.count()).group_by(jobs.c.status)
        if tenant_id is not None:
            statement = statement.where(jobs.c.tenant_id == tenant_id)
        counts = {str(status): 0 for status in JobStatus}
        with self._access.read() as connection:
            counts.update({row[0]: row[1] for row in connection.execute(statement)})
        return counts

    def count_by_type(self) -> dict[str, dict[str, int]]:
        """Return the number of jobs by type and status; a status without jobs is left out."""
        return self._count_pairs(jobs.c.type)

    def open_by_type(self, *, limit: int = 1_000) -> dict[str, OpenJobs]:
        """Return the number of queued and running jobs by type, for the first `limit` types in order of name."""
        with self._access.read() as connection:
            rows = connection.execute(_OPEN_BY_TYPE, {"limit": limit})
            return {row.type: OpenJobs(queued=row.queued, running=row.running) for row in rows}

    def count_by_tenant(self) -> dict[str, dict[str, int]]:
        """Return the number of jobs by tenant and status; a status without jobs is left out."""
        return self._count_pairs(jobs.c.tenant_id)

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

    def times(self, *, sample_size: int = SAMPLE_SIZE) -> Times:
        """Return the times that the latest `sample_size` ended jobs waited and ran.

        The waiting time begins with the creation and ends with the last start, so it includes intended delays and
        earlier attempts.
        """
        statement = (
            select(jobs.c.created_at, jobs.c.started_at, jobs.c.finished_at)
            .where(jobs.c.finished_at.is_not(None))
            .order_by(jobs.c.finished_at.desc())
            .limit(sample_size)
        )
        with self._access.read() as connection:
            # A time that another program wrote may not be readable as a time.
            rows = [row for row in connection.execute(statement) if None not in row]
        return Times(
            waiting=_durations([(row.started_at - row.created_at).total_seconds() for row in rows]),
            running=_durations([(row.finished_at - row.started_at).total_seconds() for row in rows]),
        )

    def oldest_waiting(self) -> Job | None:
        """Return the ready job that was enqueued first, or None if no job is ready."""
        with self._access.read() as connection:
            rows = connection.execute(_oldest_by_priority(self._access.is_postgresql)).all()
            oldest = min((row for row in rows if row.oldest is not None), key=lambda row: row.oldest, default=None)
            if oldest is None:
                return None
            same_moment = and_(text(READY), jobs.c.priority == oldest.priority, jobs.c.created_at == oldest.oldest)
            row = connection.execute(select(jobs).where(same_moment).order_by(jobs.c.id).limit(1)).mappings().first()
        return None if row is None else Job.from_row(row)

    def count_delayed(self) -> int:
        """Return the number of delayed jobs."""
        delayed = f"jobs{by_index(self._access.is_postgresql, 'idx_jobs_delayed')} WHERE {DELAYED}"
        with self._access.read() as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {delayed}")).scalar_one())

    def _count_pairs(self, column: Column[str]) -> dict[str, dict[str, int]]:
        statement = select(column, jobs.c.status, func.count()).group_by(column, jobs.c.status)
        counts: dict[str, dict[str, int]] = {}
        with self._access.read() as connection:
            for name, status, count in connection.execute(statement):
                counts.setdefault(name, {})[status] = count
        return counts


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


def _durations(seconds: Sequence[float]) -> Durations:
    if not seconds:
        return Durations(
            sample_size=0, average_seconds=None, median_seconds=None, p95_seconds=None, longest_seconds=None
        )
    # The clocks of two machines may differ slightly, so a duration may be negative.
    values = [max(0.0, value) for value in seconds]
    percentiles = quantiles(values, n=20, method="inclusive") if len(values) > 1 else values * 19
    return Durations(
        sample_size=len(values),
        average_seconds=sum(values) / len(values),
        median_seconds=percentiles[9],
        p95_seconds=percentiles[18],
        longest_seconds=max(values),
    )
