"""Measures claims on PostgreSQL from a queue that was filled after the last ANALYZE, compared with fresh statistics.

After a queue was drained, the statistics normally say that no job is queued. The benchmark also counts how many updates
by heartbeats stay on their page and write to no index.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack

from benchmarks.databases import postgresql_database, postgresql_server
from benchmarks.job_rows import analyze, insert_jobs
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from storage import Database, JobsRepository, LanesRepository
from storage.lifecycle.heartbeats import write_heartbeats

_DRAIN = "UPDATE jobs SET status = 'completed', finished_at = created_at WHERE status = 'queued'"


def run(options: Options) -> Report:
    """Measure plain claims, claims of a tenant and claims in a lane. Each claimed job is ended at once."""
    depth, count = options.size(200_000, 2_000), options.size(200, 10)
    report = Report(
        "claims with stale statistics", notes=[f"{depth:,} queued jobs; {count} claims a round, each ended"]
    )
    with ExitStack() as databases:
        server = databases.enter_context(postgresql_server())
        stale, fresh = (databases.enter_context(postgresql_database(server)) for _ in range(2))
        for database in (stale, fresh):
            # Autovacuum would otherwise update the statistics at an unknown time.
            with database.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE jobs SET (autovacuum_enabled = off)")
            LanesRepository(database).change("normal", slots=1_000)
            insert_jobs(database, depth)
            with database.begin() as connection:
                connection.exec_driver_sql(_DRAIN)
            analyze(database)
            insert_jobs(database, depth)
        analyze(fresh)
        for what, given in (
            ("claim_next", {}),
            ("claim_next of a tenant", {"tenant_id": "tenant"}),
            ("claim_next in a lane", {"lane": "normal"}),
        ):
            values = in_turns(
                {
                    "stale": lambda given=given: _milliseconds(stale, count, given),  # type: ignore[misc]
                    "fresh": lambda given=given: _milliseconds(fresh, count, given),  # type: ignore[misc]
                },
                rounds=options.rounds(5),
            )
            report.ratios.append(
                Ratio(
                    what=what,
                    unit="ms a claim",
                    ours=values["stale"],
                    others=values["fresh"],
                    against="fresh statistics",
                    target=1.3,
                    at_least=False,
                )
            )
        report.notes.append(_heartbeats(fresh))
    return report


def _milliseconds(database: Database, count: int, given: dict[str, str]) -> float:
    jobs = JobsRepository(database)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        job = jobs.claim_next("bench", tenant_id=given.get("tenant_id"), lane=given.get("lane"))
        took.append(time.perf_counter() - began)
        assert job is not None
        jobs.complete(job.id, claim_token=job.claim_token)
    return 1_000 * statistics.median(took)


def _heartbeats(database: Database) -> str:
    jobs = JobsRepository(database)
    claimed = [jobs.claim_next("bench") for _ in range(8)]
    before = _updates(database)
    for _ in range(100):
        write_heartbeats(database, [(job.id, str(job.claim_token)) for job in claimed if job is not None])
    total, in_place = (after - earlier for after, earlier in zip(_updates(database), before, strict=True))
    return f"{in_place} of {total} updates by heartbeats wrote to no index"


def _updates(database: Database) -> tuple[int, int]:
    with database.begin() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    time.sleep(1.5)
    with database.begin() as connection:
        row = connection.exec_driver_sql(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'jobs'"
        ).one()
    return int(row[0]), int(row[1])


if __name__ == "__main__":
    command(run)
