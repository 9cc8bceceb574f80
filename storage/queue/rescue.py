"""Decides which running jobs are abandoned, because their executor died: queues them again, or fails them.

A job without a heartbeat for the setting `stale_seconds` is abandoned. An abandoned job fails if no attempt is left.
`flows.execution.sweep` calls this module every few seconds, and looks twice before it counts a job as abandoned.
`deployments.serving.flow_run_recovery` restarts flow runs whose process died.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, literal_column, select, text

from storage.database.engine import Access, Database
from storage.database.given_values import among
from storage.database.tables import RUNNING, jobs, project_claims
from storage.lifecycle.state_machine import end_jobs, give_back, lock_tasks_of
from storage.queue.exchange import settle_after
from storage.records import Job, JobStatus

#: The error message of a job whose executor died.
WORKER_LOST = (
    "worker lost: its heartbeats stopped. Find out why its process died, froze or lost the connection to the database."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """The ids of the jobs that a rescue queued again, and of the jobs that failed because no attempt was left."""

    requeued: tuple[int, ...]
    failed: tuple[int, ...]


def find_silent(database: Database, *, stale_seconds: float) -> dict[int, datetime]:
    """Find running jobs that had no heartbeat for `stale_seconds`, and return their last heartbeats by job id.

    Jobs whose last heartbeat is more than `stale_seconds` in the future are found, too: the clock may have been set
    back after their executor died.
    """
    with database.connect() as connection:
        return _find_silent(connection, is_silent(database.clock(), timedelta(seconds=stale_seconds)))


def rescue_stale(
    database: Database,
    *,
    stale_seconds: float,
    max_attempts: int,
    suspects: Mapping[int, datetime] | None = None,
) -> Rescued:
    """Queue running jobs again that had no heartbeat for `stale_seconds`, and count one attempt.

    A job without an attempt left fails with "worker lost" instead; `max_attempts` is the maximum for jobs that have no
    maximum of their own. A job with heartbeats is never changed, however long it runs.

    If `suspects`, an earlier result of `find_silent`, is given, only these jobs are rescued, and only if they had no
    heartbeat since. Two looks are needed, because after a machine slept or the database was unavailable, live executors
    look dead until their next heartbeat.
    """
    with database.begin() as connection:
        now, stale = database.clock(), timedelta(seconds=stale_seconds)
        found = _find_silent(connection, is_silent(now, stale))
        silent = [job_id for job_id, _ in (found.items() if suspects is None else found.items() & suspects.items())]
        if not silent:
            return Rescued(requeued=(), failed=())
        lock_tasks_of(connection, among(jobs.c.id, silent))
        # A locked row is left out: an executor uses it, so the executor is alive. The time is read again, because the
        # locks of the tasks may have taken long.
        mine = among(
            jobs.c.id,
            connection.execute(
                select(jobs.c.id)
                .where(among(jobs.c.id, silent), jobs.c.status == "running", is_silent(database.clock(), stale))
                .with_for_update(skip_locked=True)
            )
            .scalars()
            .all(),
        )
        rescued = _give_up_attempt(connection, mine, max_attempts=max_attempts, now=now, reason=WORKER_LOST)
    settle_after(Access(database), rescued.failed)
    return rescued


def give_up_attempt(database: Database, *, job_id: int, claim_token: str, max_attempts: int, reason: str) -> Rescued:
    """Queue a job again that this process began and cannot end, and count the attempt. If none is left, the job fails.

    If the job no longer runs or has another claim token, nothing changes. `max_attempts` is the maximum for a job that
    has no maximum of its own.
    """
    with database.begin() as connection:
        claimed = (jobs.c.id == job_id) & (jobs.c.claim_token == claim_token) & (jobs.c.status == "running")
        given_up = _give_up_attempt(connection, claimed, max_attempts=max_attempts, now=database.clock(), reason=reason)
    settle_after(Access(database), given_up.failed)
    return given_up


def give_back_lost(
    database: Database, *, worker_id: str, known: Collection[str], older_than_seconds: float
) -> list[int]:
    """Queue jobs of an executor again if the executor does not know that it has claimed them; return their ids.

    Such jobs exist if the connection broke while a claim was committed, so that the result was lost. The executor has
    not begun such a job, so no attempt is counted. Use `give_up_attempt` for a job that the executor began.

    `known` has the tokens of the claims that the executor knows. `older_than_seconds` is the minimum age of the claims,
    because the result of a younger claim may still be on its way to the executor. This age must be longer than the time
    for which an executor works on a claim without asking the database whether the claim is still valid.
    """
    silent = (
        jobs.c.status == literal_column("'running'"),
        jobs.c.heartbeat_at < database.clock() - timedelta(seconds=older_than_seconds),
    )
    with database.connect() as connection:
        own = select(jobs.c.id, jobs.c.claim_token).where(jobs.c.worker_id == worker_id, *silent)
        lost = [row for row in connection.execute(own) if row.claim_token not in known]
    given_back: list[Job] = []
    for row in lost:
        with database.begin() as connection:
            this = (jobs.c.id == row.id, jobs.c.claim_token == row.claim_token, *silent)
            given_back += give_back(connection, *this, now=database.clock(), count_attempt=False)
    return [job.id for job in given_back]


def _give_up_attempt(
    connection: Connection, claimed: ColumnElement[bool], *, max_attempts: int, now: datetime, reason: str
) -> Rescued:
    spent = jobs.c.attempts + 1 >= func.coalesce(jobs.c.max_attempts, max_attempts)
    failed = end_jobs(connection, claimed, spent, status=JobStatus.FAILED, now=now, error_message=reason)
    requeued = give_back(connection, claimed, now=now, error_message=reason)
    # The executors are dead or have stopped, so their claims on projects are removed.
    removed = among(project_claims.c.job_id, [job.id for job in (*failed, *requeued)])
    connection.execute(delete(project_claims).where(removed))
    return Rescued(requeued=tuple(sorted(job.id for job in requeued)), failed=tuple(sorted(job.id for job in failed)))


def is_silent(now: datetime, stale: timedelta) -> ColumnElement[bool]:
    """Return the condition that a running job had its last heartbeat longer than `stale` before or after now."""
    return (_last_sign < now - stale) | (_last_sign > now + stale)


_last_sign = func.coalesce(jobs.c.heartbeat_at, jobs.c.started_at, jobs.c.created_at, type_=jobs.c.heartbeat_at.type)


def _find_silent(connection: Connection, condition: ColumnElement[bool]) -> dict[int, datetime]:
    return {row[0]: row[1] for row in connection.execute(select(jobs.c.id, _last_sign).where(text(RUNNING), condition))}
