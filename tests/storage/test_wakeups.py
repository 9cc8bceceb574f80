"""Waiters wake when something is enqueued, by this process or another, and never wait longer than they said."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from storage import Database, JobsRepository
from storage.wakeups import Wakeups

#: Longer than any wake-up takes; a test that waits so long has failed.
LONG_SECONDS = 5.0


def _let_listen(database: Database, wakeups: Wakeups) -> None:
    """Wait until the listener stands: from then on nothing is missed."""
    if not database.is_postgresql:
        wakeups.wait(0.5)
        return
    deadline = time.monotonic() + LONG_SECONDS
    while time.monotonic() < deadline:
        wakeups.wait(0.01)
        if _listeners(database):
            return
    pytest.fail("nobody listens")


def _listeners(database: Database) -> list[int]:
    with database.connect() as connection:
        statement = text(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            " AND state = 'idle'"
        )
        return list(connection.execute(statement).scalars())


def test_a_job_enqueued_by_another_connection_wakes_every_waiting_thread(database: Database) -> None:
    with Wakeups(database) as wakeups, ThreadPoolExecutor(8) as threads:
        _let_listen(database, wakeups)
        waits = [threads.submit(wakeups.wait, LONG_SECONDS) for _ in range(8)]
        JobsRepository(database).enqueue(tenant_id="tenant", type="x")
        assert [wait.result() for wait in waits] == [True] * 8


def test_a_job_enqueued_by_another_process_wakes_this_one(database: Database, database_url: str) -> None:
    program = (
        "import sys; from storage import Database, JobsRepository;"
        "JobsRepository(Database(sys.argv[1])).enqueue(tenant_id='tenant', type='x')"
    )
    with Wakeups(database) as wakeups:
        _let_listen(database, wakeups)
        other = subprocess.Popen([sys.executable, "-c", program, database_url])
        try:
            assert wakeups.wait(LONG_SECONDS)
        finally:
            assert other.wait() == 0


def test_nothing_enqueued_ends_the_wait_at_its_timeout(database: Database) -> None:
    with Wakeups(database) as wakeups:
        _let_listen(database, wakeups)
        began = time.monotonic()
        assert not wakeups.wait(0.2)
        assert time.monotonic() - began >= 0.2


def test_a_job_enqueued_between_two_waits_is_not_missed(database: Database) -> None:
    with Wakeups(database) as wakeups:
        _let_listen(database, wakeups)
        assert not wakeups.wait(0)
        JobsRepository(database).enqueue(tenant_id="tenant", type="x")
        assert wakeups.wait(LONG_SECONDS)


def test_notify_wakes_the_threads_of_this_process(database: Database) -> None:
    with Wakeups(database) as wakeups, ThreadPoolExecutor(1) as threads:
        _let_listen(database, wakeups)
        waiting = threads.submit(wakeups.wait, LONG_SECONDS)
        wakeups.notify()
        assert waiting.result()


def test_close_ends_every_wait_and_leaves_no_thread(database: Database) -> None:
    wakeups = Wakeups(database)
    _let_listen(database, wakeups)
    with ThreadPoolExecutor(4) as threads:
        waits = [threads.submit(wakeups.wait, LONG_SECONDS) for _ in range(4)]
        wakeups.close()
        assert [wait.result() for wait in waits] == [False] * 4
    wakeups.close()
    assert not wakeups.wait(LONG_SECONDS)
    assert not [thread for thread in threading.enumerate() if thread.name == "photojobs-wakeups"]


def test_an_enqueue_that_was_rolled_back_wakes_nobody(database: Database) -> None:
    with Wakeups(database) as wakeups:
        _let_listen(database, wakeups)
        with database.connect() as connection, connection.begin():
            JobsRepository(connection).enqueue(tenant_id="tenant", type="x")
            connection.get_transaction().rollback()
        assert not wakeups.wait(0.4)


def test_a_listener_whose_connection_was_cut_wakes_its_waiters_and_listens_again(postgresql_database: Database) -> None:
    database = postgresql_database
    with Wakeups(database) as wakeups:
        _let_listen(database, wakeups)
        (before,) = _listeners(database)
        with database.begin() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": before})
        # What was notified in between cannot be told, so coming back counts as a reason to look.
        assert wakeups.wait(LONG_SECONDS)
        _let_listen(database, wakeups)
        assert _listeners(database) != [before]
        JobsRepository(database).enqueue(tenant_id="tenant", type="x")
        assert wakeups.wait(LONG_SECONDS)


def test_an_idle_waiter_does_not_hold_up_writers(sqlite_database: Database) -> None:
    with Wakeups(sqlite_database) as wakeups, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wakeups.wait, LONG_SECONDS)
        for _ in range(50):
            JobsRepository(sqlite_database).enqueue(tenant_id="tenant", type="x")
        assert waiting.result()


def test_a_database_in_memory_is_woken_by_its_own_process() -> None:
    database = Database("sqlite://")
    with Wakeups(database) as wakeups, ThreadPoolExecutor(1) as threads:
        wakeups.wait(0)
        waiting = threads.submit(wakeups.wait, LONG_SECONDS)
        while not waiting.running():
            pass
        assert not wakeups.wait(0)
        wakeups.notify()
        assert waiting.result()
    database.close()
