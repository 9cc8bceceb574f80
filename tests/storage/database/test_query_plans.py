"""No statement of the queue reads the whole table `jobs`, according to the query plans of both databases.

The tests record the statements of the calls, so they also check new and changed statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event, text

from storage import Database, JobsRepository, LanesRepository, PhotosRepository, TasksRepository
from storage.database.driver_statement import DriverStatement
from storage.lifecycle import heartbeats
from storage.lifecycle.heartbeats import clear_waiting, job_states, record_waiting, write_heartbeats
from storage.photo_sets import resolve_job_targets
from storage.queue.bulk import JobFilter, cancel_jobs, retry_jobs
from storage.queue.claims import (
    _next_due,
    next_due_at,
    promote_due,
)
from storage.queue.exchange import End, Wanted
from storage.queue.exchange_statements import (
    LOOK_POSTGRESQL,
    PREPARE_POSTGRESQL,
    exchange_statement,
    take_sqlite,
)
from storage.queue.holds import HoldsRepository
from storage.queue.project_claims import claim_projects, claiming_jobs, release_projects
from storage.queue.rescue import give_back_lost, rescue_stale
from storage.records import JobStatus
from storage.reports.ended_jobs import Place, ended_jobs
from storage.reports.queue_overview import latest_failures, running_jobs, waiting_jobs
from storage.reports.statistics import Statistics
from storage.reports.task_summary import summarize_task
from storage.reports.waiting_reasons import explain_job
from storage.upkeep.retention import prune

ROWS = 20_000

EXPLAINED = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


@pytest.fixture
def filled(database: Database, make_project: Any, make_photos: Any, make_task: Any) -> Database:
    """A database with a long queue, even more ended jobs, and statistics for its planner."""
    project = make_project()
    photo_ids = make_photos(project, 50)
    task = make_task({"unit": "items", "chunk_size": 10}, "projects", photo_ids=photo_ids)
    TasksRepository(database).add_follow_up(task.id, type="x", priority=5, photo_ids=[photo_ids[0]])
    number = "value" if database.is_postgresql else "n.value"
    moment = (
        f"timestamptz '2025-09-01' + {number} * interval '1 second'"
        if database.is_postgresql
        else f"strftime('%Y-%m-%dT%H:%M:%fZ', '2025-09-01', '+' || {number} || ' seconds')"
    )
    series = (
        f"generate_series(1, {ROWS}) AS n(value)"
        if database.is_postgresql
        else f"(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {ROWS}) "
        "SELECT value FROM n) AS n"
    )
    payload = '\'{"names": "' + 500 * "x" + "\"}'" + ("::jsonb" if database.is_postgresql else "")
    with database.begin() as connection:
        connection.execute(
            text(f"""
            INSERT INTO jobs (tenant_id, type, status, scope, priority, created_at, finished_at, started_at, attempts,
                progress_done, run_after, task_id, step_index, payload_json)
            SELECT 'tenant-' || {number} % 20, 'type-' || {number} % 7,
                CASE WHEN {number} % 4 = 0 THEN 'queued' WHEN {number} % 1000 = 1 THEN 'running' ELSE 'completed' END,
                'photo_set', {number} % 100, {moment},
                CASE WHEN {number} % 4 <> 0 AND {number} % 1000 <> 1 THEN {moment} END, {moment}, 0, 0,
                CASE WHEN {number} % 40 = 0 THEN {moment.replace("2025-09-01", "2026-09-01")} END,
                CASE WHEN {number} % 3 = 0 THEN 'old-' || {number} % 500 END, 0, {payload}
            FROM {series}
            """)
        )
        connection.execute(
            text(f"""
            INSERT INTO job_items (tenant_id, job_id, filename, status, created_at, updated_at)
            SELECT tenant_id, id, 'name', 'done', {moment.replace(number, "id")}, {moment.replace(number, "id")}
            FROM jobs WHERE task_id IS NULL
            """)
        )
    _analyze(database)
    return database


def _analyze(database: Database) -> None:
    if database.is_postgresql:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def _engine_calls(database: Database, task_id: str) -> dict[str, Callable[[], object]]:
    jobs, tasks = JobsRepository(database), TasksRepository(database)

    def claim() -> Any:
        return jobs.claim_next("worker")

    def awaited(**policy: Any) -> object:
        LanesRepository(database).change("normal", **policy)
        return jobs.claim("w", Wanted(lanes=["normal"], job_ids=[1, 2, 3, 500]), limit=5)

    def in_transaction(call: Callable[[Connection], object]) -> Callable[[], object]:
        def run() -> None:
            with database.begin() as connection:
                call(connection)

        return run

    def fair_claim() -> object:
        LanesRepository(database).change("normal", slots=1_000, aging_seconds=60, fair_tenants=True)
        return jobs.claim_next("worker", lane="normal")

    def turn_over() -> object:
        end = End(job_id=claim().id, status=JobStatus.COMPLETED)
        return jobs.claim("worker", Wanted(lanes=["priority", "normal"]), limit=3, ended=[end])

    def hold_project(job_id: int) -> None:
        claim_projects(database, [1], job_id=job_id, claim_token="token")
        with database.connect() as connection:
            claiming_jobs(connection, 1)
        release_projects(database, [1], claim_token="token")

    return {
        "claim_next": claim,
        "claim_next of a tenant": lambda: jobs.claim_next("worker", tenant_id="tenant-4"),
        "claim_next within bounds": lambda: jobs.claim_next("worker", min_priority=10, max_priority=20),
        "claim_next in a lane": lambda: jobs.claim_next("worker", lane="priority"),
        "claim_next with aging and fairness": fair_claim,
        "a claim from several lanes": lambda: jobs.claim("w", Wanted(lanes=["priority", "normal"]), limit=2),
        "the same for a tenant": lambda: jobs.claim("w", Wanted(lanes=["normal"], tenant_id="tenant-4"), limit=1),
        "the next delayed job": lambda: next_due_at(database),
        "a claim of awaited jobs": awaited,
        "the same with aging": lambda: awaited(aging_seconds=60),
        "promote_due": in_transaction(lambda c: promote_due(c, now=database.clock() + timedelta(days=400))),
        "heartbeat": lambda: jobs.heartbeat(claim().id),
        "write_heartbeats": lambda: write_heartbeats(database, [(claim().id, "token")]),
        "waiting": lambda: (
            record_waiting(database, [5, 8], worker_id="w"),
            clear_waiting(database, [5, 8]),
            job_states(database, [5, 8]),
        ),
        "complete": lambda: jobs.complete(claim().id),
        "complete of a task's job": lambda: jobs.complete(tasks.list_jobs(task_id)[1].id),
        "fail with a token": lambda: jobs.fail((job := claim()).id, "no", claim_token=job.claim_token),
        "retry_later": lambda: jobs.retry_later(claim().id, "no", run_after=database.clock()),
        "an end and a claim at once": turn_over,
        "give_back_lost": lambda: give_back_lost(database, worker_id="worker", known=[], older_than_seconds=0),
        "taking and leaving a project": lambda: hold_project(claim().id),
        "summary of a task": lambda: summarize_task(database, task_id),
        "cancel of a task's job": lambda: jobs.cancel(tasks.list_jobs(task_id)[0].id),
        "requeue": lambda: jobs.requeue(claim().id),
        "cancel_by_project": lambda: jobs.cancel_by_project(1),
        "enqueue with a unique key": lambda: jobs.enqueue(tenant_id="t", type="x", unique_key="k"),
        "rescue": lambda: rescue_stale(database, stale_seconds=60, max_attempts=3),
        "requeue_stale_running": lambda: jobs.requeue_stale_running(60),
        "list_by_tenant": lambda: jobs.list_by_tenant("tenant-3"),
        "list_by_tenant by status": lambda: jobs.list_by_tenant("tenant-3", status="queued"),
        "list_by_tenant by type": lambda: jobs.list_by_tenant("tenant-3", type="type-3"),
        "list_ready": lambda: jobs.list_ready(tenant_id="tenant-4", standalone=True),
        "list_by_tenant by scope": lambda: jobs.list_by_tenant("tenant-3", scope="photo_set", status="queued"),
        "list_by_tenant by key": lambda: jobs.list_by_tenant("tenant-3", before=(database.clock(), 9000)),
        "list_by_project": lambda: jobs.list_by_project(1),
        "list_items": lambda: jobs.list_items(1),
        "next_pending_item": lambda: jobs.next_pending_item(1),
        "settle": lambda: tasks.settle(task_id),
        "list_jobs": lambda: tasks.list_jobs(task_id),
        "count_jobs": lambda: tasks.count_jobs(task_id),
        "unfinished_jobs": lambda: tasks.unfinished_jobs(tasks.get(task_id), limit=10),
        "list_unfollowed": lambda: tasks.list_unfollowed(silent_seconds=0),
        "cancel of a task": lambda: tasks.cancel(task_id),
        "retry of a task": lambda: (tasks.cancel(task_id), tasks.retry(task_id)),
        "add_follow_up": lambda: tasks.add_follow_up(task_id, type="x", priority=5, photo_ids=[2]),
        "hold and release of a task": lambda: (
            HoldsRepository(database).hold("task", task_id),
            HoldsRepository(database).release("task", task_id),
        ),
        "hold and release of a tenant": lambda: (
            HoldsRepository(database).hold("tenant", "tenant-8"),
            HoldsRepository(database).release("tenant", "tenant-8"),
        ),
        "targets of a job": lambda: resolve_job_targets(tasks.list_jobs(task_id)[0], database),
        "photos of a project": lambda: list(PhotosRepository(database).iterate_project(1, batch_size=20)),
        "removal of photos": lambda: PhotosRepository(database).remove_many([1, 2]),
        "pruning": lambda: prune(database, older_than_seconds=86_400 * 29.9),
        "bulk cancel of a task": lambda: cancel_jobs(database, JobFilter(task_id=task_id)),
        "bulk retry of a task": lambda: retry_jobs(database, JobFilter(task_id=task_id)),
        "why a job waits": lambda: explain_job(database, jobs.list_ready(limit=50)[-1].id, stale_seconds=60),
        "what runs": lambda: _look(database, running_jobs),
        "what waits": lambda: (_look(database, waiting_jobs), _look(database, waiting_jobs, tenant_id="tenant-4")),
        "what failed": lambda: (
            _look(database, latest_failures),
            _look(database, latest_failures, tenant_id="tenant-4"),
        ),
        "what has ended since": lambda: _ended(database),
    }


def test_no_statement_of_the_engine_reads_all_jobs(filled: Database) -> None:
    offending = []
    for name, call in _engine_calls(filled, "task-1").items():
        plans = _plans(filled, call)
        assert plans, f"{name}: no statement was caught"
        offending += [
            f"{name}: {statement[:400]}\n{plan}" for statement, plan in plans.items() if _reads_all(filled, plan)
        ]
    if filled.is_postgresql:
        plans = [_plan_for_all_values(filled, statement) for statement in _planned_once()]
        offending += [plan for plan in plans if "Seq Scan on jobs" in plan or "idx_jobs_status " in plan]
    assert not offending, "\n\n".join(offending)


def _planned_once() -> list[DriverStatement]:
    exchanges = [exchange_statement(of_lanes=of_lanes, for_tenant=False) for of_lanes in (False, True)]
    exchanges += [exchange_statement(of_lanes=of_lanes, for_tenant=True) for of_lanes in (False, True)]
    exchanges.append(exchange_statement(of_lanes=True, is_awaited=True))
    for_heartbeats = [heartbeats._record_waiting_statement(True), heartbeats._clear_waiting_statement(True)]
    statements: list[DriverStatement] = [
        *exchanges,
        PREPARE_POSTGRESQL,
        LOOK_POSTGRESQL,
        _next_due(True),
        *for_heartbeats,
    ]
    assert all(statement.is_planned_once for statement in statements)
    return statements


def _plan_for_all_values(database: Database, statement: DriverStatement) -> str:
    sql = statement.numbered.decode()
    with database._driver(is_planned_once=True) as driver:
        return "\n".join(row[0] for row in driver.execute(f"EXPLAIN (GENERIC_PLAN) {sql}"))


@pytest.mark.parametrize("options", [{}, {"for_tenant": True}, {"is_awaited": True}], ids=str)
def test_sqlite_need_not_compile_a_claim_again_for_its_limit(options: dict[str, bool]) -> None:
    # Only SQLite 3.47 and later compiles a statement again for each value of `LIMIT ?`, and not for `LIMIT +?`.
    statement = take_sqlite(**options)

    assert "LIMIT :" not in statement.text("sqlite")
    assert "LIMIT +:limit" in statement.text("sqlite")


def test_counts_over_all_jobs_can_be_answered_from_an_index_alone(filled: Database) -> None:
    for name in ("count_by_status", "open_by_type", "lanes"):
        with filled.begin() as connection:
            if filled.is_postgresql:
                # The width of the rows decides which plan is cheaper, but in both plans the index is sufficient.
                connection.execute(text("SET LOCAL enable_seqscan = off"))
                connection.execute(text("SET LOCAL enable_bitmapscan = off"))
                plans = _postgresql_plans(getattr(Statistics(connection), name))
        if not filled.is_postgresql:
            plans = _sqlite_plans(filled, getattr(Statistics(filled), name))
        assert plans, name
        for statement, plan in plans.items():
            for line in plan.splitlines():
                if filled.is_postgresql and " on jobs" in line:
                    assert " using idx_" in line, f"{statement}\n{plan}"
                if not filled.is_postgresql and line.startswith(("SCAN jobs", "SEARCH jobs")):
                    # The first job of each priority is found by one look-up.
                    assert "COVERING INDEX" in line or "INDEX idx_jobs_ready" in line, f"{statement}\n{plan}"


def _ended(database: Database) -> object:
    before = database.clock()
    with database.connect() as connection:
        return ended_jobs(connection, after=Place(finished_at=before - timedelta(seconds=60)), before=before, limit=100)


def _look(database: Database, call: Callable[..., object], **options: object) -> None:
    with database.connect() as connection:
        call(connection, limit=10, **options)


def _plans(database: Database, call: Callable[[], object]) -> dict[str, str]:
    """Return the plan of each statement of a call, for all ways in which a statement can reach the driver."""
    return _postgresql_plans(call) if database.is_postgresql else _sqlite_plans(database, call)


def _sqlite_plans(database: Database, call: Callable[[], object]) -> dict[str, str]:
    statements: dict[str, None] = {}

    def listen(driver: Any, *_: Any) -> None:
        driver.set_trace_callback(lambda statement: statements.setdefault(statement))

    def leave(driver: Any, *_: Any) -> None:
        driver.set_trace_callback(None)

    # Connections that are kept for single statements return to the pool, so that listeners see their statements too.
    database.close()
    event.listen(database.engine, "checkout", listen)
    event.listen(database.engine, "checkin", leave)
    try:
        call()
        database.close()
    finally:
        event.remove(database.engine, "checkout", listen)
        event.remove(database.engine, "checkin", leave)
    assert database.path is not None
    with closing(sqlite3.connect(database.path)) as own:
        return {
            statement: "\n".join(row[-1] for row in own.execute(f"EXPLAIN QUERY PLAN {statement}"))
            for statement in statements
            if statement.lstrip().upper().startswith(EXPLAINED)
        }


def _postgresql_plans(call: Callable[[], object]) -> dict[str, str]:
    plans: dict[str, str] = {}
    execute = psycopg.Cursor.execute

    def explain(cursor: Any, query: Any, parameters: Any = None, **options: Any) -> Any:
        statement = query.decode() if isinstance(query, bytes) else str(query)
        if statement.lstrip().upper().startswith(EXPLAINED):
            with type(cursor)(cursor.connection) as own:
                execute(own, f"EXPLAIN {statement}", parameters)
                plans[statement] = "\n".join(row[0] for row in own.fetchall())
        return execute(cursor, query, parameters, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", explain)
        call()
    return plans


def _reads_all(database: Database, plan: str) -> bool:
    if database.is_postgresql:
        return "Seq Scan on jobs" in plan
    return any(
        # An index on only the status contains the whole queue.
        ("SCAN job" in line and "INDEX" not in line) or "idx_jobs_status (status=?)" in line
        for line in plan.splitlines()
    )
