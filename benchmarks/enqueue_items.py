"""Measures enqueuing 200,000 items, compared with the driver's `executemany` or `COPY` into the same tables.

The driver's side checks nothing. It writes the same rows of the same chunks in one transaction, and the rows are made
before the measurement starts.
"""

from __future__ import annotations

import sqlite3
import time
from functools import partial
from typing import Any

import psycopg

from benchmarks.databases import postgresql_database, postgresql_server, sqlite_database
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from storage import MAX_ITEMS_PER_JOB, Database, JobsRepository

_JOB_COLUMNS = (
    "tenant_id, type, status, scope, priority, created_at, updated_at, attempts, progress_done, progress_total, "
    "payload_json, chunk_index, total_chunks"
)
_ITEM_COLUMNS = "tenant_id, job_id, photo_id, filename, status, message, created_at, updated_at"
_NOW = "2025-10-01T12:00:00.000Z"

Items = list[dict[str, Any]]


def run(options: Options) -> Report:
    """Measure both databases, with items that have only photo ids and with items that also have file names."""
    count = options.size(200_000, 2_500)
    rounds = options.size(5, 2)
    report = Report("enqueue of items", notes=[f"{count:,} items in chunks of {MAX_ITEMS_PER_JOB}, one transaction"])
    with sqlite_database() as database:
        _measure(report, database, count, rounds, against="executemany", raw=_raw_sqlite)
    with postgresql_server() as server, postgresql_database(server) as database:
        _measure(report, database, count, rounds, against="COPY", raw=_raw_postgresql)
    return report


def _measure(report: Report, database: Database, count: int, rounds: int, *, against: str, raw: Any) -> None:
    ids = _add_photos(database, 1000)
    plain: Items = [{"photo_id": ids[number % len(ids)]} for number in range(count)]
    named: Items = [{**item, "filename": f"IMG_{number:06d}"} for number, item in enumerate(plain)]
    for what, items in (("photo_id", plain), ("photo_id and filename", named)):
        values = in_turns(
            {"ours": partial(_ours, database, items), "raw": partial(raw, database, items)},
            rounds=rounds,
        )
        report.ratios.append(
            Ratio(
                what=f"{database.engine.dialect.name}: items of {what}",
                unit="items/s",
                ours=values["ours"],
                others=values["raw"],
                against=against,
                target=0.85,
            )
        )


def _ours(database: Database, items: Items) -> float:
    _empty(database)
    began = time.perf_counter()
    JobsRepository(database).enqueue_with_items(
        tenant_id="tenant", type="noop", items=items, auto_chunk=True, priority=50
    )
    return len(items) / (time.perf_counter() - began)


def _raw_sqlite(database: Database, items: Items) -> float:
    _empty(database)
    job_rows, chunks = _rows(items)
    connection = sqlite3.connect(str(database.path), isolation_level=None)
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    job_marks, item_marks = (", ".join("?" * len(columns.split(","))) for columns in (_JOB_COLUMNS, _ITEM_COLUMNS))
    began = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(f"INSERT INTO jobs (id, {_JOB_COLUMNS}) VALUES (?, {job_marks})", job_rows)
    connection.executemany(f"INSERT INTO job_items ({_ITEM_COLUMNS}) VALUES ({item_marks})", chunks)
    connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return len(items) / took


def _raw_postgresql(database: Database, items: Items) -> float:
    _empty(database)
    job_rows, chunks = _rows(items)
    with psycopg.connect(database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)) as raw:
        began = time.perf_counter()
        for table, columns, rows in (("jobs", f"id, {_JOB_COLUMNS}", job_rows), ("job_items", _ITEM_COLUMNS, chunks)):
            with raw.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        raw.commit()
        return len(items) / (time.perf_counter() - began)


def _rows(items: Items) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    total = -(-len(items) // MAX_ITEMS_PER_JOB)
    jobs = [
        (
            10**9 + chunk,
            "tenant",
            "noop",
            "queued",
            "photo_set",
            50,
            _NOW,
            _NOW,
            0,
            0,
            MAX_ITEMS_PER_JOB,
            "{}",
            chunk,
            total,
        )
        for chunk in range(total)
    ]
    rows = [
        (
            "tenant",
            10**9 + number // MAX_ITEMS_PER_JOB,
            item["photo_id"],
            item.get("filename"),
            "pending",
            None,
            _NOW,
            _NOW,
        )
        for number, item in enumerate(items)
    ]
    return jobs, rows


def _add_photos(database: Database, count: int) -> list[int]:
    from storage import PhotosRepository, ProjectsRepository

    project = ProjectsRepository(database).create(project_name="bench", project_folder="bench")
    return PhotosRepository(database).create_many(
        [{"project_id": project.id, "filename": f"photo-{number}"} for number in range(count)]
    )


def _empty(database: Database) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM job_items")
        connection.exec_driver_sql("DELETE FROM jobs")
    if database.is_postgresql:
        with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("VACUUM job_items")
    else:
        with database.engine.connect() as connection:
            assert connection.connection.driver_connection is not None
            connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


if __name__ == "__main__":
    command(run)
