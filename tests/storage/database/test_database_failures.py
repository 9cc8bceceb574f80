"""A failure of the database raises a `PhotojobsError` that says what to do, and leaves nothing half-written."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, make_url, text

from storage import Database, JobsRepository, LanesRepository, TasksRepository
from storage.database import answer_watch
from storage.database.database_url import sqlite_url
from storage.database.driver_errors import storage_error
from storage.errors import (
    ConstraintViolated,
    DatabaseBusy,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DiskFull,
    InvalidValue,
    SchemaMismatch,
)


def _count(database: Database, table: str = "jobs") -> int:
    with database.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("55P03", DatabaseBusy),
        ("40001", DatabaseBusy),
        ("40P01", DatabaseBusy),
        ("57014", DatabaseBusy),
        ("53300", DatabaseBusy),
        ("25006", DatabaseReadOnly),
        ("42501", DatabaseReadOnly),
        ("53100", DiskFull),
        ("53200", DiskFull),
        ("57P01", DatabaseUnavailable),
        ("57P03", DatabaseUnavailable),
        ("58030", DatabaseUnavailable),
        ("08006", DatabaseUnavailable),
        ("42P01", SchemaMismatch),
        ("23505", ConstraintViolated),
        ("22P05", InvalidValue),
        ("54000", InvalidValue),
    ],
)
def test_what_a_server_says_is_the_error_that_an_executor_waits_for_or_not(state: str, expected: type) -> None:
    assert type(storage_error(psycopg.errors.lookup(state)("no"), None)) is expected


def test_a_file_that_stays_locked_is_busy_after_the_timeout_and_works_again_later(sqlite_url: str) -> None:
    database = Database(sqlite_url, busy_timeout_seconds=0.05)
    jobs = JobsRepository(database)
    job = jobs.enqueue(tenant_id="t", type="x")
    with closing(sqlite3.connect(str(database.path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        calls: list[Callable[[], Any]] = [
            lambda: jobs.enqueue(tenant_id="t", type="x"),
            lambda: jobs.claim_next("worker"),
            lambda: jobs.complete(job.id),
            lambda: jobs.heartbeat(job.id),
        ]
        for call in calls:
            with pytest.raises(DatabaseBusy, match=r"nothing was written.*Try again"):
                call()
        assert jobs.get_by_id(job.id) == job
        other.execute("ROLLBACK")
    assert jobs.claim_next("worker") is not None
    database.close()


def test_a_lock_that_is_given_up_in_time_is_waited_for(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    jobs = JobsRepository(database)
    with closing(sqlite3.connect(str(database.path), isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=lambda: jobs.enqueue(tenant_id="t", type="x"))
        waiting.start()
        other.execute("ROLLBACK")
        waiting.join(60)
    assert _count(database) == 1
    database.close()


def test_a_postgresql_lock_is_waited_for_no_longer_than_the_timeout(postgresql_url: str) -> None:
    database = Database(postgresql_url, busy_timeout_seconds=0.1)
    jobs = JobsRepository(database)
    job = jobs.enqueue(tenant_id="t", type="x")
    with database.begin() as connection:
        connection.execute(text("SELECT id FROM jobs FOR UPDATE"))
        # A claim skips rows that another transaction has locked.
        assert jobs.claim_next("worker") is None
        with pytest.raises(DatabaseBusy, match="Try again"):
            jobs.complete(job.id)
    assert jobs.complete(job.id) is not None
    database.close()


def test_a_full_disk_is_told_and_leaves_nothing_half_written(sqlite_database: Database) -> None:
    jobs = JobsRepository(sqlite_database)
    kept = jobs.enqueue(tenant_id="t", type="x")
    with sqlite_database.begin() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    # The limit belongs to a connection, so the pool keeps only the connection with this limit.
    with sqlite_database.engine.connect() as limited:
        limited.exec_driver_sql(f"PRAGMA max_page_count = {pages + 5}")
        limited.rollback()
        with pytest.raises(DiskFull, match=r"disk is full.*temporary files.*nothing was written"), limited.begin():
            JobsRepository(limited).enqueue_with_items(
                tenant_id="t", type="x", items=[{"filename": "n" * 200}] * 5000, auto_chunk=True
            )
        limited.exec_driver_sql("PRAGMA max_page_count = 1073741823")
        limited.rollback()
    assert (_count(sqlite_database), _count(sqlite_database, "job_items")) == (1, 0)
    assert jobs.complete(kept.id) is not None


def test_a_file_that_may_not_be_written_is_told(sqlite_database: Database) -> None:
    jobs = JobsRepository(sqlite_database)
    job = jobs.enqueue(tenant_id="t", type="x")
    # SQLite gives the same error for a file without write permission, but root may write any file.
    read_only = Database(str(sqlite_database.path))
    event.listen(read_only.engine, "connect", lambda driver, _: driver.execute("PRAGMA query_only = ON"))
    repository = JobsRepository(read_only)
    assert repository.get_by_id(job.id) == job
    for call in (lambda: repository.enqueue(tenant_id="t", type="x"), lambda: repository.claim_next("worker")):
        with pytest.raises(DatabaseReadOnly, match="read-only"):
            call()
    read_only.close()
    assert jobs.list_by_tenant("t") == [job]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("SQLITE_CORRUPT", "restore a backup"),
        ("SQLITE_IOERR_READ", "Check the disk of this file"),
        ("SQLITE_CANTOPEN", "Check that the path names a readable SQLite file"),
    ],
)
def test_the_advice_about_a_file_fits_the_fault(code: str, advice: str) -> None:
    error = sqlite3.DatabaseError("no")
    error.sqlite_errorname = code
    assert advice in str(storage_error(error, None))


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OverflowError("no"), "Give a number that fits."),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"), "Remove this character."),
    ],
)
def test_the_advice_about_a_value_fits_the_fault(error: Exception, advice: str, database: Database) -> None:
    translated = str(storage_error(error, database.engine))
    assert translated.startswith(f"{database.url}: ")
    assert translated.endswith(advice)


def test_a_value_of_a_type_that_no_column_has_is_an_error_of_ours(database: Database, tasks: TasksRepository) -> None:
    values: list[Any] = [object()]
    # SQLite compares a text with a number.
    values += [5] if database.is_postgresql else []
    for value in values:
        with pytest.raises(InvalidValue, match=r"wrong type .* Correct this value\.$"):
            tasks.get_by_id(value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff" + b"no database" * 1000)
    database = Database(path)
    with pytest.raises(DatabaseUnavailable, match=r"photo\.jpg"):
        JobsRepository(database).list_by_tenant("t")
    database.close()
    assert path.read_bytes().startswith(b"\xff\xd8\xff")


def test_a_missing_folder_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"missing.*does not exist"):
        Database(tmp_path / "missing" / "photojobs.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root@localhost/photos",
        "://",
        "postgresql+nodriver://x/y",
        "postgresql+asyncpg://x/y",
        "sqlite+aiosqlite:///photojobs.db",
        "sqlite:///file:photojobs.db?uri=true",
        "sqlite:///photojobs.db?mode=ro",
        "sqlite:///what?/photojobs.db",
    ],
)
def test_a_url_of_no_supported_database_is_told(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatabaseUnavailable):
        Database(url)
    assert list(tmp_path.iterdir()) == []


def test_an_sqlite_that_is_too_old_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(DatabaseUnavailable, match=r"needs SQLite 3\.35"):
        Database(tmp_path / "photojobs.db")
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_no_server_has_is_told() -> None:
    database = Database("postgresql://me@127.0.0.1:1/photos?colour=red")
    with pytest.raises(DatabaseUnavailable, match="colour"), database.connect():
        pass
    database.close()


def test_the_url_of_a_file_names_that_file(tmp_path: Path) -> None:
    for name in ("plain", "with space", "What?", "100%41", "Grüße#1"):
        database = Database(sqlite_url(tmp_path / name))
        assert database.path == tmp_path / name
        database.close()


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@host:port/x", "postgresql://u:hun@ter2@host/x"])
def test_a_url_that_cannot_be_understood_is_told_without_its_password(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="%40 for @") as refusal:
        Database(url)
    assert "ter2" not in str(refusal.value)


def test_a_server_that_does_not_answer_is_told_without_its_password(postgresql_url: str) -> None:
    url = make_url(postgresql_url).set(database="nowhere", password="hunter2")
    database = Database(url.render_as_string(hide_password=False))
    with pytest.raises(DatabaseUnavailable) as refusal:
        JobsRepository(database).list_by_tenant("t")
    assert "nowhere" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in repr(database)
    database.close()


def _terminate_others(url: str) -> None:
    database = Database(url)
    with database.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    database.close()


def test_a_connection_cut_in_a_transaction_is_told_and_writes_nothing(
    postgresql_database: Database, postgresql_url: str
) -> None:
    with pytest.raises(DatabaseUnavailable), postgresql_database.begin() as connection:
        _enqueue_cut(connection, postgresql_url)
    assert _count(postgresql_database) == 0


def _enqueue_cut(connection: Any, url: str) -> None:
    repository = JobsRepository(connection)
    repository.enqueue(tenant_id="t", type="x")
    _terminate_others(url)
    repository.enqueue(tenant_id="t", type="x")


def test_a_connection_cut_between_two_calls_costs_at_most_one_of_them(
    postgresql_database: Database, postgresql_url: str
) -> None:
    jobs = JobsRepository(postgresql_database)
    job = jobs.enqueue(tenant_id="t", type="x")
    _terminate_others(postgresql_url)
    calls: list[Callable[[], Any]] = [lambda: jobs.get_by_id(job.id), lambda: jobs.claim_next("worker")]
    for call in calls:
        _terminate_others(postgresql_url)
        try:
            found = call()
        except DatabaseUnavailable:
            found = call()
        assert found is not None
        assert found.id == job.id


def test_a_forked_process_cuts_no_connection_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(answer_watch, "_shut_down", cut.put)
    watch = answer_watch.AnswerWatch()
    monkeypatch.setattr(answer_watch, "LOOK_SECONDS", 1000)
    with watch.within(0, "the parent's"):
        monkeypatch.setattr(answer_watch, "LOOK_SECONDS", 0.001)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with watch.within(0, "its own"):
            assert cut.get(timeout=30) == "its own"


def test_a_broken_rule_of_a_table_is_an_error_of_ours(database: Database, make_project: Any) -> None:
    make_project("iceland")
    with pytest.raises(ConstraintViolated, match="nothing was written"):
        make_project("iceland")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_without_our_tables_says_how_to_make_them(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    url = tmp_path / "empty.db" if kind == "sqlite" else request.getfixturevalue("empty_postgresql_url")
    database = Database(url)
    for call in (
        lambda: JobsRepository(database).enqueue(tenant_id="t", type="x"),
        lambda: JobsRepository(database).claim_next("worker"),
        lambda: LanesRepository(database).list(),
    ):
        with pytest.raises(SchemaMismatch, match="photojobs db upgrade"):
            call()
    database.close()
