"""Claims jobs: chooses the best queued job within the slots of a lane and sets it to `running`.

Use this module for jobs whose ids are known, and for lanes with aging or fairness. `storage.queue.exchange` claims the
best jobs of all other lanes. `RANK` in `storage.queue.exchange_statements` is the order of jobs.

Every claim writes a new `claim_token`. The executor's later writes contain the token, so they change nothing after the
executor has lost the job.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any

from sqlalchemy import Connection, Executable, Integer, Row, TextClause, bindparam, column, text

from storage.database.column_types import UtcTimestamp
from storage.database.driver_statement import DriverStatement, run_on
from storage.database.engine import Access, Database
from storage.database.tables import ATTENDED, DELAYED, READY, RUNNING, jobs
from storage.lifecycle.job_statement import JOB_COLUMNS, STILL_QUEUED, JobStatement, is_given, is_given_and_queued
from storage.lifecycle.notifications import fresh_since
from storage.queue.exchange_statements import DUE, NOT_ON_HOLD, RANK, TAKE, TAKE_SEVERAL
from storage.queue.lanes import COUNT_RUNNING_IN_LANE, free_slots
from storage.records import Job, Lane

#: Bounds between which every priority is.
ANY_PRIORITY = (-(2**31), 2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """The worker that claims, and the time of the claim."""

    worker_id: str
    now: datetime

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of one claim, with a new token."""
        return {"worker_id": self.worker_id, "now": self.now, "claim_token": os.urandom(16).hex()}


def claim_in_special_lane(
    connection: Connection, claimant: Claimant, *, lane: Lane, tenant_id: str | None, limit: int
) -> list[Job]:
    """Claim up to `limit` jobs of a lane with aging or fairness, within its slots, best first."""
    room = min(limit, free_slots(connection, lane))
    promote_due(connection, now=claimant.now)
    claimed: list[Job] = []
    while len(claimed) < room:
        ranked = rank_heads(connection, lane=lane, now=claimant.now, tenant_id=tenant_id)
        if not ranked:
            break
        job = _take(connection, claimant, ranked[0].id)
        claimed += [] if job is None else [job]
    return claimed


def rank_heads(connection: Connection, *, lane: Lane, now: datetime, tenant_id: str | None = None) -> list[Row[Any]]:
    """Return the first ready job of each tenant and priority, best first by the lane's aging and fairness."""
    bounds = {"min_priority": lane.min_priority, "max_priority": lane.max_priority}
    heads = connection.execute(_heads_statement(connection.dialect.name == "postgresql"), bounds).all()
    return _ranked(
        connection,
        [head for head in heads if tenant_id in (None, head.tenant_id)],
        lane=lane,
        now=now,
    )


def claim_awaited(
    database: Database, claimant: Claimant, *, lane: Lane, job_ids: Sequence[int], limit: int
) -> list[Job]:
    """Claim those of the jobs `job_ids` that get a free slot of the lane, best first, at most `limit`.

    These jobs compete with the jobs that live executors of other processes wait for. With N free slots, the best N jobs
    of both get a slot. Jobs outside the lane are ignored. The slots and holds of the lane are read again; its aging and
    fairness are taken from `lane`.
    """
    awaited = {
        "lane": lane.name,
        "job_ids": list(job_ids),
        "now": claimant.now,
        "fresh_since": fresh_since(claimant.now),
    }
    if not lane.is_plain:
        with database.begin() as connection:
            return _claim_by_own_rank(connection, claimant, lane, awaited, own=set(job_ids), limit=limit)
    parameters = claimant.parameters() | awaited | {"limit": limit}
    claim = _awaited_statement(database.is_postgresql)
    if not database.is_postgresql:
        # In SQLite a statement is atomic, so counting the slots needs no lock.
        claimed = database.run(claim, parameters)
    else:
        _, claimed = database.run_together([(_LOCK_LANE, {"lane": lane.name}), (claim, parameters)])
    return sorted(claimed, key=lambda job: (-job.priority, job.created_at, job.id))


def claim_by_id(connection: Connection, claimant: Claimant, job_id: int) -> Job | None:
    """Claim a job if it is queued, regardless of better jobs and of the slots of its lane."""
    return _take(connection, claimant, job_id)


def promote_due(connection: Connection, *, now: datetime) -> int:
    """Make queued jobs ready whose `run_after` has passed, and return their number. Claims read only ready jobs."""
    return connection.execute(_promote_statement(connection.dialect.name == "postgresql"), {"now": now}).rowcount


def next_due_at(database: Database) -> datetime | None:
    """Return the time at which the first delayed job is due, which may be in the past; None if no job is delayed."""
    found = Access(database).look(_next_due(database.is_postgresql), {})
    return found[0][0] if found else None


def new_worker_id(name: str) -> str:
    """Return a worker id that is new for each start, so that a restarted worker differs from its dead predecessor."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def _claim_by_own_rank(
    connection: Connection,
    claimant: Claimant,
    lane: Lane,
    awaited: dict[str, Any],
    *,
    own: set[int],
    limit: int,
) -> list[Job]:
    if connection.dialect.name == "postgresql":
        _LOCK_LANE.on(connection, {"lane": lane.name})
    is_postgresql = connection.dialect.name == "postgresql"
    given = awaited if is_postgresql else awaited | {"job_ids": json.dumps(awaited["job_ids"])}
    candidates = connection.execute(_candidates_statement(is_postgresql), given).all()
    free = candidates[0].free if candidates else 0
    claimed: list[Job] = []
    for candidate in _ranked(connection, candidates, lane=lane, now=claimant.now)[:free]:
        if candidate.id in own and len(claimed) < limit:
            job = _take(connection, claimant, candidate.id)
            if job is not None:
                claimed.append(job)
    return claimed


def _timed(sql: str) -> TextClause:
    return text(sql).bindparams(bindparam("now", type_=UtcTimestamp))


def _take(connection: Connection, claimant: Claimant, job_id: int) -> Job | None:
    taken = _TAKE_ONE.jobs(partial(run_on, connection), claimant.parameters() | {"id": job_id})
    return taken[0] if taken else None


def _is_open(lane: str) -> str:
    """Return the SQL condition that a row of `lanes` has this name, is not on hold, and has a free slot."""
    return f"""name = {lane} AND (slots IS NULL OR slots > ({COUNT_RUNNING_IN_LANE}))
        AND NOT EXISTS (SELECT 1 FROM holds WHERE holds.kind = 'lane' AND holds.name = lanes.name)"""


_LOCK_LANE = DriverStatement(
    "SELECT 1 FROM lanes WHERE name = :lane AND slots IS NOT NULL FOR UPDATE", is_planned_once=True
)

_TAKE_ONE = JobStatement(f"{TAKE} WHERE id = :id AND status = 'queued' RETURNING {JOB_COLUMNS}")


def _awaited(is_postgresql: bool) -> str:
    """Return a WITH clause for `awaited`: all jobs that compete for the lane's slots, including `:job_ids`.

    The column `free` is the number of free slots. If the lane has no free slot, `awaited` is empty.
    """
    may_run = f"""(run_after IS NULL OR run_after <= :now) AND held_by IS NULL
        AND priority BETWEEN open_lane.min_priority AND open_lane.max_priority AND {NOT_ON_HOLD}"""
    columns = "jobs.id, jobs.tenant_id, jobs.priority, jobs.created_at, open_lane.free"
    return f"""
        WITH open_lane AS MATERIALIZED (
            SELECT min_priority, max_priority, coalesce(slots - ({COUNT_RUNNING_IN_LANE}), 2147483647) AS free
            FROM lanes WHERE {_is_open(":lane")}
        ), awaited AS (
            SELECT {columns} FROM jobs{by_index(is_postgresql, "idx_jobs_attended")} CROSS JOIN open_lane
            WHERE {ATTENDED} AND heartbeat_at > :fresh_since AND {may_run}
            UNION
            SELECT {columns} FROM jobs CROSS JOIN open_lane
            WHERE {is_given_and_queued(is_postgresql=is_postgresql)} AND {may_run}
        )"""


@cache
def _awaited_statement(is_postgresql: bool) -> JobStatement:
    return JobStatement(
        f"""
        {_awaited(is_postgresql)}, entitled AS (
            SELECT id FROM (SELECT *, row_number() OVER (ORDER BY {RANK}) AS place FROM awaited) AS ranked
            WHERE place <= free AND {is_given("id", is_postgresql=is_postgresql)} ORDER BY place LIMIT :limit
        )
        {TAKE_SEVERAL} WHERE id IN (SELECT id FROM entitled) AND {STILL_QUEUED} RETURNING {JOB_COLUMNS}""",
        is_planned_once=True,
    )


@cache
def _candidates_statement(is_postgresql: bool) -> Executable:
    """Return a query of all jobs that compete for the slots of a lane with aging or fairness; Python ranks them."""
    times = [bindparam(name, type_=UtcTimestamp) for name in ("now", "fresh_since")]
    statement = text(f"{_awaited(is_postgresql)} SELECT * FROM awaited").bindparams(*times)
    return statement.columns(jobs.c.id, jobs.c.tenant_id, jobs.c.priority, jobs.c.created_at, column("free", Integer))


def by_index(is_postgresql: bool, index: str) -> str:
    """Return the clause after a table's name that makes SQLite use this index; empty on PostgreSQL."""
    # Without the clause, SQLite prefers the older indexes on `status`, which contain the whole queue.
    return "" if is_postgresql else f" INDEXED BY {index}"


@cache
def _promote_statement(is_postgresql: bool) -> TextClause:
    lock = " FOR UPDATE SKIP LOCKED" if is_postgresql else ""
    due = f"SELECT id FROM jobs{by_index(is_postgresql, 'idx_jobs_delayed')} WHERE {DUE}{lock}"
    return _timed(f"UPDATE jobs SET run_after = NULL WHERE id IN ({due})")


@cache
def _next_due(is_postgresql: bool) -> DriverStatement:
    # Jobs on hold are left out; they become due when the hold is released.
    delayed = f"jobs{by_index(is_postgresql, 'idx_jobs_delayed')} WHERE {DELAYED} AND held_by IS NULL"
    return DriverStatement(
        f"SELECT run_after FROM {delayed} ORDER BY run_after LIMIT 1", returns=(jobs.c.run_after,), is_planned_once=True
    )


@cache
def _heads_statement(is_postgresql: bool) -> TextClause:
    # The query reads one index entry for each tenant and priority, however long the queue is.
    ready = f"jobs{by_index(is_postgresql, 'idx_jobs_ready_tenant')} WHERE {READY}"
    return text(f"""
    WITH RECURSIVE tenants(tenant_id) AS (
        SELECT min(tenant_id) FROM {ready}
        UNION ALL
        SELECT (SELECT min(jobs.tenant_id) FROM {ready} AND jobs.tenant_id > tenants.tenant_id)
        FROM tenants WHERE tenants.tenant_id IS NOT NULL
    ), ranks(tenant_id, priority) AS (
        SELECT tenant_id, (
            SELECT max(jobs.priority) FROM {ready} AND jobs.tenant_id = tenants.tenant_id
                AND jobs.priority <= :max_priority
        ) FROM tenants WHERE tenant_id IS NOT NULL
        UNION ALL
        SELECT tenant_id, (
            SELECT max(jobs.priority) FROM {ready} AND jobs.tenant_id = ranks.tenant_id
                AND jobs.priority < ranks.priority
        ) FROM ranks WHERE priority >= :min_priority
    )
    {_lateral_heads(ready) if is_postgresql else _joined_heads(ready)}
    """).columns(jobs.c.id, jobs.c.tenant_id, jobs.c.priority, jobs.c.created_at)  # type: ignore[return-value]


def _lateral_heads(ready: str) -> str:
    # With a join, PostgreSQL might read the whole table, because it does not know how few tenants and priorities exist.
    return f"""SELECT head.* FROM ranks CROSS JOIN LATERAL (
            SELECT id, tenant_id, priority, created_at FROM {ready} AND jobs.tenant_id = ranks.tenant_id
                AND jobs.priority = ranks.priority AND {NOT_ON_HOLD} ORDER BY created_at, id LIMIT 1
        ) AS head WHERE ranks.priority >= :min_priority"""


def _joined_heads(ready: str) -> str:
    return f""", heads AS (
            SELECT (
                SELECT id FROM {ready} AND jobs.tenant_id = ranks.tenant_id AND jobs.priority = ranks.priority
                    AND {NOT_ON_HOLD} ORDER BY created_at, id LIMIT 1
            ) AS id FROM ranks WHERE priority >= :min_priority
        )
        SELECT jobs.id, jobs.tenant_id, jobs.priority, jobs.created_at FROM jobs JOIN heads ON heads.id = jobs.id"""


_RUNNING_BY_TENANT = text(f"""
    SELECT tenant_id, count(*) AS running FROM jobs
    WHERE {RUNNING} AND priority BETWEEN :min_priority AND :max_priority GROUP BY tenant_id
""")


def _ranked(connection: Connection, candidates: Sequence[Row[Any]], *, lane: Lane, now: datetime) -> list[Row[Any]]:
    running: dict[str, int] = {}
    if lane.fair_tenants:
        bounds = {"min_priority": lane.min_priority, "max_priority": lane.max_priority}
        running = {row.tenant_id: row.running for row in connection.execute(_RUNNING_BY_TENANT, bounds)}

    def rank(candidate: Row[Any]) -> tuple[int, int, datetime, int]:
        effective = candidate.priority
        if lane.aging_seconds:
            effective += int((now - candidate.created_at).total_seconds() // lane.aging_seconds)
        return (-effective, running.get(candidate.tenant_id, 0), candidate.created_at, candidate.id)

    return sorted(candidates, key=rank)
