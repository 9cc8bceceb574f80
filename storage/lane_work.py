"""Which lanes have something to claim: one look that locks nothing, for workers that serve several lanes.

Not for claiming: what a look finds, another claimer may take first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from storage.claims import DUE, by_index
from storage.database import Access, Database
from storage.driver_statement import DriverStatement
from storage.tables import DELAYED, READY, jobs


def lanes_with_work(database: Database, names: Sequence[str], *, tenant_id: str | None = None) -> list[str]:
    """Those of the lanes in which a job is ready or due, in the order given.

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
    return DriverStatement(f"SELECT run_after FROM {delayed} ORDER BY run_after LIMIT 1", returns=(jobs.c.run_after,))


@cache
def _statement(is_postgresql: bool, for_tenant: bool) -> DriverStatement:
    of_tenant = "AND tenant_id = :tenant_id" if for_tenant else ""
    ready = by_index(is_postgresql, "idx_jobs_ready_tenant" if for_tenant else "idx_jobs_ready")
    due = by_index(is_postgresql, "idx_jobs_delayed")
    in_lane = f"priority BETWEEN lanes.min_priority AND lanes.max_priority {of_tenant}"
    return DriverStatement(f"""
        SELECT name FROM lanes
        WHERE EXISTS (SELECT 1 FROM jobs{ready} WHERE {READY} AND {in_lane})
            OR EXISTS (SELECT 1 FROM jobs{due} WHERE {DUE} AND {in_lane})""")
