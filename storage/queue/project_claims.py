"""Claims on projects: two steps that change the files of a project never work on it at the same time.

A claim is a row that names a job and its claim token. The executor deletes it when it stops working in the project, not
when the job ends: the handler of a canceled job may work until its next checkpoint. If the job no longer runs, the
claim counts until it has had no heartbeat for `stale_seconds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from storage.database.engine import Database
from storage.database.tables import jobs, project_claims, projects

#: Seconds without a heartbeat after which an executor counts as dead; the settings can change it.
STALE_SECONDS = 60.0


def claim_projects(
    database: Database,
    project_ids: Sequence[int],
    *,
    job_id: int,
    claim_token: str,
    stale_seconds: float = STALE_SECONDS,
) -> bool:
    """Claim all of these projects for a running job, or none; returns False if another executor has one of them.

    Args:
        database: the database of the projects.
        project_ids: the projects.
        job_id: the job.
        claim_token: the claim token of the job.
        stale_seconds: an executor without a heartbeat for this long is dead.
    """
    with database.begin() as connection:
        silent_since = database.clock() - timedelta(seconds=stale_seconds)
        for project_id in sorted(set(project_ids)):
            if not _claim(connection, database, project_id, job_id, claim_token, silent_since):
                # All or none: a job that waits for a second project must not keep others from the first.
                _release(connection, project_ids, job_id, claim_token)
                return False
    return True


def release_projects(database: Database, project_ids: Sequence[int], *, job_id: int, claim_token: str) -> None:
    """Release the projects that are held with this claim token of the job.

    An executor that lost the job must not release projects that the job's next executor holds.
    """
    with database.begin() as connection:
        _release(connection, project_ids, job_id, claim_token)


def holders(connection: Connection, project_id: int) -> list[int]:
    """Return the ids of the running jobs that hold a project."""
    statement = (
        select(project_claims.c.job_id)
        .join(
            jobs,
            (jobs.c.id == project_claims.c.job_id)
            & (jobs.c.claim_token == project_claims.c.claim_token)
            & (jobs.c.status == "running"),
        )
        .where(project_claims.c.project_id == project_id)
    )
    return list(connection.execute(statement).scalars())


def _claim(
    connection: Connection,
    database: Database,
    project_id: int,
    job_id: int,
    claim_token: str,
    silent_since: datetime,
) -> bool:
    # The row lock makes simultaneous claims of the project take turns on PostgreSQL.
    known = connection.execute(select(projects.c.id).where(projects.c.id == project_id).with_for_update()).first()
    if known is None:
        return True
    holder = connection.execute(
        select(project_claims.c.job_id, project_claims.c.claim_token)
        .outerjoin(
            jobs,
            (jobs.c.id == project_claims.c.job_id)
            & (jobs.c.claim_token == project_claims.c.claim_token)
            & (jobs.c.status == "running"),
        )
        .where(
            project_claims.c.project_id == project_id,
            jobs.c.id.is_not(None) | (project_claims.c.claimed_at > silent_since),
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


def _release(connection: Connection, project_ids: Sequence[int], job_id: int, claim_token: str) -> None:
    connection.execute(
        delete(project_claims).where(
            project_claims.c.project_id.in_(list(project_ids)),
            project_claims.c.job_id == job_id,
            project_claims.c.claim_token == claim_token,
        )
    )
