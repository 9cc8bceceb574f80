"""Moments in the formats of other programs are read correctly on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from storage import Database, JobsRepository, PhotosRepository, ProjectsRepository
from storage.database.tables import photos
from storage.history.foreign_columns import restore_foreign_values, snapshot_foreign_values
from storage.queue.claims import next_due_at
from storage.queue.rescue import rescue_stale
from storage.reports.ended_jobs import Place, ended_jobs
from storage.reports.waiting_reasons import explain_job
from tests.conftest import START

FORMS = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%f+00:00", "%Y-%m-%dT%H:%M:%S.%f"]


def write(database: Database, job_id: int, column: str, value: str | bytes) -> None:
    with database.begin() as connection:
        cast = "CAST(:value AS timestamptz)" if database.is_postgresql else ":value"
        connection.execute(text(f"UPDATE jobs SET {column} = {cast} WHERE id = :id"), {"value": value, "id": job_id})


def in_zone(moment: datetime, hours: int) -> str:
    return f"{(moment + timedelta(hours=hours)).strftime('%Y-%m-%dT%H:%M:%S')}{hours:+03d}:00"


@pytest.mark.parametrize("form", FORMS)
def test_a_running_job_with_a_fresh_heartbeat_is_not_rescued(
    database: Database, jobs: JobsRepository, clock: Any, form: str
) -> None:
    jobs.enqueue(tenant_id="t", type="x")
    running = jobs.claim_next("another program")
    assert running is not None
    clock.advance(seconds=3600)
    write(database, running.id, "heartbeat_at", clock().strftime(form))
    assert rescue_stale(database, stale_seconds=60, max_attempts=3).requeued == ()
    assert jobs.requeue_stale_running(60) == []
    clock.advance(seconds=61)
    assert jobs.requeue_stale_running(60) == [running.id]


@pytest.mark.parametrize("hours", [-11, 2, 12])
def test_a_delayed_job_is_due_when_its_moment_has_come_in_whatever_zone(
    database: Database, jobs: JobsRepository, clock: Any, hours: int
) -> None:
    job = jobs.enqueue(tenant_id="t", type="x", run_after=START + timedelta(days=1))
    write(database, job.id, "run_after", in_zone(START + timedelta(hours=2), hours))
    assert jobs.claim_next("worker") is None
    clock.advance(seconds=2 * 3600 - 1)
    assert jobs.claim_next("worker") is None
    clock.advance(seconds=1)
    assert jobs.claim_next("worker") is not None


def test_a_time_that_cannot_be_read_is_none_and_keeps_its_row_readable(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    job = jobs.enqueue(tenant_id="t", type="x", run_after=START + timedelta(days=1))
    for value in ("infinity", "10000-01-01", "0044-03-15 BC") if database.is_postgresql else ("yesterday", b"\0"):
        for column in ("run_after", "created_at", "heartbeat_at"):
            write(database, job.id, column, value)
        assert next_due_at(database) is None
        for read in (jobs.get_by_id(job.id), jobs.get_many([job.id])[job.id], *jobs.list_by_tenant("t")):
            assert read is not None
            assert (read.run_after, read.created_at, read.heartbeat_at) == (None, None, None)


def test_such_a_time_in_a_column_of_another_program_is_kept_for_an_undo(postgresql_database: Database) -> None:
    project = ProjectsRepository(postgresql_database).create(project_name="a", project_folder="a")
    PhotosRepository(postgresql_database).create_many([{"id": 1, "project_id": project.id, "filename": "a"}])
    stored = {"timestamptz": "infinity", "timestamp": "-infinity", "date": "0044-03-15 BC", "time": "24:00:00"}
    with postgresql_database.begin() as connection:
        for kind, value in stored.items():
            connection.execute(text(f"ALTER TABLE photos ADD COLUMN a_{kind} {kind} DEFAULT '{value}'"))
    with postgresql_database.begin() as connection:
        kept = snapshot_foreign_values(connection, photos, [1])
        connection.execute(text(f"UPDATE photos SET {', '.join(f'a_{kind} = NULL' for kind in stored)}"))
        restore_foreign_values(connection, photos, [{"id": 1, **kept[1]}])
        columns = ", ".join(f"CAST(a_{kind} AS text)" for kind in stored)
        restored = connection.execute(text(f"SELECT {columns} FROM photos")).one()
    assert tuple(restored) == tuple(stored.values())


def test_pages_by_key_end_and_hold_every_job_once(database: Database, jobs: JobsRepository, clock: Any) -> None:
    ids = []
    for number in range(12):
        clock.advance(seconds=1)
        ids.append(jobs.enqueue(tenant_id="t", type="x").id)
        if number % 3:
            form = FORMS[number % 2] if number % 3 == 1 else None
            write(database, ids[-1], "created_at", clock().strftime(form) if form else in_zone(clock(), 3))
    seen: list[int] = []
    before = None
    while page := jobs.list_by_tenant("t", limit=5, before=before):
        seen += [job.id for job in page]
        assert len(seen) <= len(ids)
        before = (page[-1].created_at, page[-1].id)
    assert seen == ids[::-1]


def test_rows_of_one_moment_with_microseconds_are_told_apart_by_their_ids(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    ids = [jobs.enqueue(tenant_id="t", type="x").id for _ in range(5)]
    moment = START.strftime("%Y-%m-%d %H:%M:%S.123456+00:00")
    for job_id in ids:
        write(database, job_id, "created_at", moment)
    first = jobs.list_by_tenant("t", limit=2)
    rest = jobs.list_by_tenant("t", before=(first[-1].created_at, first[-1].id))
    assert [job.id for job in (*first, *rest)] == ids[::-1]
    clock.advance(seconds=60)
    explained = explain_job(database, ids[2], stale_seconds=60)
    assert "2 jobs rank before it" in next(reason.says for reason in explained.reasons if reason.name == "rank")
    for job_id in ids:
        jobs.complete(job_id)
        write(database, job_id, "finished_at", moment)
    place, ended = Place(finished_at=START), []
    with database.connect() as connection:
        while found := ended_jobs(connection, after=place, before=clock(), limit=2):
            ended += [job.id for job in found]
            assert len(ended) <= len(ids)
            place = found[-1].place
    assert ended == ids


def test_a_row_that_another_program_inserts_has_its_rank(sqlite_database: Database, clock: Any) -> None:
    jobs = JobsRepository(sqlite_database)
    late = jobs.enqueue(tenant_id="t", type="x")
    with sqlite_database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO jobs (tenant_id, type, status, created_at, scope) VALUES "
                "('t', 'later', 'queued', '2025-10-01 12:00:01', 'global'), "
                "('t', 'earlier', 'queued', '2025-10-01T13:59:59+02:00', 'global'), "
                "('t', 'unreadable', 'queued', 'yesterday', 'global')"
            )
        )
        stored = connection.execute(text("SELECT created_at FROM jobs ORDER BY id")).scalars().all()
    assert stored[1:] == ["2025-10-01T12:00:01.000Z", "2025-10-01T11:59:59.000Z", "yesterday"]
    claimed = [jobs.claim_next("worker") for _ in range(3)]
    assert [job.type for job in claimed if job] == ["earlier", late.type, "later"]
