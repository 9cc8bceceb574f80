"""Measures how fast jobs are claimed from a queue of 1,000,000 jobs, compared with a queue of 1,000 jobs."""

from __future__ import annotations

import time
from contextlib import ExitStack

from benchmarks.databases import postgresql_database, postgresql_server, sqlite_database
from benchmarks.job_rows import fill_queue
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from storage import Database, JobsRepository, LanesRepository

_GIVE_BACK = """
UPDATE jobs SET status = 'queued', started_at = NULL, heartbeat_at = NULL, worker_id = NULL, claim_token = NULL
WHERE status = 'running'
"""


def run(options: Options) -> Report:
    """Measure plain claims and claims in a lane with slots, on both databases."""
    depth, shallow = options.size(1_000_000, 2_000), 1_000
    claims = options.size(400, 10)
    report = Report("claims from a long queue", notes=[f"{depth:,} queued jobs against {shallow:,}; {claims} claims"])
    with ExitStack() as databases:
        server = databases.enter_context(postgresql_server())
        for is_postgresql in (False, True):
            opened = [
                databases.enter_context(postgresql_database(server) if is_postgresql else sqlite_database())
                for _ in range(2)
            ]
            for database, count in zip(opened, (depth, shallow), strict=True):
                fill_queue(database, count)
                LanesRepository(database).change("normal", slots=claims)
            for what, lane in (("claim_next", None), ("claim_next in a lane", "normal")):
                values = in_turns(
                    {
                        "deep": lambda opened=opened, lane=lane: _rate(opened[0], claims, lane),  # type: ignore[misc]
                        "shallow": lambda opened=opened, lane=lane: _rate(opened[1], claims, lane),  # type: ignore[misc]
                    },
                    rounds=options.size(9, 1),
                )
                report.ratios.append(
                    Ratio(
                        what=f"{opened[0].engine.dialect.name}: {what}",
                        unit="claims/s",
                        ours=values["deep"],
                        others=values["shallow"],
                        against=f"a queue of {shallow:,}",
                        target=0.9,
                    )
                )
    return report


def _rate(database: Database, count: int, lane: str | None) -> float:
    jobs = JobsRepository(database)
    began = time.perf_counter()
    for _ in range(count):
        assert jobs.claim_next("bench", lane=lane) is not None
    took = time.perf_counter() - began
    with database.begin() as connection:
        connection.exec_driver_sql(_GIVE_BACK)
    if database.is_postgresql:
        # The dead row versions of this round would slow the next round of both queues, and hide the effect of depth.
        with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("VACUUM jobs")
    return count / took


if __name__ == "__main__":
    command(run)
