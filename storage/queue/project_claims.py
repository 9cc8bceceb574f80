"""Claims on projects, so that two steps that change files never work in the same project at the same time.

A claim is a row with a job and its claim token. The executor deletes the row when it stops working in the project. This
may be after the end of the job, because the handler of a canceled job works until a call of `ctx.checkpoint` finds the
job canceled. If the job no longer runs, the claim is valid until its executor has written no heartbeat for
`stale_seconds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, insert, select

from storage.database.engine import Database
from storage.database.tables import jobs, project_claims, projects

#: Seconds without a heartbeat after which an executor counts as dead; the setting `stale_seconds` replaces this number.
STALE_SECONDS = 60.0

_IS_OF_RUNNING_JOB = (
    (jobs.c.id == project_claims.c.job_id)
    & (jobs.c.claim_token == project_claims.c.claim_token)
    & (jobs.c.status == "running")
)


def claim_projects(
    database: Database,
    project_ids: Sequence[int],
    *,
    job_id: int,
    claim_token: str,
    stale_seconds: float = STALE_SECONDS,
) -> bool:
    """Claim all given projects for a running job; claim none and return False if another executor has claimed one.

    The claim of a running job always counts. The claim of a job that no longer runs counts until its executor has
    written no heartbeat for `stale_seconds`. A project that does not exist is left out.
    """
    with database.begin() as connection:
        now, stale = database.clock(), timedelta(seconds=stale_seconds)
        # A claim that is much later than now does not count: its executor may have died before the clock was set
        # back.
        is_alive = project_claims.c.claimed_at.between(now - stale, now + stale)
        for project_id in sorted(set(project_ids)):
            if not _claim(connection, database, project_id, job_id, claim_token, is_alive):
                # While the job waits for this project, it must not keep other jobs from the projects already claimed.
                _release(connection, project_ids, claim_token)
                return False
    return True


def release_projects(database: Database, project_ids: Sequence[int], *, claim_token: str) -> None:
    """Release the projects that were claimed with this token.

    An executor that lost the job therefore does not release projects that the job's next executor has claimed.
    """
    with database.begin() as connection:
        _release(connection, project_ids, claim_token)


def claims_of(connection: Connection, *conditions: ColumnElement[bool]) -> Sequence[RowMapping]:
    """Return the claims of the jobs that meet the conditions.

    The removal of a job's row also removes its claims, so call this function before a removal.
    """
    claimed = project_claims.c.job_id.in_(select(jobs.c.id).where(*conditions))
    return connection.execute(select(project_claims).where(claimed)).mappings().all()


def pass_on_claims(connection: Connection, claims: Sequence[RowMapping], *, job_id: int, now: datetime) -> None:
    """Write claims of removed jobs again, for another job, because the executors may still work in the projects.

    The claims keep their tokens, so they are released by these executors and not by the job.
    """
    kept: list[dict[str, Any]] = [{**claim, "job_id": job_id, "claimed_at": now} for claim in claims]
    if kept:
        connection.execute(insert(project_claims), kept)


def claiming_jobs(connection: Connection, project_id: int) -> list[int]:
    """Return the ids of the running jobs that have claimed a project."""
    statement = (
        select(project_claims.c.job_id).join(jobs, _IS_OF_RUNNING_JOB).where(project_claims.c.project_id == project_id)
    )
    return list(connection.execute(statement).scalars())


def _claim(
    connection: Connection,
    database: Database,
    project_id: int,
    job_id: int,
    claim_token: str,
    is_alive: ColumnElement[bool],
) -> bool:
    # On PostgreSQL, the row lock makes simultaneous claims of the project wait for each other.
    known = connection.execute(select(projects.c.id).where(projects.c.id == project_id).with_for_update()).first()
    if known is None:
        return True
    holder = connection.execute(
        select(project_claims.c.job_id, project_claims.c.claim_token)
        .outerjoin(jobs, _IS_OF_RUNNING_JOB)
        .where(
            project_claims.c.project_id == project_id,
            jobs.c.id.is_not(None) | is_alive,
        )
    ).one_or_none()
    if holder is not None:
        return bool(holder.job_id == job_id and holder.claim_token == claim_token)
    connection.execute(delete(project_claims).where(project_claims.c.project_id == project_id))
    connection.execute(
        insert(project_claims).values(
            project_id=project_id, job_id=job_id, claim_token=claim_token, claimed_at=database.clock()
        )
    )
    return True


def _release(connection: Connection, project_ids: Sequence[int], claim_token: str) -> None:
    connection.execute(
        delete(project_claims).where(
            project_claims.c.project_id.in_(list(project_ids)), project_claims.c.claim_token == claim_token
        )
    )
