"""Ending a job and taking the next one as a single commit: what a busy worker does all day.

Only for the plain case on PostgreSQL, where a commit is the dearest part of both; `JobsRepository.complete` and
`claim_next` do the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from storage.database.engine import Database
from storage.database.tables import READY
from storage.lifecycle.job_rows import checked_result
from storage.lifecycle.job_statement import JOB_COLUMNS, JobStatement
from storage.lifecycle.notifications import NOTIFY_WHO_WAITS, fresh_since
from storage.lifecycle.state_machine import END_OF_LONE_JOB
from storage.queue.claims import DUE, NOT_ON_HOLD, RANK, TAKE, Claimant
from storage.queue.lanes import COUNT_RUNNING_IN_LANE
from storage.records import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnover:
    """What became of it: the job that ended, and the next one, which is claimed."""

    ended: Job
    claimed: Job | None


def complete_and_claim(
    database: Database,
    job: Job,
    claimant: Claimant,
    *,
    lanes: Sequence[str],
    tenant_id: str | None = None,
    result: Mapping[str, Any] | None = None,
) -> Turnover | None:
    """Complete a claimed job and take the best one of these lanes; None where nothing was changed.

    The slot that becomes free is the slot that is taken, so no lane has to be locked. Nothing is claimed where
    that does not hold or one statement cannot tell the best: where the best job is in another lane with slots, where a
    lane has aging or fairness, or where a delayed job is due. Nothing at all is done for a job that has a task or holds
    a project.
    """
    parameters: dict[str, Any] = {
        **claimant.parameters(),
        "id": job.id,
        "priority": job.priority,
        "fresh_since": fresh_since(claimant.now),
        "claim_token": job.claim_token,
        "lanes": list(lanes),
        "status": "completed",
        "error_message": None,
        "result": None if result is None else checked_result(result),
    }
    parameters["next_token"] = claimant.parameters()["claim_token"]
    if tenant_id is not None:
        parameters["tenant_id"] = tenant_id
    found = {row.id: row for row in _statement(tenant_id is not None).jobs(database.run, parameters)}
    ended = found.pop(job.id, None)
    return None if ended is None else Turnover(ended=ended, claimed=next(iter(found.values()), None))


@cache
def _statement(for_tenant: bool) -> JobStatement:
    of_tenant = "AND tenant_id = :tenant_id" if for_tenant else ""
    take = TAKE.replace(":claim_token", ":next_token")
    columns = JOB_COLUMNS.replace("jobs.", "")
    return JobStatement(
        f"""
        WITH ended AS (
            {END_OF_LONE_JOB} AND status = 'running' AND claim_token = :claim_token RETURNING {JOB_COLUMNS}
        ), open_lanes AS MATERIALIZED (
            SELECT min_priority, max_priority, aging_seconds IS NULL AND fair_tenants = 0
                AND (slots IS NULL OR :priority BETWEEN min_priority AND max_priority) AS is_plain
            FROM lanes WHERE name = ANY(:lanes)
                AND NOT EXISTS (SELECT 1 FROM holds WHERE holds.kind = 'lane' AND holds.name = lanes.name)
                AND (slots IS NULL OR slots > ({COUNT_RUNNING_IN_LANE} AND running.id <> :id))
        ), best AS MATERIALIZED (
            SELECT head.id, lane.is_plain FROM (SELECT * FROM open_lanes ORDER BY max_priority DESC) AS lane
            CROSS JOIN LATERAL (
                SELECT id FROM jobs WHERE {READY} AND {NOT_ON_HOLD} {of_tenant}
                    AND priority BETWEEN lane.min_priority AND lane.max_priority
                ORDER BY {RANK} LIMIT 1 FOR UPDATE SKIP LOCKED
            ) AS head
            WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE {DUE}) LIMIT 1
        ), claimed AS (
            {take} WHERE id = (SELECT id FROM best WHERE is_plain) AND status = 'queued'
                AND EXISTS (SELECT 1 FROM ended) RETURNING {JOB_COLUMNS}
        )
        SELECT {columns} FROM ended LEFT JOIN ({NOTIFY_WHO_WAITS}) AS told ON true
        UNION ALL SELECT {columns} FROM claimed""",
        is_planned_once=True,
    )
