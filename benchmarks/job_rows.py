"""Queues to measure on: many plain jobs at once, written as another program would."""

from __future__ import annotations

from storage import Database

_PLAIN = """
INSERT INTO jobs (
    tenant_id, type, status, created_at, updated_at, priority, scope, attempts, progress_done, payload_json
)
SELECT 'tenant', '{type}', 'queued', {moment}, {moment}, {priority}, 'photo_set', 0, 0, '{{"number": 1}}'
FROM {numbers}
"""


def fill_queue(database: Database, count: int, *, type: str = "noop", priority: int = 50) -> None:
    """Add plain jobs to `jobs`, each a second younger than the one before, and bring the statistics up to date."""
    insert_jobs(database, count, type=type, priority=priority)
    # As autovacuum would soon. SQLite gets no ANALYZE, since the application makes none.
    if database.is_postgresql:
        analyze(database)


def insert_jobs(database: Database, count: int, *, type: str = "noop", priority: int = 50) -> None:
    """Add plain jobs to `jobs`, each a second younger than the one before."""
    if database.is_postgresql:
        numbers = f"generate_series(1, {count}) AS numbers(i)"
        moment = "timestamptz '2025-01-01' + i * interval '1 second'"
    else:
        numbers = f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n)"
        moment = "strftime('%Y-%m-%dT%H:%M:%fZ', '2025-01-01', '+' || i || ' seconds')"
    with database.begin() as connection:
        connection.exec_driver_sql(_PLAIN.format(type=type, moment=moment, priority=priority, numbers=numbers))


def analyze(database: Database) -> None:
    """Bring the statistics of `jobs` on PostgreSQL up to date."""
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE jobs")


def empty_queue(database: Database) -> None:
    """Remove every job."""
    with database.begin() as connection:
        connection.exec_driver_sql("TRUNCATE jobs CASCADE" if database.is_postgresql else "DELETE FROM jobs")
