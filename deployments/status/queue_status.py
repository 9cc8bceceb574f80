"""Reads everything that `photojobs status` shows: rows in one transaction, schedules from Prefect's server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from deployments.server.running_up import server_errors, server_of
from deployments.status.listed_rows import LaneFigures, lane_figures
from deployments.status.scheduled_runs import ScheduledRun, scheduled_runs
from storage.database.engine import Database
from storage.lifecycle.job_listings import check_page
from storage.photos.verification import VerificationRepository
from storage.queue.holds import Hold, HoldsRepository
from storage.queue.tasks import TasksRepository
from storage.records import Job, Task
from storage.reports.executor_activity import Activity
from storage.reports.queue_overview import Failure, latest_failures, running_jobs, waiting_jobs
from storage.reports.statistics import Statistics
from storage.reports.waiting_reasons import Reason, WaitingReasons
from storage.settings import Settings
from task_definitions import TaskDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A running job, and its speed.

    Attributes:
        seconds: the time since the job's start.
        silent_seconds: the time since the job's last heartbeat.
        rate: finished items or projects per second; None until the first one is finished.
        remaining_seconds: the remaining time at this rate; None if the rate or the total is not known.
    """

    job: Job
    seconds: float
    silent_seconds: float
    rate: float | None
    remaining_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """A waiting job, the time since its creation, and the reason that decides how long it waits."""

    job: Job
    seconds: float
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """The state of the queue at the moment `at` of the database's clock; long lists are cut off.

    Attributes:
        tenant_id: the tenant of the listed jobs, failures and tasks; None for all tenants.
        jobs: the number of jobs of all tenants in each status.
        delayed: the number of queued jobs of all tenants that must not start yet.
        corrupt_originals: the number of originals of `tenant_id` that are recorded as corrupt.
        scheduler_errors: the number of errors that the scheduler has logged since `photojobs up` started the server.
    """

    at: datetime
    database: str
    tenant_id: str | None
    jobs: Mapping[str, int]
    delayed: int
    activity: Activity
    lanes: tuple[LaneFigures, ...]
    running: tuple[RunningJob, ...]
    waiting: tuple[WaitingJob, ...]
    failures: tuple[Failure, ...]
    tasks: tuple[Task, ...]
    holds: tuple[Hold, ...]
    schedules: tuple[ScheduledRun, ...]
    scheduler_errors: int
    corrupt_originals: int


def read_status(
    database: Database,
    settings: Settings,
    definitions: Mapping[str, TaskDefinition],
    *,
    tenant_id: str | None,
    limit: int,
) -> QueueStatus:
    """Read what runs, what waits, what failed and what comes next.

    With `tenant_id`, only jobs, failures, tasks and corrupt originals of this tenant are read. Lanes, holds, schedules
    and the counts `jobs` and `delayed` are those of all tenants.
    Each list has at most `limit` entries, except lanes, holds and schedules.

    Raises:
        InvalidSettings: the settings have an invalid schedule.
        InvalidValue: `limit` is negative, or is not a whole number.
    """
    check_page(limit=limit)
    now = database.clock()
    with database.connect() as connection:
        reasons = WaitingReasons(connection, now=now, stale_seconds=settings.stale_seconds)
        running = running_jobs(connection, limit=limit, tenant_id=tenant_id)
        waiting = [
            WaitingJob(job=job, seconds=_since(job.created_at, now), reason=reasons.explain(job).decisive)
            for job in waiting_jobs(connection, limit=limit, tenant_id=tenant_id)
        ]
        statistics = Statistics(connection)
        return QueueStatus(
            at=now,
            database=database.url,
            tenant_id=tenant_id,
            jobs=statistics.count_by_status(),
            delayed=statistics.count_delayed(),
            activity=reasons.activity,
            lanes=tuple(lane_figures(connection)),
            running=tuple(_running(job, now) for job in running),
            waiting=tuple(waiting),
            failures=tuple(latest_failures(connection, limit=limit, tenant_id=tenant_id)),
            tasks=tuple(_tasks(TasksRepository(connection), tenant_id, limit)),
            holds=tuple(HoldsRepository(connection).list()),
            schedules=tuple(scheduled_runs(definitions, settings, server_of(database))),
            scheduler_errors=sum(error.is_of_scheduler for error in server_errors(database)),
            corrupt_originals=VerificationRepository(connection).count_corrupt(tenant_id=tenant_id),
        )


def _tasks(repository: TasksRepository, tenant_id: str | None, limit: int) -> list[Task]:
    """Return at most `limit` tasks: running ones first, then queued ones, then the latest ended ones."""
    tasks = [
        task
        for status in ("running", "queued")
        for task in repository.list_newest(limit=limit, tenant_id=tenant_id, status=status)
    ]
    latest = repository.list_newest(limit=limit, tenant_id=tenant_id)
    return [*tasks, *(task for task in latest if task.is_final)][:limit]


def _running(job: Job, now: datetime) -> RunningJob:
    began = job.started_at or job.created_at
    seconds, done = _since(began, now), job.progress_done or 0
    rate = done / seconds if done and seconds else None
    left = None if rate is None or job.progress_total is None else max(0, job.progress_total - done) / rate
    silent_seconds = _since(job.heartbeat_at or began, now)
    return RunningJob(job=job, seconds=seconds, silent_seconds=silent_seconds, rate=rate, remaining_seconds=left)


def _since(moment: datetime | None, now: datetime) -> float:
    # The moment is None if another program has written a text that is not a time.
    return max(0.0, (now - (moment or now)).total_seconds())
