"""The order in which transactions lock several rows of `jobs`, so that no two of them wait for each other's rows."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, TextClause, and_, any_, func, select

from storage.database.tables import jobs

#: Queued jobs are locked before running jobs, because an exchange makes due jobs ready before it ends jobs.
LOCK_ORDER = (jobs.c.status, jobs.c.id)


def locked_jobs(connection: Connection, *conditions: ColumnElement[bool] | TextClause) -> ColumnElement[bool]:
    """Return the condition that a job meets the conditions, for a statement that changes several jobs.

    On PostgreSQL, the statement first locks these jobs in order. Otherwise the statement would lock the jobs in the
    order in which it finds them, and PostgreSQL ends one of two transactions that lock the same jobs in different
    orders.
    """
    if connection.dialect.name != "postgresql":
        return and_(*conditions)
    found = select(jobs.c.id).where(*conditions).order_by(*LOCK_ORDER).with_for_update(key_share=True)
    # PostgreSQL finds the jobs of an array by their ids. Without an array, it might join the query with all jobs, so
    # the query is made an array.
    return jobs.c.id == any_(func.array(found.correlate(None).scalar_subquery()))
