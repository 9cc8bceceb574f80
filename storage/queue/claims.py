"""Claims single jobs by their ids, and jobs of lanes with aging or fairness.

`storage.queue.exchange` claims the jobs of all other lanes. `RANK` in `storage.queue.exchange_statements` is the
order of jobs: it decides which job runs next.

Every claim writes a new `claim_token`. The executor's later writes contain the token, so they change nothing after the
executor has lost the job.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Executable, Row, TextClause, bindparam, text

from storage.database.column_types import UtcTimestamp
from storage.database.driver_statement import DriverStatement
from storage.database.engine import Database
from storage.database.tables import DELAYED, READY, RUNNING, jobs
from storage.lifecycle.job_statement import JOB_COLUMNS, JobStatement, by_index
from storage.lifecycle.notifications import fresh
from storage.queue.exchange_statements import NOT_ON_HOLD, TAKE, awaited, promote
from storage.queue.lanes import free_slots
from storage.records import Job, Lane

#: Bounds that include each priority, also the priorities that other programs write by SQL.
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
    connection: Connection,
    claimant: Claimant,
    *,
    lane: Lane,
    tenant_id: str | None,
    limit: int,
    job_ids: Sequence[int] | None = None,
) -> list[Job]:
    """Claim up to `limit` jobs of a lane with aging or fairness, within its slots, best first.

    With `job_ids`, claim only jobs in this list that are also among the best N jobs for which any process waits. N is
    the number of free slots.
    """
    free = max(0, free_slots(connection, lane))
    if job_ids is not None:
        return _claim_awaited(connection, claimant, lane, job_ids, free=free, limit=limit)
    room = min(limit, free)
    promote_due(connection, now=claimant.now)
    claimed: list[Job] = []
    while len(claimed) < room:
        ranked = rank_heads(connection, lane=lane, now=claimant.now, tenant_id=tenant_id)
        if not ranked:
            break
        job = claim_by_id(connection, claimant, ranked[0].id)
        claimed += [] if job is None else [job]
    return claimed


def rank_heads(connection: Connection, *, lane: Lane, now: datetime, tenant_id: str | None = None) -> list[Row[Any]]:
    """Return a lane's first ready job of each tenant and priority, best first by the lane's aging and fairness."""
    bounds = {"min_priority": lane.min_priority, "max_priority": lane.max_priority}
    heads = connection.execute(_heads_statement(connection.dialect.name == "postgresql"), bounds).all()
    running = _running_by_tenant(connection, lane)
    return sorted(
        (head for head in heads if tenant_id in (None, head.tenant_id)),
        key=lambda head: _rank(head, running, lane=lane, now=now),
    )


def claim_by_id(connection: Connection, claimant: Claimant, job_id: int) -> Job | None:
    """Claim a job regardless of better jobs, slots, holds and delays; return None if it is not queued."""
    taken = _TAKE_ONE.on(connection, claimant.parameters() | {"id": job_id})
    return taken[0] if taken else None


_TAKE_ONE = JobStatement(f"{TAKE} WHERE id = :id AND status = 'queued' RETURNING {JOB_COLUMNS}")


def promote_due(connection: Connection, *, now: datetime) -> int:
    """Make delayed jobs ready if their `run_after` has passed and no hold applies; return the number of these jobs."""
    statement = text(promote(is_postgresql=connection.dialect.name == "postgresql"))
    return connection.execute(statement.bindparams(bindparam("now", type_=UtcTimestamp)), {"now": now}).rowcount


def next_due_at(database: Database) -> datetime | None:
    """Return the time at which the first delayed job is due, which may be in the past.

    Jobs on hold do not count. Returns None if no other job is delayed.
    """
    found = database.run(_next_due(database.is_postgresql), {})
    return found[0][0] if found else None


def new_worker_id(name: str) -> str:
    """Return a worker id that is unique for each start.

    So a restarted worker has another id than the worker that died.
    """
    return f"{name}-{uuid.uuid4().hex[:12]}"


def _claim_awaited(
    connection: Connection, claimant: Claimant, lane: Lane, job_ids: Sequence[int], *, free: int, limit: int
) -> list[Job]:
    is_postgresql = connection.dialect.name == "postgresql"
    given = {
        "job_ids": list(job_ids) if is_postgresql else json.dumps(list(job_ids)),
        "min_priority": lane.min_priority,
        "max_priority": lane.max_priority,
        "now": claimant.now,
        **fresh(claimant.now),
    }
    candidates = connection.execute(_candidates_statement(is_postgresql), given).all()
    own = set(job_ids)
    claimed: list[Job] = []
    for candidate in islice(_in_turn(connection, candidates, lane=lane, now=claimant.now), free):
        if candidate.id in own and len(claimed) < limit:
            job = claim_by_id(connection, claimant, candidate.id)
            claimed += [] if job is None else [job]
    return claimed


@cache
def _candidates_statement(is_postgresql: bool) -> Executable:
    """Return a query of all jobs that compete for the slots of a lane with aging or fairness; Python ranks them."""
    number = "CAST({} AS integer) AS {}"
    bounds = ", ".join(number.format(f":{name}", name) for name in ("min_priority", "max_priority"))
    times = [bindparam(name, type_=UtcTimestamp) for name in ("now", "fresh_since", "fresh_until")]
    lane = f"SELECT {bounds}, 0 AS place, 0 AS free"
    competing = awaited(is_postgresql=is_postgresql)
    statement = text(f"WITH chosen AS MATERIALIZED ({lane}), {competing} SELECT * FROM awaited").bindparams(*times)
    return statement.columns(jobs.c.id, jobs.c.tenant_id, jobs.c.priority, jobs.c.created_at)


@cache
def _next_due(is_postgresql: bool) -> DriverStatement:
    # Held jobs are left out, because they cannot start when their delay ends.
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


def rank(job: Job) -> tuple[int, datetime, int]:
    """Return the key that sorts jobs in the order of `RANK`; the job with the smallest key runs next."""
    return (-job.priority, _place_in_time(job), job.id)


def _place_in_time(job: Job | Row[Any]) -> datetime:
    # If another program wrote a text that is not a time, the job comes last.
    created_at: datetime | None = job.created_at
    return created_at or datetime.max.replace(tzinfo=UTC)


def _in_turn(
    connection: Connection, candidates: Sequence[Row[Any]], *, lane: Lane, now: datetime
) -> Iterator[Row[Any]]:
    """Yield the candidates in the order in which they get slots: each counts as running for the next choice."""
    running = _running_by_tenant(connection, lane)
    waiting: dict[str, deque[Row[Any]]] = {}
    for candidate in sorted(candidates, key=lambda candidate: _rank(candidate, {}, lane=lane, now=now)):
        waiting.setdefault(candidate.tenant_id, deque()).append(candidate)
    while waiting:
        head = min(
            (of_tenant[0] for of_tenant in waiting.values()), key=lambda one: _rank(one, running, lane=lane, now=now)
        )
        running[head.tenant_id] += lane.fair_tenants
        waiting[head.tenant_id].popleft()
        if not waiting[head.tenant_id]:
            del waiting[head.tenant_id]
        yield head


def _running_by_tenant(connection: Connection, lane: Lane) -> Counter[str]:
    """Return the number of running jobs of each tenant in a lane with fairness; no numbers for other lanes."""
    if not lane.fair_tenants:
        return Counter()
    bounds = {"min_priority": lane.min_priority, "max_priority": lane.max_priority}
    return Counter({row.tenant_id: row.running for row in connection.execute(_RUNNING_BY_TENANT, bounds)})


def _rank(
    candidate: Row[Any], running: Mapping[str, int], *, lane: Lane, now: datetime
) -> tuple[int, int, datetime, int]:
    effective = candidate.priority
    if lane.aging_seconds and candidate.created_at is not None:
        effective += int((now - candidate.created_at).total_seconds() // lane.aging_seconds)
    return (-effective, running.get(candidate.tenant_id, 0), _place_in_time(candidate), candidate.id)
