"""The complete statements of `storage.queue.exchange` for each database.

A claim in lanes takes jobs from the lanes in the order of the parameter `lanes`, and within a lane in the order of
`RANK`. In a lane with aging or fair tenants, `_rank` in `storage.queue.claims` decides the order.
`flows.execution.worker` passes the lanes, by default the lane with the highest priorities first.

On PostgreSQL one statement ends jobs and claims other jobs. Without `PREPARE_POSTGRESQL`, this statement claims only
jobs for which no lane must be locked. `PREPARE_POSTGRESQL`, which runs before the statement in the same transaction,
locks lanes and stores their names in a setting of the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from typing_extensions import override

from storage.database.driver_statement import DriverStatement
from storage.database.tables import READY, UNFINISHED_TASK, WAITED_FOR
from storage.lifecycle.job_statement import (
    JOB_COLUMNS,
    STILL_QUEUED,
    JobStatement,
    by_index,
    is_given,
    is_given_and_queued,
)
from storage.lifecycle.notifications import IS_FRESH, has_waiters, notify_waiters
from storage.queue.lanes import COUNT_RUNNING_IN_LANE

#: The condition that neither the job's tenant nor its task is on hold.
NOT_ON_HOLD = """NOT EXISTS (SELECT 1 FROM holds WHERE (holds.kind = 'tenant' AND holds.name = jobs.tenant_id)
    OR (holds.kind = 'task' AND holds.name = jobs.task_id))"""
#: The condition that the delay of a queued job has passed, and that the job is not held.
DUE = "status = 'queued' AND run_after IS NOT NULL AND run_after <= :now AND held_by IS NULL"
#: The order of jobs: the first job in this order runs next. `storage.queue.claims.rank` is the same order in Python.
RANK = "priority DESC, created_at, id"
#: The columns that a claim writes.
TAKE = """UPDATE jobs SET status = 'running', started_at = :now, heartbeat_at = :now, updated_at = :now,
    finished_at = NULL, worker_id = :worker_id, claim_token = :claim_token"""
#: `TAKE` for several jobs. Each job gets its own token, because a process recognizes its claims by the token alone.
TAKE_SEVERAL = TAKE.replace(":claim_token", ":claim_token || '-' || jobs.id")


def promote(*, is_postgresql: bool) -> str:
    """Return the statement that makes due jobs ready."""
    of_due = f"{by_index(is_postgresql, 'idx_jobs_delayed')} WHERE {DUE}"
    locked = " ORDER BY run_after FOR UPDATE SKIP LOCKED" if is_postgresql else ""
    return f"UPDATE jobs SET run_after = NULL WHERE id IN (SELECT id FROM jobs{of_due}{locked})"


_IS_PLAIN = "aging_seconds IS NULL AND fair_tenants = 0"
_IN_LANE = "priority BETWEEN lanes.min_priority AND lanes.max_priority"
_NOT_HELD = "NOT EXISTS (SELECT 1 FROM holds WHERE holds.kind = 'lane' AND holds.name = lanes.name)"

# PostgreSQL.

_IS_OPEN_JOB = """(jobs.status = 'running' OR (jobs.status = 'queued' AND given.claim_token IS NULL)) IS TRUE
    AND (given.claim_token IS NULL OR jobs.claim_token = given.claim_token)"""

_ENDED = f"""
    given AS MATERIALIZED (
        SELECT * FROM json_to_recordset(CAST(:ended AS json))
            AS given(id bigint, claim_token text, status text, error_message text, result text)
    ), ended AS (
        UPDATE jobs SET status = given.status, finished_at = :now, updated_at = :now, run_after = NULL,
            error_message = coalesce(given.error_message, jobs.error_message),
            result_json = coalesce(CAST(given.result AS jsonb), jobs.result_json),
            last_error_at = CASE given.status WHEN 'failed' THEN :now ELSE jobs.last_error_at END
        FROM given WHERE jobs.id = given.id AND {_IS_OPEN_JOB}
        RETURNING jobs.*, given.claim_token IS NOT NULL AS ran
    ), kept AS (
        UPDATE project_claims SET claimed_at = :now FROM ended WHERE project_claims.job_id = ended.id AND NOT ran
    )"""

#: The lanes that `PREPARE_POSTGRESQL` has locked in this transaction; NULL if it has not run.
_LOCKED = "CAST(nullif(current_setting('photojobs.locked', true), '') AS text[])"
#: Our sessions switch sorts off, so PostgreSQL can obey `ORDER BY run_after` only by the index of `run_after`. Without
#: `ORDER BY`, a plan that was made while the queue was empty could read the whole queue by an index of the status. In
#: `EXISTS (...)`, PostgreSQL ignores `ORDER BY`, so the query is compared with NULL instead.
_IS_DUE = f"(SELECT 1 FROM jobs WHERE {DUE} ORDER BY run_after LIMIT 1) IS NOT NULL"
_IS_READY = f"(SELECT 1 FROM jobs WHERE {READY} AND {_IN_LANE} ORDER BY priority DESC LIMIT 1) IS NOT NULL"
_IS_READY_OF_TENANT = f"""(SELECT 1 FROM jobs WHERE {READY} AND tenant_id = :tenant_id AND {_IN_LANE}
    ORDER BY priority DESC LIMIT 1) IS NOT NULL"""
_IS_READY_OF_GIVEN = f"""(SELECT 1 FROM jobs WHERE {is_given_and_queued(is_postgresql=True)}
    AND run_after IS NULL AND held_by IS NULL AND {_IN_LANE} LIMIT 1) IS NOT NULL"""
_ARE_KNOWN = "CAST(:lanes AS text[]) <@ (SELECT array_agg(CAST(name AS text)) FROM lanes)"

#: Makes due jobs ready, and locks the lanes in `:lanes` of which the claim may need a free slot. Lanes without a limit
#: of slots and lanes with aging or fairness are not locked. Returns the names of all lanes.
PREPARE_POSTGRESQL = DriverStatement(
    f"""
    WITH promoted AS ({promote(is_postgresql=True)}), locked AS MATERIALIZED (
        SELECT name FROM lanes WHERE name = ANY(CAST(:lanes AS text[])) AND slots IS NOT NULL AND {_IS_PLAIN}
            AND {_NOT_HELD} AND slots > ({COUNT_RUNNING_IN_LANE}) AND ({_IS_READY} OR {_IS_DUE})
        ORDER BY name FOR UPDATE
    )
    SELECT (SELECT array_agg(name) FROM lanes),
        set_config('photojobs.locked', coalesce((SELECT CAST(array_agg(name) AS text) FROM locked), '{{}}'), true)""",
    is_planned_once=True,
)

#: The tables from which a claim in lanes chooses:
#:
#: * `open` has the lanes in `:lanes` that are not on hold and have a free slot.
#: * `open.free` is the number of slots that this statement may take in the lane. In a lane that is not locked, these
#:   are only the slots that the statement frees itself: other transactions count these slots as taken until the commit.
#: * `stop` is the first lane with a ready job that this statement cannot claim from: because of aging or fairness, or
#:   because the lane must be locked first.
#: * `chosen` has the lanes to claim from: the lanes before `stop`, and `stop` itself if it has neither aging nor
#: fairness.
#:
#: `is_ready` is the condition that the lane has a ready job of the kind that the caller wants. If the lane has
#: none, another transaction would claim nothing, so the lane does not stop the claim.
_LANES = f"""
    open AS MATERIALIZED (
        SELECT *, CASE WHEN slots IS NULL OR name = ANY({_LOCKED}) THEN room ELSE least(freed, room) END AS free
        FROM (
            SELECT lanes.*, freed, array_position(CAST(:lanes AS text[]), name) AS place, {_IS_PLAIN} AS is_plain,
                CASE WHEN slots IS NULL THEN 2147483647 ELSE slots - ({COUNT_RUNNING_IN_LANE}) + freed END AS room
            FROM lanes CROSS JOIN LATERAL (
                SELECT count(*) AS freed FROM ended WHERE ran AND {_IN_LANE}
            ) AS freed WHERE name = ANY(CAST(:lanes AS text[])) AND {_NOT_HELD} OFFSET 0
        ) AS lanes WHERE room > 0
    ), stop AS MATERIALIZED (
        SELECT name, place, is_plain FROM open AS lanes
        WHERE (NOT is_plain OR (free < room AND {_LOCKED} IS NULL))
            AND {{is_ready}}
        ORDER BY place LIMIT 1
    ), chosen AS MATERIALIZED (
        SELECT * FROM open
        WHERE is_plain AND place <= coalesce((SELECT place FROM stop), 2147483647)
            AND {_ARE_KNOWN}
            AND ({_LOCKED} IS NOT NULL OR NOT {_IS_DUE})
    )"""

#: The definitions of the tables `stop` and `chosen` for a claim within bounds of priority, regardless of lanes.
_BOUNDS = f"""
    stop AS (SELECT CAST(NULL AS text) AS name, false AS is_plain WHERE false),
    chosen AS MATERIALIZED (
        SELECT CAST(:min_priority AS integer) AS min_priority, CAST(:max_priority AS integer) AS max_priority,
            0 AS place, 2147483647 AS free
        WHERE {_LOCKED} IS NOT NULL OR NOT {_IS_DUE}
    )"""

_BEST = """
    best AS MATERIALIZED (
        SELECT head.id FROM (SELECT * FROM chosen ORDER BY place) AS lanes CROSS JOIN LATERAL (
            SELECT id FROM jobs WHERE {ready} AND {not_on_hold} {of_tenant} AND {in_lane}
            ORDER BY {rank} LIMIT least(:limit, lanes.free) FOR UPDATE SKIP LOCKED
        ) AS head LIMIT :limit
    )"""

#: Whether a task may have to be settled, or a process may have to be woken. If the statement has claimed a job of the
#: same step, that job ends after the commit, so the step is not over. The exchange that ends that job checks the task.
_MUST_LOOK = f"""
    (SELECT count(*) FROM ended) < (SELECT count(*) FROM given)
    OR (SELECT count(*) FROM claimed) < (SELECT count(*) FROM ended)
    OR EXISTS (SELECT 1 FROM ended WHERE task_id IS NOT NULL AND (
        SELECT count(*) FROM claimed WHERE (claimed.task_id, claimed.step_index) = (ended.task_id, ended.step_index)
    ) = 0)
    OR {has_waiters("ended")}"""


class ExchangeStatement(JobStatement):
    """A statement that ends jobs and claims other jobs.

    `rows` returns one tuple with four values:

    - the ended and claimed jobs;
    - the name of the lane with aging or fairness at which the statement stopped, or None;
    - whether another statement, after `PREPARE_POSTGRESQL`, can claim more;
    - whether `LOOK_POSTGRESQL` must run after the commit.
    """

    @override
    def rows(self, found: Sequence[Sequence[Any]], dialect: str) -> list[Any]:
        return [(super().rows([row for row in found if row[0] is not None], dialect), *found[0][-3:])]


@cache
def exchange_statement(*, of_lanes: bool, for_tenant: bool = False, is_awaited: bool = False) -> ExchangeStatement:
    """Return the statement that ends the jobs `:ended` and claims the best jobs, up to `:limit`.

    If one of `:lanes` does not exist, the statement claims nothing.

    Args:
        of_lanes: whether to claim from `:lanes`, lane by lane, or from priorities within bounds.
        for_tenant: whether to claim ready jobs of `:tenant_id` only.
        is_awaited: whether to claim, instead of ready jobs, the jobs in `:job_ids` that are entitled to a slot.
    """
    best = _BEST.format(
        ready=READY,
        not_on_hold=NOT_ON_HOLD,
        of_tenant="AND tenant_id = :tenant_id" if for_tenant else "",
        in_lane=_IN_LANE,
        rank=RANK,
    )
    is_ready = _IS_READY_OF_TENANT if for_tenant else _IS_READY
    if is_awaited:
        is_ready = _IS_READY_OF_GIVEN
        best = f"{awaited(is_postgresql=True)}, best AS MATERIALIZED ({_entitled(is_postgresql=True)})"
    return ExchangeStatement(
        f"""
        WITH {_ENDED}, {_LANES.format(is_ready=is_ready) if of_lanes else _BOUNDS}, {best}, claimed AS (
            {TAKE_SEVERAL} FROM best WHERE jobs.id = best.id AND {STILL_QUEUED} RETURNING jobs.*, false AS ran
        )
        SELECT {JOB_COLUMNS.replace("jobs.", "")}, special, is_partial, must_look
        FROM (
            SELECT (SELECT name FROM stop WHERE NOT is_plain) AS special,
                {_LOCKED} IS NULL AND ({_IS_DUE} OR {f"NOT ({_ARE_KNOWN}) OR" if of_lanes else ""}
                    EXISTS (SELECT 1 FROM stop WHERE is_plain)) AS is_partial,
                {_MUST_LOOK} AS must_look
        ) AS state LEFT JOIN (SELECT * FROM ended UNION ALL SELECT * FROM claimed) AS job ON true""",
        is_planned_once=True,
    )


#: Selects the tasks of `:job_ids` that must be settled, and wakes waiting processes.
LOOK_POSTGRESQL = DriverStatement(
    f"""
    WITH touched AS MATERIALIZED (
        SELECT DISTINCT task_id FROM jobs WHERE id = ANY(CAST(:job_ids AS bigint[])) AND task_id IS NOT NULL
    )
    SELECT task_id FROM touched WHERE (
        SELECT ({UNFINISHED_TASK}) IS TRUE AND (SELECT 1 FROM jobs WHERE jobs.task_id = tasks.id
            AND jobs.step_index = tasks.step_index AND jobs.status IN ('queued', 'running') LIMIT 1) IS NULL
        FROM tasks WHERE tasks.id = touched.task_id
    )
    UNION ALL SELECT NULL FROM ({notify_waiters("touched")}) AS notified""",
    is_planned_once=True,
)

# SQLite.

END_SQLITE = JobStatement(
    f"""
    UPDATE jobs SET status = :status, finished_at = :now, updated_at = :now, run_after = NULL,
        error_message = coalesce(:error_message, error_message), result_json = coalesce(:result, result_json),
        last_error_at = CASE :status WHEN 'failed' THEN :now ELSE last_error_at END
    WHERE id = :id AND (status = 'running' OR (status = 'queued' AND :claim_token IS NULL))
        AND (:claim_token IS NULL OR claim_token = :claim_token)
    RETURNING {JOB_COLUMNS}"""
)

KEEP_PROJECTS_SQLITE = DriverStatement(
    "UPDATE project_claims SET claimed_at = :now WHERE job_id IN (SELECT value FROM json_each(:job_ids)) RETURNING 1"
)

LOOK_SQLITE = DriverStatement(
    f"""
    SELECT id FROM tasks WHERE id IN (SELECT task_id FROM jobs WHERE id IN (SELECT value FROM json_each(:job_ids)))
        AND {UNFINISHED_TASK} AND NOT EXISTS (SELECT 1 FROM jobs INDEXED BY idx_jobs_task WHERE jobs.task_id = tasks.id
            AND jobs.step_index = tasks.step_index AND jobs.status IN ('queued', 'running'))"""
)

PROMOTE_SQLITE = DriverStatement(promote(is_postgresql=False))

#: Selects the lanes `:lanes` in their order, with the number of free slots; NULL if the lane has no limit.
OPEN_LANES_SQLITE = DriverStatement(
    f"""
    SELECT name, min_priority, max_priority, slots - ({COUNT_RUNNING_IN_LANE}), {_IS_PLAIN}, {_NOT_HELD}
    FROM json_each(:lanes) AS wanted JOIN lanes ON lanes.name = wanted.value ORDER BY wanted.key"""
)


def awaited(*, is_postgresql: bool) -> str:
    """Return the definition of a table `awaited` for a `WITH` clause that has a table `chosen` of lanes.

    `chosen` has the columns min_priority, max_priority, place (the order of lanes) and free (slots). `awaited` has the
    queued jobs that compete for these slots: the jobs of `:job_ids`, and the jobs that executors with a fresh heartbeat
    wait for.
    """
    may_run = f"""(run_after IS NULL OR run_after <= :now) AND held_by IS NULL
        AND priority BETWEEN chosen.min_priority AND chosen.max_priority AND {NOT_ON_HOLD}"""
    columns = "jobs.id, jobs.tenant_id, jobs.priority, jobs.created_at, chosen.place, chosen.free"
    return f"""awaited AS (
            SELECT {columns} FROM jobs{by_index(is_postgresql, "idx_jobs_attended")} CROSS JOIN chosen
            WHERE {WAITED_FOR} AND {IS_FRESH} AND {may_run}
            UNION
            SELECT {columns} FROM jobs CROSS JOIN chosen
            WHERE {is_given_and_queued(is_postgresql=is_postgresql)} AND {may_run}
        )"""


def _entitled(*, is_postgresql: bool) -> str:
    """Return a query of the jobs in `:job_ids` that are entitled to a free slot, at most `:limit`, from `awaited`.

    With N free slots in a lane, the best N of the jobs that compete for them are entitled.
    """
    return f"""
        SELECT id FROM (
            SELECT *, row_number() OVER (PARTITION BY place ORDER BY {RANK}) AS turn FROM awaited
        ) AS ranked
        WHERE turn <= free AND {is_given("id", is_postgresql=is_postgresql)} ORDER BY place, turn LIMIT :limit"""


@cache
def take_sqlite(*, for_tenant: bool = False, is_awaited: bool = False) -> JobStatement:
    """Return a statement that claims the best jobs with priorities in a range, up to `:limit`.

    It claims ready jobs or, if `is_awaited`, the jobs in `:job_ids` that are entitled to one of the `:free` slots.
    """
    if is_awaited:
        bounds = "SELECT :min_priority AS min_priority, :max_priority AS max_priority, 0 AS place, :free AS free"
        return JobStatement(
            f"""
            WITH chosen AS MATERIALIZED ({bounds}), {awaited(is_postgresql=False)}
            {TAKE_SEVERAL} WHERE id IN ({_entitled(is_postgresql=False)}) AND {STILL_QUEUED} RETURNING {JOB_COLUMNS}"""
        )
    index, of_tenant = ("idx_jobs_ready_tenant", "AND tenant_id = :tenant_id") if for_tenant else ("idx_jobs_ready", "")
    return JobStatement(
        f"""
        {TAKE_SEVERAL} WHERE id IN (
            SELECT id FROM jobs INDEXED BY {index} WHERE {READY} AND {NOT_ON_HOLD} {of_tenant}
                AND priority BETWEEN :min_priority AND :max_priority ORDER BY {RANK} LIMIT :limit
        ) RETURNING {JOB_COLUMNS}"""
    )
