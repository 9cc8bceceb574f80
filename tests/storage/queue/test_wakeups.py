"""Waiting threads wake when any process enqueues a job, and never wait longer than their limit."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import text

from storage import (
    Database,
    JobsRepository,
    LanesRepository,
    PhotosRepository,
    ProjectsRepository,
    TasksRepository,
)
from storage.lifecycle import heartbeats
from storage.queue.exchange import End, Wanted
from storage.queue.holds import HoldsRepository
from storage.queue.rescue import rescue_stale
from storage.queue.wakeups import Wakeups
from storage.records import JobStatus

#: Longer than any wake-up takes; a test fails if it waits this long.
LONG_SECONDS = 120.0


def _let_listen(wakeups: Wakeups) -> None:
    """Wait until the listener is connected, which wakes all waiters once. From then on, no notification is missed."""
    assert wakeups.wait(60)


def _listeners(database: Database) -> list[int]:
    with database.connect() as connection:
        statement = text(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            " AND state = 'idle'"
        )
        return list(connection.execute(statement).scalars())


def test_a_job_enqueued_by_another_connection_wakes_every_waiting_thread(database: Database) -> None:
    with Wakeups(database) as wakeups, ThreadPoolExecutor(8) as threads:
        _let_listen(wakeups)
        waits = [threads.submit(wakeups.wait, LONG_SECONDS) for _ in range(8)]
        JobsRepository(database).enqueue(tenant_id="tenant", type="x")
        assert [wait.result() for wait in waits] == [True] * 8


def test_a_job_enqueued_by_another_process_wakes_this_one(database: Database, database_url: str) -> None:
    program = (
        "import sys; from storage import Database, JobsRepository;"
        "JobsRepository(Database(sys.argv[1])).enqueue(tenant_id='tenant', type='x')"
    )
    with Wakeups(database) as wakeups:
        _let_listen(wakeups)
        other = subprocess.Popen([sys.executable, "-c", program, database_url])
        try:
            assert wakeups.wait(LONG_SECONDS)
        finally:
            assert other.wait() == 0


def test_a_process_with_very_many_open_files_is_woken_too(database: Database) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2000), limits[1]))
    files = ExitStack()
    for _ in range(1100):
        files.callback(os.close, os.open(os.devnull, os.O_RDONLY))
    try:
        with files, Wakeups(database) as wakeups, ThreadPoolExecutor(1) as threads:
            _let_listen(wakeups)
            woken = threads.submit(wakeups.wait, LONG_SECONDS)
            JobsRepository(database).enqueue(tenant_id="tenant", type="x")
            assert woken.result()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_nothing_enqueued_ends_the_wait_at_its_timeout(database: Database) -> None:
    with Wakeups(database) as wakeups:
        _let_listen(wakeups)
        began = time.monotonic()
        assert not wakeups.wait(0.2)
        assert time.monotonic() - began >= 0.2


def test_a_job_enqueued_between_two_waits_is_not_missed(database: Database) -> None:
    with Wakeups(database) as wakeups:
        _let_listen(wakeups)
        assert not wakeups.wait(0)
        JobsRepository(database).enqueue(tenant_id="tenant", type="x")
        assert wakeups.wait(LONG_SECONDS)


def test_notify_wakes_the_threads_of_this_process(database: Database) -> None:
    with Wakeups(database) as wakeups, ThreadPoolExecutor(1) as threads:
        _let_listen(wakeups)
        waiting = threads.submit(wakeups.wait, LONG_SECONDS)
        wakeups.notify()
        assert waiting.result()


def test_close_ends_every_wait_and_leaves_no_thread(database: Database) -> None:
    wakeups = Wakeups(database)
    _let_listen(wakeups)
    with ThreadPoolExecutor(4) as threads:
        waits = [threads.submit(wakeups.wait, LONG_SECONDS) for _ in range(4)]
        wakeups.close()
        assert [wait.result() for wait in waits] == [False] * 4
    wakeups.close()
    assert not wakeups.wait(LONG_SECONDS)
    assert not [thread for thread in threading.enumerate() if thread.name == "photojobs-wakeups"]


def test_an_enqueue_that_was_rolled_back_wakes_nobody(database: Database) -> None:
    with Wakeups(database) as wakeups:
        _let_listen(wakeups)
        with database.connect() as connection, connection.begin():
            JobsRepository(connection).enqueue(tenant_id="tenant", type="x")
            connection.get_transaction().rollback()
        assert not wakeups.wait(0.4)


def _lay_out_the_next_step(database: Database, make_task: Any) -> Callable[[], object]:
    task = make_task("projects", "projects")
    [job] = TasksRepository(database).list_jobs(task.id)
    return lambda: JobsRepository(database).complete(job.id)


def _release_follow_up_jobs(database: Database, make_task: Any) -> Callable[[], object]:
    project = ProjectsRepository(database).create(project_name="Iceland", project_folder="Iceland", tenant_id="tenant")
    [photo_id] = PhotosRepository(database).create_many([{"project_id": project.id, "filename": "fox"}])
    tasks, task = TasksRepository(database), make_task("projects")
    tasks.add_follow_up(task.id, type="x", priority=50, photo_ids=[photo_id])
    job, _ = tasks.list_jobs(task.id)
    return lambda: JobsRepository(database).complete(job.id)


def _hand_a_job_back(database: Database, make_task: Any) -> Callable[[], object]:
    JobsRepository(database).enqueue(tenant_id="tenant", type="x")
    claimed = JobsRepository(database).claim_next("worker")
    assert claimed is not None
    return lambda: JobsRepository(database).hand_back(claimed.id, claim_token=str(claimed.claim_token))


def _rescue_a_job(database: Database, make_task: Any) -> Callable[[], object]:
    JobsRepository(database).enqueue(tenant_id="tenant", type="x")
    JobsRepository(database).claim_next("worker")
    return lambda: rescue_stale(database, stale_seconds=-1, max_attempts=3)


def _retry_a_task(database: Database, make_task: Any) -> Callable[[], object]:
    task = make_task("projects")
    TasksRepository(database).cancel(task.id)
    return lambda: TasksRepository(database).retry(task.id)


def _release_a_lane(database: Database, make_task: Any) -> Callable[[], object]:
    HoldsRepository(database).hold("lane", "normal")
    return lambda: HoldsRepository(database).release("lane", "normal")


def _give_a_lane_more_slots(database: Database, make_task: Any) -> Callable[[], object]:
    return lambda: LanesRepository(database).change("normal", slots=9)


def _free_a_slot_that_somebody_waits_for(database: Database, make_task: Any) -> Callable[[], object]:
    JobsRepository(database).enqueue(tenant_id="tenant", type="x")
    running = JobsRepository(database).claim_next("worker")
    waiting = JobsRepository(database).enqueue(tenant_id="tenant", type="x")
    heartbeats.record_waiting(database, [waiting.id], worker_id="w")
    assert running is not None
    return lambda: JobsRepository(database).complete(running.id)


def _end_a_job_of_a_task_that_somebody_follows(database: Database, make_task: Any) -> Callable[[], object]:
    task = make_task("projects")
    TasksRepository(database).heartbeat([task.id])
    return lambda: TasksRepository(database).cancel(task.id)


@pytest.mark.parametrize(
    "prepare",
    [
        _lay_out_the_next_step,
        _release_follow_up_jobs,
        _hand_a_job_back,
        _rescue_a_job,
        _retry_a_task,
        _release_a_lane,
        _give_a_lane_more_slots,
        _free_a_slot_that_somebody_waits_for,
        _end_a_job_of_a_task_that_somebody_follows,
    ],
)
def test_whatever_lets_a_job_begin_or_ends_one_that_is_followed_wakes_other_processes(
    prepare: Callable[..., Callable[[], object]], database: Database, make_task: Any
) -> None:
    act = prepare(database, make_task)
    with Wakeups(database) as wakeups:
        _let_listen(wakeups)
        while wakeups.wait(0.2):
            pass
        act()
        assert wakeups.wait(LONG_SECONDS)


@pytest.mark.parametrize("has_waiter", [True, False])
def test_the_end_of_a_job_is_told_only_where_somebody_waits(has_waiter: bool, postgresql_database: Database) -> None:
    jobs = JobsRepository(postgresql_database)
    waiting = [jobs.enqueue(tenant_id="tenant", type="x") for _ in range(3)][2]
    running = jobs.claim_next("worker")
    assert running is not None
    if has_waiter:
        heartbeats.record_waiting(postgresql_database, [waiting.id], worker_id="w")
    with Wakeups(postgresql_database) as wakeups:
        _let_listen(wakeups)
        end = End(job_id=running.id, status=JobStatus.COMPLETED, claim_token=running.claim_token)
        exchanged = jobs.claim("worker", Wanted(lanes=["normal"]), limit=1, ended=[end])
        assert (len(exchanged.ended), len(exchanged.claimed)) == (1, 1)
        assert wakeups.wait(LONG_SECONDS if has_waiter else 0.3) is has_waiter


@pytest.mark.parametrize("wanted", [Wanted(bounds=(90, 99)), Wanted(lanes=("priority",))])
def test_a_claim_that_ends_no_job_wakes_no_process(wanted: Wanted, postgresql_database: Database) -> None:
    # Each process that wakes claims. If a claim woke the others again, they would never wait.
    jobs = JobsRepository(postgresql_database)
    waiting = jobs.enqueue(tenant_id="tenant", type="x", priority=10)
    heartbeats.record_waiting(postgresql_database, [waiting.id], worker_id="w")
    with Wakeups(postgresql_database) as wakeups:
        _let_listen(wakeups)
        assert [jobs.claim("another", wanted, limit=limit).claimed for limit in (0, 1)] == [(), ()]
        assert not wakeups.wait(0.3)


def test_a_listener_whose_connection_was_cut_wakes_its_waiters_and_listens_again(postgresql_database: Database) -> None:
    database = postgresql_database
    with Wakeups(database) as wakeups:
        _let_listen(wakeups)
        (before,) = _listeners(database)
        with database.begin() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": before})
        # Notifications during the interruption are lost, so a new connection counts as a reason to check the tables.
        assert wakeups.wait(LONG_SECONDS)
        assert before not in _listeners(database)
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
