"""Measures claims and ends of jobs on SQLite, one job after the other, compared with minimal SQL statements.

The statements write the same columns of the same tables, each in a transaction, and return the row. They do not support
lanes, holds, delayed jobs or tasks, and do not convert the row to Python values.
"""

from __future__ import annotations

import sqlite3
import time
import uuid

from benchmarks.databases import sqlite_database
from benchmarks.job_rows import empty_queue, fill_queue
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from storage import Database, JobsRepository, LanesRepository

_CLAIM = """
UPDATE jobs SET status = 'running', started_at = :now, heartbeat_at = :now, updated_at = :now, worker_id = 'raw',
    claim_token = :token
WHERE id = (
    SELECT id FROM jobs INDEXED BY idx_jobs_ready WHERE status = 'queued' AND run_after IS NULL AND held_by IS NULL
    ORDER BY priority DESC, created_at, id LIMIT 1
) RETURNING *
"""
_COMPLETE = """
UPDATE jobs SET status = 'completed', finished_at = :now, updated_at = :now
WHERE id = :id AND status = 'running' AND claim_token = :token
"""


def run(options: Options) -> Report:
    """Measure the plain claim, and the claim in a lane with slots that workers use."""
    count = options.size(2_000, 20)
    with sqlite_database() as database:
        LanesRepository(database).change("normal", slots=4)
        values = in_turns(
            {
                "ours": lambda: _ours(database, count, lane=None),
                "in a lane": lambda: _ours(database, count, lane="normal"),
                "raw": lambda: _raw(database, count),
            },
            rounds=options.size(7, 2),
        )
    report = Report("claim and complete on SQLite", notes=[f"{count} jobs a round, one process, synchronous=NORMAL"])
    for what in ("ours", "in a lane"):
        report.ratios.append(
            Ratio(
                what="claim_next + complete" + (" in a lane with 4 slots" if what != "ours" else ""),
                unit="jobs/s",
                ours=values[what],
                others=values["raw"],
                against="raw statements",
                target=0.8,
            )
        )
    return report


def _ours(database: Database, count: int, *, lane: str | None) -> float:
    empty_queue(database)
    fill_queue(database, count)
    jobs = JobsRepository(database)
    began = time.perf_counter()
    for _ in range(count):
        job = jobs.claim_next("worker", lane=lane)
        assert job is not None
        assert jobs.complete(job.id, claim_token=job.claim_token) is not None
    return count / (time.perf_counter() - began)


def _raw(database: Database, count: int) -> float:
    empty_queue(database)
    fill_queue(database, count)
    connection = sqlite3.connect(str(database.path), isolation_level=None)
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON", "busy_timeout = 30000", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    began = time.perf_counter()
    for _ in range(count):
        token = uuid.uuid4().hex
        connection.execute("BEGIN IMMEDIATE")
        row = connection.execute(_CLAIM, {"now": _now(), "token": token}).fetchone()
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_COMPLETE, {"now": _now(), "id": row[0], "token": token})
        connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return count / took


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


if __name__ == "__main__":
    command(run)
