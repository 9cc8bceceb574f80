"""The complete statements of `storage.queue.exchange` for each database.

On PostgreSQL the statements are sent together in one round trip. A statement passes values to the next statements in
settings of the transaction: the priorities of the ended jobs, the lanes to claim from, and the lanes that are locked.
"""

from __future__ import annotations

from functools import cache

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
from storage.lifecycle.notifications import notify_waiters
from storage.queue.lanes import COUNT_RUNNING_IN_LANE

#: Parts of claim statements: conditions on jobs, the order of jobs, and the columns that a claim writes.
NOT_ON_HOLD = """NOT EXISTS (SELECT 1 FROM holds WHERE (holds.kind = 'tenant' AND holds.name = jobs.tenant_id)
    OR (holds.kind = 'task' AND holds.name = jobs.task_id))"""
DUE = "status = 'queued' AND run_after IS NOT NULL AND run_after <= :now AND held_by IS NULL"
RANK = "priority DESC, created_at, id"
TAKE = """UPDATE jobs SET status = 'running', started_at = :now, heartbeat_at = :now, updated_at = :now,
    finished_at = NULL, worker_id = :worker_id, claim_token = :claim_token"""
#: `TAKE` for several jobs. Each job gets its own token, because a process recognizes its claims by the token alone.
TAKE_SEVERAL = TAKE.replace(":claim_token", ":claim_token || '-' || jobs.id")

_IS_PLAIN = "aging_seconds IS NULL AND fair_tenants = 0"
_NOT_HELD = "NOT EXISTS (SELECT 1 FROM holds WHERE holds.kind = 'lane' AND holds.name = lanes.name)"

# PostgreSQL.

_IS_OPEN_JOB = """(jobs.status = 'running' OR (jobs.status = 'queued' AND given.claim_token IS NULL)) IS TRUE
    AND (given.claim_token IS NULL OR jobs.claim_token = given.claim_token)"""

END_POSTGRESQL = JobStatement(
    f"""
    WITH given AS MATERIALIZED (
        SELECT * FROM json_to_recordset(CAST(:ended AS json))
            AS given(id bigint, claim_token text, status text, error_message text, result text)
    ), ended AS (
        UPDATE jobs SET status = given.status, finished_at = :now, updated_at = :now, run_after = NULL,
            error_message = coalesce(given.error_message, jobs.error_message),
            result_json = coalesce(CAST(given.result AS jsonb), jobs.result_json),
            last_error_at = CASE given.status WHEN 'failed' THEN :now ELSE jobs.last_error_at END
        FROM given WHERE jobs.id = given.id AND {_IS_OPEN_JOB}
        RETURNING {JOB_COLUMNS}, given.claim_token IS NOT NULL AS ran
    ), kept AS (
        UPDATE project_claims SET claimed_at = :now FROM ended WHERE project_claims.job_id = ended.id AND NOT ran
    ), freed AS MATERIALIZED (
        SELECT set_config('photojobs.freed',
            coalesce(CAST(array_agg(priority) FILTER (WHERE ran) AS text), '{{}}'), true) FROM ended
    )
    SELECT {JOB_COLUMNS.replace("jobs.", "ended.")} FROM ended CROSS JOIN freed""",
    is_planned_once=True,
)

#: A subquery for a query of `lanes`: the number of slots of the lane that this transaction has freed.
_FREED = """(SELECT count(*) FROM
    unnest(CAST(nullif(current_setting('photojobs.freed', true), '') AS integer[])) AS freed(priority)
    WHERE freed.priority BETWEEN lanes.min_priority AND lanes.max_priority)"""

_PROMOTE = f"UPDATE jobs SET run_after = NULL WHERE id IN (SELECT id FROM jobs WHERE {DUE} FOR UPDATE SKIP LOCKED)"
PROMOTE_POSTGRESQL = DriverStatement(_PROMOTE, is_planned_once=True)


@cache
def choose_lanes(for_tenant: bool) -> DriverStatement:
    """Return a statement that chooses those of `:lanes` that have ready jobs, up to the first with aging or fairness.

    It chooses no lane if one of `:lanes` does not exist. The statement returns the name of the lane with aging or
    fairness, and the names of all existing lanes. It locks a lane with a limit of slots if the claim may take more
    slots than the transaction has freed. Freed slots need no lock, because other transactions count them as taken until
    the commit.
    """
    of_tenant = "AND tenant_id = :tenant_id" if for_tenant else ""
    in_lane = f"priority BETWEEN lanes.min_priority AND lanes.max_priority {of_tenant}"
    return DriverStatement(
        f"""
        WITH promoted AS ({_PROMOTE}), open AS MATERIALIZED (
            SELECT name, slots, array_position(CAST(:lanes AS text[]), name) AS place, {_IS_PLAIN} AS is_plain,
                ({COUNT_RUNNING_IN_LANE}) AS running, {_FREED} AS freed
            FROM lanes WHERE name = ANY(CAST(:lanes AS text[])) AND {_NOT_HELD}
                AND (EXISTS (SELECT 1 FROM jobs WHERE {READY} AND {in_lane})
                    OR EXISTS (SELECT 1 FROM jobs WHERE {DUE} AND {in_lane}))
        ), useful AS MATERIALIZED (
            SELECT * FROM open WHERE slots IS NULL OR slots > running
        ), special AS MATERIALIZED (
            SELECT name, place FROM useful WHERE NOT is_plain ORDER BY place LIMIT 1
        ), chosen AS MATERIALIZED (
            SELECT * FROM useful WHERE place < coalesce((SELECT place FROM special), 2147483647)
                AND CAST(:lanes AS text[]) <@ (SELECT array_agg(CAST(name AS text)) FROM lanes)
        ), locked AS MATERIALIZED (
            SELECT name FROM lanes
            WHERE name IN (SELECT name FROM chosen WHERE slots - running > freed AND freed < :limit)
            ORDER BY name FOR UPDATE
        )
        SELECT (SELECT name FROM special), (SELECT array_agg(name) FROM lanes),
            set_config('photojobs.lanes',
                coalesce((SELECT CAST(array_agg(name ORDER BY place) AS text) FROM chosen), '{{}}'), true),
            set_config('photojobs.locked', coalesce((SELECT CAST(array_agg(name) AS text) FROM locked), '{{}}'), true)
        """,
        is_planned_once=True,
    )


#: The chosen lanes, with the number of slots in each that the transaction may take.
_CHOSEN_LANES = f"""
    SELECT min_priority, max_priority, place, greatest(0, CASE
        WHEN slots IS NULL THEN 2147483647
        WHEN name = ANY(CAST(nullif(current_setting('photojobs.locked', true), '') AS text[]))
            THEN slots - ({COUNT_RUNNING_IN_LANE})
        ELSE least({_FREED}, slots - ({COUNT_RUNNING_IN_LANE})) END) AS free
    FROM unnest(CAST(nullif(current_setting('photojobs.lanes', true), '') AS text[]))
        WITH ORDINALITY AS chosen(lane, place)
    JOIN lanes ON lanes.name = chosen.lane"""


@cache
def take_from_chosen_lanes(for_tenant: bool) -> JobStatement:
    """Return a statement that claims up to `:limit` jobs of the chosen lanes, lane by lane, best first."""
    of_tenant = "AND tenant_id = :tenant_id" if for_tenant else ""
    return JobStatement(
        f"""
        WITH open AS MATERIALIZED ({_CHOSEN_LANES}), best AS MATERIALIZED (
            SELECT head.id FROM (SELECT * FROM open ORDER BY place) AS lane CROSS JOIN LATERAL (
                SELECT id FROM jobs WHERE {READY} AND {NOT_ON_HOLD} {of_tenant}
                    AND priority BETWEEN lane.min_priority AND lane.max_priority
                ORDER BY {RANK} LIMIT least(:limit, lane.free) FOR UPDATE SKIP LOCKED
            ) AS head LIMIT :limit
        )
        {TAKE_SEVERAL} FROM best WHERE jobs.id = best.id RETURNING {JOB_COLUMNS}""",
        is_planned_once=True,
    )


LOOK_POSTGRESQL = DriverStatement(
    f"""
    WITH touched AS MATERIALIZED (
        SELECT DISTINCT task_id FROM jobs WHERE id = ANY(CAST(:job_ids AS bigint[])) AND task_id IS NOT NULL
    )
    SELECT tasks.id FROM touched JOIN tasks ON tasks.id = touched.task_id
    WHERE {UNFINISHED_TASK} AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.task_id = tasks.id
        AND jobs.step_index = tasks.step_index AND jobs.status IN ('queued', 'running'))
    UNION ALL SELECT NULL FROM ({notify_waiters("id IN (SELECT task_id FROM touched)")}) AS notified""",
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

PROMOTE_SQLITE = DriverStatement(
    f"UPDATE jobs SET run_after = NULL WHERE id IN (SELECT id FROM jobs INDEXED BY idx_jobs_delayed WHERE {DUE})"
)

#: Selects the lanes `:lanes` in their order, with the number of free slots; NULL if the lane has no limit.
OPEN_LANES_SQLITE = DriverStatement(
    f"""
    SELECT name, min_priority, max_priority, slots - ({COUNT_RUNNING_IN_LANE}), {_IS_PLAIN}, {_NOT_HELD}
    FROM json_each(:lanes) AS wanted JOIN lanes ON lanes.name = wanted.value ORDER BY wanted.key"""
)


def awaited(open_lanes: str, *, is_postgresql: bool) -> str:
    """Return a `WITH` clause with two tables.

    `open` has the lanes that `open_lanes` returns: min_priority, max_priority, place (their order) and free (slots).
    `awaited` has the queued jobs that compete for these slots: the jobs of `:job_ids`, and the jobs that executors with
    a fresh heartbeat wait for.
    """
    may_run = f"""(run_after IS NULL OR run_after <= :now) AND held_by IS NULL
        AND priority BETWEEN open.min_priority AND open.max_priority AND {NOT_ON_HOLD}"""
    columns = "jobs.id, jobs.tenant_id, jobs.priority, jobs.created_at, open.place, open.free"
    return f"""
        WITH open AS MATERIALIZED ({open_lanes}), awaited AS (
            SELECT {columns} FROM jobs{by_index(is_postgresql, "idx_jobs_attended")} CROSS JOIN open
            WHERE {WAITED_FOR} AND heartbeat_at > :fresh_since AND {may_run}
            UNION
            SELECT {columns} FROM jobs CROSS JOIN open
            WHERE {is_given_and_queued(is_postgresql=is_postgresql)} AND {may_run}
        )"""


@cache
def take_awaited(is_postgresql: bool) -> JobStatement:
    """Return a statement that claims the jobs of `:job_ids` that are entitled to a free slot, at most `:limit`.

    With N free slots in a lane, the best N of the jobs that compete for them are entitled. On PostgreSQL the lanes are
    those that `choose_lanes` has chosen, on SQLite the one within the bounds, which has `:free` slots.
    """
    bounds = "SELECT :min_priority AS min_priority, :max_priority AS max_priority, 0 AS place, :free AS free"
    return JobStatement(
        f"""
        {awaited(_CHOSEN_LANES if is_postgresql else bounds, is_postgresql=is_postgresql)}, entitled AS (
            SELECT id FROM (
                SELECT *, row_number() OVER (PARTITION BY place ORDER BY {RANK}) AS turn FROM awaited
            ) AS ranked
            WHERE turn <= free AND {is_given("id", is_postgresql=is_postgresql)} ORDER BY place, turn LIMIT :limit
        )
        {TAKE_SEVERAL} WHERE id IN (SELECT id FROM entitled) AND {STILL_QUEUED} RETURNING {JOB_COLUMNS}""",
        is_planned_once=True,
    )


@cache
def take_within(is_postgresql: bool, for_tenant: bool) -> JobStatement:
    """Return a statement that claims up to `:limit` ready jobs in a range of priorities, best first.

    It does not count slots of lanes.
    """
    of_tenant = "AND tenant_id = :tenant_id" if for_tenant else ""
    index = "idx_jobs_ready_tenant" if for_tenant else "idx_jobs_ready"
    within = f"{READY} AND {NOT_ON_HOLD} {of_tenant} AND priority BETWEEN :min_priority AND :max_priority"
    if is_postgresql:
        return JobStatement(
            f"""
            WITH best AS MATERIALIZED (
                SELECT id FROM jobs WHERE {within} ORDER BY {RANK} LIMIT :limit FOR UPDATE SKIP LOCKED
            )
            {TAKE_SEVERAL} FROM best WHERE jobs.id = best.id RETURNING {JOB_COLUMNS}""",
            is_planned_once=True,
        )
    return JobStatement(
        f"""
        {TAKE_SEVERAL} WHERE id IN (
            SELECT id FROM jobs INDEXED BY {index} WHERE {within} ORDER BY {RANK} LIMIT :limit
        ) RETURNING {JOB_COLUMNS}"""
    )
