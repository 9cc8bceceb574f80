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
    """Remove all jobs."""
    with database.begin() as connection:
        connection.exec_driver_sql("TRUNCATE jobs CASCADE" if database.is_postgresql else "DELETE FROM jobs")
