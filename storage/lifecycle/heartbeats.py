"""Writes heartbeats: one statement for all jobs that a process runs, and one for all jobs that it waits for.

`flows.process.heartbeat_thread` decides how often they are written. `storage.queue.rescue` decides which running jobs
are abandoned, because their heartbeats stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import select, update

from storage.database.driver_statement import DriverStatement
from storage.database.engine import ANSWER_SECONDS, Database
from storage.database.given_values import among
from storage.database.tables import jobs, project_claims
from storage.lifecycle.job_statement import is_given_and_queued

#: An executor that waits for a queued job, and wrote no heartbeat for this number of seconds, counts as dead. The job
#: then no longer holds back jobs of lower rank.
WAITER_STALE_SECONDS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """The state of a job, for the processes that wait for it."""

    status: str
    run_after: datetime | None
    held_by: str | None


def write_heartbeats(database: Database, claims: Iterable[tuple[int, str]]) -> set[str]:
    """Write the heartbeats of running jobs, given as pairs of job id and claim token.

    Returns the tokens of jobs that the executor has lost: jobs that no longer run, or that have another token.

    On PostgreSQL locked rows are skipped. If a handler's transaction has locked the row of a job, the job is alive
    without a heartbeat. This lock must not delay the heartbeats of the other jobs of the process.
    """
    pairs = list(claims)
    if not pairs:
        return set()
    held = (
        jobs.c.id.in_([job_id for job_id, _ in pairs]),
        jobs.c.claim_token.in_([token for _, token in pairs]),
        jobs.c.status == "running",
    )
    free = select(jobs.c.id).where(*held).with_for_update(skip_locked=True)
    statement = update(jobs).where(jobs.c.id.in_(free)).values(heartbeat_at=database.clock())
    with database.begin_briefly(ANSWER_SECONDS) as connection:
        silent = {token for _, token in pairs} - set(
            connection.execute(statement.returning(jobs.c.claim_token)).scalars()
        )
        if silent and database.is_postgresql:
            silent -= set(connection.execute(select(jobs.c.claim_token).where(*held)).scalars())
    return silent


def renew_project_claims(database: Database, tokens: Collection[str]) -> None:
    """Renew the project claims of jobs that the executor has lost, given by their claim tokens.

    The handlers of these jobs may still work in the projects, until they next call `ctx.checkpoint`.
    """
    if tokens:
        with database.begin() as connection:
            held = among(project_claims.c.claim_token, tokens)
            connection.execute(update(project_claims).where(held).values(claimed_at=database.clock()))


def record_waiting(database: Database, job_ids: Sequence[int], *, worker_id: str) -> None:
    """Record that an executor waits for these queued jobs, so that no job with a lower rank gets a slot before them."""
    if job_ids:
        parameters = {"job_ids": list(job_ids), "now": database.clock(), "worker_id": worker_id}
        database.run(_record_waiting_statement(database.is_postgresql), parameters)


def clear_waiting(database: Database, job_ids: Sequence[int]) -> None:
    """Record that the executor no longer waits for these queued jobs."""
    if job_ids:
        database.run(_clear_waiting_statement(database.is_postgresql), {"job_ids": list(job_ids)})


def job_states(database: Database, job_ids: Sequence[int]) -> dict[int, JobState]:
    """Return the states of these jobs by job id; jobs that do not exist are left out."""
    if not job_ids:
        return {}
    with database.connect() as connection:
        columns = (jobs.c.id, jobs.c.status, jobs.c.run_after, jobs.c.held_by)
        rows = connection.execute(select(*columns).where(among(jobs.c.id, job_ids)))
        return {row.id: JobState(status=row.status, run_after=row.run_after, held_by=row.held_by) for row in rows}


@cache
def _record_waiting_statement(is_postgresql: bool) -> DriverStatement:
    waiting = f"SELECT id FROM jobs WHERE {is_given_and_queued(is_postgresql=is_postgresql)}"
    lock = "FOR UPDATE SKIP LOCKED" if is_postgresql else ""
    # If several executors wait for a job, the id of the first is kept, because each new id would also change the
    # indexes.
    return DriverStatement(
        f"""UPDATE jobs SET heartbeat_at = :now, worker_id = coalesce(worker_id, :worker_id)
        WHERE id IN ({waiting} {lock})""",
        is_planned_once=True,
    )


@cache
def _clear_waiting_statement(is_postgresql: bool) -> DriverStatement:
    return DriverStatement(
        f"""UPDATE jobs SET heartbeat_at = NULL, worker_id = NULL
        WHERE {is_given_and_queued(is_postgresql=is_postgresql)}""",
        is_planned_once=True,
    )
