"""Which lanes have something to claim, and claiming there: for workers that serve several lanes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from storage.database.driver_statement import DriverStatement
from storage.database.engine import Access, Database
from storage.database.tables import DELAYED, jobs
from storage.queue.claims import Claimant, by_index, claim_in_first_lane, has_work
from storage.queue.jobs import JobsRepository
from storage.records import Job


def claim_from_lanes(
    database: Database, worker_id: str, lanes: Sequence[str], *, tenant_id: str | None = None
) -> Job | None:
    """Take the best job of the first of these lanes that gives one, or None where none does."""
    if database.is_postgresql:
        claimant = Claimant(worker_id=worker_id, now=database.clock())
        job, is_settled = claim_in_first_lane(database, claimant, lanes=lanes, tenant_id=tenant_id)
        if is_settled:
            return job
    jobs = JobsRepository(database)
    for lane in lanes_with_work(database, lanes, tenant_id=tenant_id):
        job = jobs.claim_next(worker_id, tenant_id=tenant_id, lane=lane)
        if job is not None:
            return job
    return None


def lanes_with_work(database: Database, names: Sequence[str], *, tenant_id: str | None = None) -> list[str]:
    """Those of the lanes in which a job is ready or due, in the order given; another claimer may take it first.

    A claim in a lane with slots locks the lane, and on PostgreSQL that is a commit to the disk even where nothing
    waits; a worker asks this first and claims only where it may get something.
    """
    parameters: dict[str, Any] = {"now": database.clock()}
    if tenant_id is not None:
        parameters["tenant_id"] = tenant_id
    statement = _statement(database.is_postgresql, tenant_id is not None)
    found = {name for (name,) in Access(database).look(statement, parameters)}
    return [name for name in names if name in found]


def next_due_at(database: Database) -> datetime | None:
    """When the first of the delayed jobs is due, which may be in the past; None where there is none."""
    found = Access(database).look(_next_due(database.is_postgresql), {})
    return found[0][0] if found else None


@cache
def _next_due(is_postgresql: bool) -> DriverStatement:
    # Those on hold become due when they are released.
    delayed = f"jobs{by_index(is_postgresql, 'idx_jobs_delayed')} WHERE {DELAYED} AND held_by IS NULL"
    return DriverStatement(
        f"SELECT run_after FROM {delayed} ORDER BY run_after LIMIT 1", returns=(jobs.c.run_after,), is_planned_once=True
    )


@cache
def _statement(is_postgresql: bool, for_tenant: bool) -> DriverStatement:
    return DriverStatement(
        f"SELECT name FROM lanes WHERE {has_work(is_postgresql=is_postgresql, for_tenant=for_tenant)}",
        is_planned_once=True,
    )
