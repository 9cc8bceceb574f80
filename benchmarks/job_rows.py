"""Fills the table `jobs` for benchmarks with many plain jobs, by SQL as another program would write it."""

from __future__ import annotations

from storage import Database

_PLAIN = """
INSERT INTO jobs (
    tenant_id, type, status, created_at, updated_at, priority, scope, attempts, progress_done, payload_json
)
SELECT 'tenant', '{type}', 'queued', {moment}, {moment}, {priority}, 'photo_set', 0, 0, '{{"number": 1}}'
FROM {numbers}
"""


_OF_TASK = "UPDATE jobs SET task_id = 'task', task_type = 'noop', step_index = 0"
_TASK = """
INSERT INTO tasks (id, tenant_id, type, label, scope, status, source, priority, step_index, definition_json, created_at,
    updated_at)
SELECT 'task', tenant_id, 'noop', 'noop', 'global', 'running', 'user', 50, 0, '{}', created_at, created_at
FROM jobs ORDER BY id LIMIT 1
"""
_UNFINISHED = """
INSERT INTO jobs (tenant_id, type, status, created_at, updated_at, priority, scope, attempts, task_id, step_index,
    held_by)
SELECT tenant_id, type, status, created_at, updated_at, priority, scope, 0, 'task', 0, 'task'
FROM jobs ORDER BY id LIMIT 1
"""


def make_one_task(database: Database) -> None:
    """Let all jobs belong to one task, whose step does not end because another job of it is on hold."""
    with database.begin() as connection:
        for statement in (_TASK, _OF_TASK, _UNFINISHED):
            connection.exec_driver_sql(statement)
    analyze(database)


def fill_queue(database: Database, count: int, *, type: str = "noop", priority: int = 50) -> None:
    """Add plain jobs to `jobs`, each created a second after the one before, and update the statistics."""
    insert_jobs(database, count, type=type, priority=priority)
    # Autovacuum would soon do the same. SQLite gets no ANALYZE, because the application runs none.
    if database.is_postgresql:
        analyze(database)


def insert_jobs(database: Database, count: int, *, type: str = "noop", priority: int = 50) -> None:
    """Add plain jobs to `jobs`, each created a second after the one before."""
    if database.is_postgresql:
        numbers = f"generate_series(1, {count}) AS numbers(i)"
        moment = "timestamptz '2025-01-01' + i * interval '1 second'"
    else:
        numbers = f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n)"
        moment = "strftime('%Y-%m-%dT%H:%M:%fZ', '2025-01-01', '+' || i || ' seconds')"
    with database.begin() as connection:
        connection.exec_driver_sql(_PLAIN.format(type=type, moment=moment, priority=priority, numbers=numbers))


def analyze(database: Database) -> None:
    """Update the statistics of `jobs` on PostgreSQL."""
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE jobs")


def empty_queue(database: Database) -> None:
    """Remove all jobs and tasks."""
    with database.begin() as connection:
        for table in ("jobs", "tasks"):
            connection.exec_driver_sql(
                f"TRUNCATE {table} CASCADE" if database.is_postgresql else f"DELETE FROM {table}"
            )
