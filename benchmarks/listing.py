"""Measures listing a page of 50 among 1,000,000 jobs, compared with raw SQL for the same page.

Raw SQL fetches the same columns of the same rows as tuples. photojobs returns records with parsed payloads and times.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg

from benchmarks.databases import postgresql_database, postgresql_server, sqlite_database
from benchmarks.job_rows import fill_queue
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from storage import Database, JobsRepository
from storage.lifecycle.job_statement import JOB_COLUMNS

_ORDER = "ORDER BY created_at DESC, id DESC LIMIT 50"


def run(options: Options) -> Report:
    """Measure the first page, the first page of a status, and a page in the middle that is found by its key."""
    count = options.size(1_000_000, 1_000)
    repetitions = options.size(200, 3)
    report = Report("a listing page", notes=[f"{count:,} jobs; median of {repetitions} calls a round"])
    with sqlite_database() as database:
        fill_queue(database, count)
        with closing(sqlite3.connect(str(database.path), isolation_level=None)) as connection:
            _measure(report, database, connection.execute, "?", count, repetitions, options.size(5, 1))
    with postgresql_server() as server, postgresql_database(server) as database:
        fill_queue(database, count)
        url = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as raw:
            _measure(report, database, raw.execute, "%s", count, repetitions, options.size(5, 1))
    return report


def _measure(
    report: Report,
    database: Database,
    execute: Callable[..., Any],
    mark: str,
    count: int,
    repetitions: int,
    rounds: int,
) -> None:
    jobs = JobsRepository(database)
    middle = jobs.list_by_tenant("tenant", limit=1, offset=count // 2)[0]
    key = (middle.created_at, middle.id)
    raw_key = (middle.created_at.strftime("%Y-%m-%dT%H:%M:%S.000Z"), middle.id)
    pages: dict[str, tuple[Callable[[], Any], str, tuple[Any, ...]]] = {
        "first page": (lambda: jobs.list_by_tenant("tenant"), f"tenant_id = {mark}", ("tenant",)),
        "first page of a status": (
            lambda: jobs.list_by_tenant("tenant", status="queued"),
            f"tenant_id = {mark} AND status = {mark}",
            ("tenant", "queued"),
        ),
        "page in the middle, by key": (
            lambda: jobs.list_by_tenant("tenant", before=key),
            f"tenant_id = {mark} AND created_at <= {mark} AND (created_at, id) < ({mark}, {mark})",
            ("tenant", raw_key[0], *raw_key),
        ),
    }
    for what, (ours, condition, parameters) in pages.items():
        statement = f"SELECT {JOB_COLUMNS} FROM jobs WHERE {condition} {_ORDER}"

        def raw(statement: str = statement, parameters: tuple[Any, ...] = parameters) -> list[Any]:
            return list(execute(statement, parameters).fetchall())

        assert [job.id for job in ours()] == [row[0] for row in raw()]
        values = in_turns(
            {"ours": lambda ours=ours: _median(ours, repetitions), "raw": lambda raw=raw: _median(raw, repetitions)},  # type: ignore[misc]
            rounds=rounds,
        )
        report.ratios.append(
            Ratio(
                what=f"{database.engine.dialect.name}: {what}",
                unit="ms",
                ours=values["ours"],
                others=values["raw"],
                against="raw SQL",
                target=1.5,
                at_least=False,
            )
        )


def _median(call: Callable[[], object], repetitions: int) -> float:
    took = []
    for _ in range(repetitions):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


if __name__ == "__main__":
    command(run)
