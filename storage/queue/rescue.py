"""Rescue: running jobs whose executor went silent are queued again, or failed where they had their last attempt."""

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

#: The reason that a job carries whose executor died at its last attempt.
WORKER_LOST = "worker lost: its heartbeat stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """What a rescue did: ids of jobs that were queued again, and of those that had no attempt left."""

    requeued: tuple[int, ...]
    failed: tuple[int, ...]


def find_silent(database: Database, *, stale_seconds: float) -> dict[int, datetime]:
    """The running jobs that have been silent for so long: job id to its last sign of life."""
    with database.connect() as connection:
        statement = select(jobs.c.id, _last_sign).where(text(RUNNING), _is_silent(database, stale_seconds))
        return {row[0]: row[1] for row in connection.execute(statement)}


def rescue_stale(
    database: Database,
    *,
    stale_seconds: float,
    max_attempts: int,
    suspects: Mapping[int, datetime] | None = None,
) -> Rescued:
    """Queue running jobs that have been silent for `stale_seconds` again, as one attempt more.

    A job that had its last attempt fails with "worker lost" instead. A job whose heart beats is never touched,
    however long it runs.

    Args:
        database: where the jobs are.
        stale_seconds: a heartbeat older than this is a dead executor's.
        max_attempts: for jobs that have no `max_attempts` of their own.
        suspects: what `find_silent` found a while ago; only those are rescued, and only if they are still as silent. A
            machine that slept, or a database that was away, makes living executors look dead until their next beat.
    """
    with database.begin() as connection:
        now = database.clock()
        found = connection.execute(
            select(jobs.c.id, _last_sign).where(text(RUNNING), _is_silent(database, stale_seconds))
        ).all()
        silent = [row[0] for row in found if suspects is None or suspects.get(row[0]) == row[1]]
        if not silent:
            return Rescued(requeued=(), failed=())
        lock_tasks_of(connection, among(jobs.c.id, silent))
        # A row that is locked is in use by an executor, which is alive then.
        mine = among(
            jobs.c.id,
            connection.execute(
                select(jobs.c.id)
                .where(among(jobs.c.id, silent), jobs.c.status == "running", _is_silent(database, stale_seconds))
                .with_for_update(skip_locked=True)
            )
            .scalars()
            .all(),
        )
        rescued = _give_up_attempt(connection, mine, max_attempts=max_attempts, now=now, reason=WORKER_LOST)
    settle_after(Access(database), rescued.failed)
    return rescued


def give_up_attempt(database: Database, *, job_id: int, claim_token: str, max_attempts: int, reason: str) -> Rescued:
    """Queue a claimed job that this process began and can no longer end, as one attempt more; or fail it, at its last.

    Args:
        database: where the job is.
        job_id: the job.
        claim_token: of the claim; nothing is changed if the job has another one by now.
        max_attempts: for a job that has no `max_attempts` of its own.
        reason: becomes the error message of the job.
    """
    with database.begin() as connection:
        claimed = (jobs.c.id == job_id) & (jobs.c.claim_token == claim_token) & (jobs.c.status == "running")
        given_up = _give_up_attempt(connection, claimed, max_attempts=max_attempts, now=database.clock(), reason=reason)
    settle_after(Access(database), given_up.failed)
    return given_up


def give_back_lost(
    database: Database, *, worker_id: str, known: Collection[str], older_than_seconds: float
) -> list[int]:
    """Hand back claims of an executor's own that it does not know of; returns the jobs' ids.

    The connection broke when a claim was committed, so that its answer got lost. The executor has not begun the job, so
    it costs no attempt. A claim that the executor began is among those that it knows: `give_up_attempt` is for it.

    Args:
        database: where the jobs are.
        worker_id: the executor's.
        known: the tokens of the claims that it knows of.
        older_than_seconds: claims younger than this may still be on their way to it; longer than it trusts one.
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
    # Their executors are dead, or have stopped: they work in no project any more.
    gone = among(project_claims.c.job_id, [job.id for job in (*failed, *requeued)])
    connection.execute(delete(project_claims).where(gone))
    return Rescued(requeued=tuple(sorted(job.id for job in requeued)), failed=tuple(sorted(job.id for job in failed)))


_last_sign = func.coalesce(jobs.c.heartbeat_at, jobs.c.started_at, jobs.c.created_at, type_=jobs.c.heartbeat_at.type)


def _is_silent(database: Database, stale_seconds: float) -> ColumnElement[bool]:
    return _last_sign < database.clock() - timedelta(seconds=stale_seconds)
