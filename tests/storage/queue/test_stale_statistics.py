"""Claims, ends and heartbeats are fast with wrong statistics of PostgreSQL, and without any.

Each statement runs with statistics of the wrong moment, planned without its values, and may touch a handful of rows.
SQLite gets no statistics from the application; there the same calls run with those that a user's ANALYZE would leave.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import event, text

from storage import Database, JobsRepository, PhotosRepository, ProjectsRepository, TasksRepository
from storage.database.driver_statement import DriverStatement, bound
from storage.lifecycle import heartbeats
from storage.queue.claims import _next_due
from storage.queue.exchange_statements import (
    END_SQLITE,
    LOOK_POSTGRESQL,
    LOOK_SQLITE,
    OPEN_LANES_SQLITE,
    PREPARE_POSTGRESQL,
    PROMOTE_SQLITE,
    exchange_statement,
    take_sqlite,
)
from storage.queue.new_tasks import NewTask
from storage.reports.statistics import Statistics
from task_definitions import Scope

QUEUED = 10_000

#: Rows of `jobs` that one statement may read: some for each lane, tenant and job that it names, none for the queue.
MOST_ROWS = 60

#: The histories of the table, and the moment at which it was analyzed.
HISTORIES = ("analyzed when drained, then filled", "analyzed when full, then drained", "never analyzed")


def _fill(database: Database) -> None:
    number = "value" if database.is_postgresql else "n.value"
    series = (
        f"generate_series(1, {QUEUED}) AS n(value)"
        if database.is_postgresql
        else f"(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {QUEUED}) "
        "SELECT value FROM n) AS n"
    )
    moment = (
        f"timestamptz '2025-09-01' + {number} * interval '1 second'"
        if database.is_postgresql
        else f"strftime('%Y-%m-%dT%H:%M:%fZ', '2025-09-01', '+' || {number} || ' seconds')"
    )
    with database.begin() as connection:
        connection.execute(
            text(f"""
            INSERT INTO jobs (tenant_id, type, status, scope, priority, created_at, attempts, progress_done,
                task_id, step_index)
            SELECT CASE WHEN {number} % 50 = 0 THEN 'tenant-2' ELSE 'tenant-3' END,
                'x', 'queued', 'photo_set', {number} % 80, {moment}, 0, 0,
                CASE WHEN {number} % 2 = 0 THEN 'task-' || {number} % 8 END, 0
            FROM {series}
            """)
        )


def _drain(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET status = 'completed', finished_at = created_at WHERE status = 'queued'")
        )


def _analyze(database: Database) -> None:
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        if database.is_postgresql:
            driver.autocommit = True
        driver.execute("VACUUM")
        driver.execute("ANALYZE")
        if database.is_postgresql:
            driver.autocommit = False


@pytest.fixture(params=HISTORIES)
def stale(request: pytest.FixtureRequest, database: Database) -> Database:
    """A database with the statistics of an earlier moment."""
    _fill(database)
    if request.param == HISTORIES[0]:
        _drain(database)
        _analyze(database)
        _fill(database)
    elif request.param == HISTORIES[1]:
        _analyze(database)
        _drain(database)
        if database.is_postgresql:
            # VACUUM removes the index entries of drained rows, but does not update the statistics of values.
            with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM jobs"))
    return database


def _hot_statements(is_postgresql: bool) -> dict[str, DriverStatement]:
    statements: dict[str, DriverStatement] = {"next due": _next_due(is_postgresql)}
    if is_postgresql:
        statements |= {"preparation": PREPARE_POSTGRESQL, "look": LOOK_POSTGRESQL}
        statements["exchange of awaited jobs"] = exchange_statement(of_lanes=True, is_awaited=True)
        for for_tenant in (False, True):
            whose = " of a tenant" if for_tenant else ""
            statements[f"exchange within bounds{whose}"] = exchange_statement(of_lanes=False, for_tenant=for_tenant)
            statements[f"exchange in lanes{whose}"] = exchange_statement(of_lanes=True, for_tenant=for_tenant)
    else:
        statements |= {"end": END_SQLITE, "look": LOOK_SQLITE, "promotion": PROMOTE_SQLITE}
        statements |= {"open lanes": OPEN_LANES_SQLITE, "claim of awaited jobs": take_sqlite(is_awaited=True)}
        statements |= {"claim": take_sqlite(), "claim of a tenant": take_sqlite(for_tenant=True)}
    statements["record_waiting"] = heartbeats._record_waiting_statement(is_postgresql)
    statements["clear_waiting"] = heartbeats._clear_waiting_statement(is_postgresql)
    return statements


def _values(database: Database, job_id: int) -> dict[str, Any]:
    now = database.clock()
    return {
        "now": now,
        "fresh_since": now,
        "fresh_until": now,
        "worker_id": "w",
        "claim_token": "token",
        "tenant_id": "tenant-3",
        "lane": "normal",
        "lanes": ["priority", "normal"],
        "min_priority": 0,
        "max_priority": 100,
        "job_ids": [job_id],
        "limit": 4,
        "free": 4,
        "id": job_id,
        "ended": json.dumps([{"id": job_id, "claim_token": None, "status": "completed"}]),
        "status": "completed",
        "error_message": None,
        "result": None,
    }


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_no_hot_statement_reads_the_queue_whatever_the_statistics_say(stale: Database) -> None:
    job_id = _some_job(stale)
    read: dict[str, int] = {}
    plans: dict[str, str] = {}
    for name, statement in _hot_statements(True).items():
        with stale._driver(is_planned_once=statement.is_planned_once) as driver:
            assert statement.is_planned_once, name
            plan = _executed_plan(driver, statement, _values(stale, job_id))
            driver.rollback()
        read[name] = sum(_rows_read(node) for node in _nodes(plan))
        plans[name] = json.dumps(plan, indent=1)
    too_much = {name: rows for name, rows in read.items() if rows > MOST_ROWS}
    assert not too_much, "\n".join([str(too_much), *(plans[name] for name in too_much)])


def _executed_plan(driver: Any, statement: DriverStatement, values: dict[str, Any]) -> dict[str, Any]:
    """Return the generic plan of a statement, with the numbers of rows that it read for these values."""
    driver.execute("DEALLOCATE ALL")
    _prepare(driver, statement)
    return _run(driver, statement, values)


def _prepare(driver: Any, statement: DriverStatement) -> None:
    # Without lanes that `PREPARE_POSTGRESQL` has locked, an exchange claims only slots that it frees.
    driver.execute("SELECT set_config('photojobs.locked', '{priority,normal}', true)")
    driver.execute(f"PREPARE hot AS {statement.numbered.decode()}")


def _run(driver: Any, statement: DriverStatement, values: dict[str, Any]) -> dict[str, Any]:
    from psycopg import ClientCursor

    given = statement.in_order(values)
    with ClientCursor(driver) as cursor:
        arguments = f"({', '.join(['%s'] * len(given))})" if given else ""
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE hot{arguments}", given)  # type: ignore[arg-type]
        row: Any = cursor.fetchone()
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _rows_read(node: dict[str, Any]) -> int:
    if "Scan" not in node["Node Type"] or node.get("Relation Name", "jobs") != "jobs":
        return 0
    removed = sum(node.get(key, 0) for key in ("Rows Removed by Filter", "Rows Removed by Index Recheck"))
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])


def _some_job(database: Database) -> int:
    with database.connect() as connection:
        return int(connection.execute(text("SELECT max(id) FROM jobs")).scalar_one())


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_plan_that_was_made_while_the_queue_was_empty_does_not_read_the_queue(database: Database) -> None:
    """A process plans a statement when it starts, and keeps the plan until the table is analyzed."""
    with database._driver(is_planned_once=True) as driver:
        driver.execute("ALTER TABLE jobs SET (autovacuum_enabled = false)")
        driver.execute("ALTER TABLE tasks SET (autovacuum_enabled = false)")
        driver.commit()
        for name, statement in _hot_statements(True).items():
            driver.execute("DEALLOCATE ALL")
            driver.execute("TRUNCATE jobs, tasks CASCADE")
            driver.commit()
            _prepare(driver, statement)
            _run(driver, statement, _values(database, 1))
            driver.rollback()
            _fill(database)
            plan = _run(driver, statement, _values(database, _some_job(database)))
            driver.rollback()
            read = sum(_rows_read(node) for node in _nodes(plan))
            assert read <= MOST_ROWS, f"{name}: {read} rows\n{json.dumps(plan, indent=1)}"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_finds_the_head_of_the_queue_whatever_an_analyze_left(stale: Database) -> None:
    assert stale.path is not None
    with closing(sqlite3.connect(stale.path)) as own:
        for name, statement in _hot_statements(False).items():
            plan = own.execute(f"EXPLAIN QUERY PLAN {statement.text('sqlite')}", _any_values(stale)).fetchall()
            jobs = [row[-1] for row in plan if re.search(r"\b(jobs|running|others)\b", row[-1])]
            assert jobs, name
            for line in jobs:
                assert re.search(r"INTEGER PRIMARY KEY|rowid=\?|" + _QUEUE_INDEXES, line), f"{name}: {line}"


#: The slots in use may be counted by a legacy index; its part for one status holds as many rows.
_QUEUE_INDEXES = (
    r"idx_jobs_(ready|ready_tenant|delayed|attended|running|task)\b|running USING .* idx_jobs_status_priority"
)


def _any_values(database: Database) -> dict[str, Any]:
    return bound(_values(database, 1), "sqlite")


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_calls_within_a_transaction_find_the_head_of_the_queue_as_well(stale: Database) -> None:
    """These statements are planned with their values, by the sessions that everything else uses."""
    with stale.begin() as connection:
        jobs = JobsRepository(connection)
        before = _index_reads(connection)
        for _ in range(8):
            jobs.claim_next("w")
            jobs.claim_next("w", tenant_id="tenant-2")
            jobs.claim_next("w", min_priority=10, max_priority=20)
            jobs.claim_next("w", lane="normal")
            jobs.requeue_stale_running(60)
        read = {name: count - before.get(name, 0) for name, count in _index_reads(connection).items()}
    assert sum(read.values()) < 8 * 5 * MOST_ROWS, read


def _index_reads(connection: Any) -> dict[str, int]:
    rows = connection.execute(
        text(
            "SELECT 'rows', pg_stat_get_xact_tuples_returned('jobs'::regclass) UNION ALL "
            "SELECT indexrelid::regclass::text, pg_stat_get_xact_tuples_returned(indexrelid) FROM pg_index "
            "WHERE indrelid = 'jobs'::regclass"
        )
    )
    return {name: int(count) for name, count in rows}


def test_counts_are_right_without_an_index_on_the_status(database: Database) -> None:
    _fill(database)
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET status = 'running' WHERE id % 100 = 0"))
        connection.execute(text("UPDATE jobs SET run_after = created_at WHERE id % 100 = 1"))
        connection.execute(text("UPDATE jobs SET held_by = 'tenant' WHERE id % 100 = 2"))
        connection.execute(text("UPDATE jobs SET run_after = created_at, held_by = 'task' WHERE id % 100 = 3"))
    normal = next(lane for lane in Statistics(database).lanes() if lane.name == "normal")
    assert (normal.running, normal.queued) == (QUEUED // 100, QUEUED - QUEUED // 100)


def test_each_photo_of_a_start_is_looked_up_by_its_id(
    postgresql_database: Database, make_definition: Any, clock: Any
) -> None:
    database = postgresql_database
    project = ProjectsRepository(database).create(project_name="a", project_folder="a", tenant_id="tenant")
    with database.begin() as connection:
        connection.execute(text("ANALYZE photos, task_items"))
    ids = PhotosRepository(database).create_many({"project_id": project.id, "filename": f"p{n}"} for n in range(2000))
    checks: list[tuple[str, Any]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT task_items.photo_id"):
            checks.append((statement, parameters))

    items = [{"photo_id": photo_id} for photo_id in ids]
    definition = make_definition("items")
    TasksRepository(database).start(
        NewTask(id="t", tenant_id="tenant", definition=definition, scope=Scope.PHOTO_SET, items=items)
    )
    [(check, parameters)] = checks
    with database.connect() as connection:
        plan = [line for (line,) in connection.exec_driver_sql(f"EXPLAIN {check}", parameters)]
    assert any("photos_pkey" in line for line in plan), plan
    assert not any("Join Filter: (photos.id" in line for line in plan), plan
