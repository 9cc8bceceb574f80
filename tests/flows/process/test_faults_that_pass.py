"""An executor waits for the end of temporary database faults, logs this, and continues; it can always be stopped."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flows.execution.sweep import Sweeper
from flows.execution.worker import Worker
from flows.process.database_retry import retry_while_unavailable
from flows.process.executor import Executor
from flows.process.runtime import Runtime
from storage import Database, JobsRepository
from storage.errors import DatabaseBusy, DatabaseReadOnly, DatabaseUnavailable, DiskFull, SchemaMismatch
from storage.records import Job
from tests.flows.conftest import quick_settings
from tests.waiting import wait_until

FAULTS = [DatabaseBusy, DatabaseReadOnly, DatabaseUnavailable, DiskFull]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that lets claims fail this many times: `failing("JobsRepository.claim", DiskFull, 3)`.

    Only claims fail that hand in no ended job. If the text ends with `ends`, only claims fail that hand in ended jobs.
    """

    def fail(place: str, error: type[Exception], times: int) -> None:
        original, left = JobsRepository.claim, [None] * times

        def first_fail(*arguments: Any, **more: Any) -> Any:
            if left and bool(more["ended"]) == place.endswith("ends"):
                left.pop()
                raise error("not now")
            return original(*arguments, **more)

        monkeypatch.setattr(JobsRepository, "claim", first_fail)

    return fail


def work(runtime: Runtime, job: Job) -> None:
    """Let a worker run until the job has ended."""
    worker = Worker(runtime)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    jobs = JobsRepository(runtime.database)
    wait_until(lambda: (found := jobs.get_by_id(job.id)) is not None and found.is_final, what="the job has ended")
    worker.stop()
    thread.join(120)
    assert not thread.is_alive()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", ["JobsRepository.claim", "JobsRepository.claim with ends"])
def test_a_worker_waits_for_a_fault_that_passes(
    runtime: Runtime, stage: Any, failing: Any, caplog: pytest.LogCaptureFixture, fault: Any, place: str
) -> None:
    job = JobsRepository(runtime.database).enqueue(tenant_id="t", type="count", scope="global")
    failing(place, fault, 2)

    with caplog.at_level(logging.WARNING):
        work(runtime, job)

    ended = JobsRepository(runtime.database).get_by_id(job.id)
    assert ended is not None
    assert (ended.status, ended.attempts) == ("completed", 0)
    assert stage.started == [("count", job.id)]
    assert "not now" in caplog.text


def test_a_worker_that_must_end_drains_what_runs(runtime: Runtime, stage: Any, failing: Any) -> None:
    jobs = JobsRepository(runtime.database)
    running = jobs.enqueue(tenant_id="t", type="wait_at_gate", scope="global")
    worker = Worker(runtime)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except SchemaMismatch as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: "gate" in stage.entered and stage.entered["gate"].is_set(), what="the handler is at its gate")
    failing("JobsRepository.claim", SchemaMismatch, 1_000)
    jobs.enqueue(tenant_id="t", type="count", scope="global")
    thread.join(120)

    assert [type(error) for error in raised] == [SchemaMismatch]
    # Its handler had not ended, so the job went back to the queue at once, before it counts as abandoned.
    found = jobs.get_by_id(running.id)
    assert found is not None
    assert (found.status, found.attempts) == ("queued", 0)


def test_a_worker_stops_within_the_drain_time_though_an_end_cannot_be_stored(
    runtime: Runtime, stage: Any, failing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.process.executor.HAND_BACK_SECONDS", 0.5)
    monkeypatch.setattr(runtime, "settings", runtime.settings.model_copy(update={"drain_seconds": 0.5}))
    JobsRepository(runtime.database).enqueue(tenant_id="t", type="count", scope="global")
    failing("JobsRepository.claim with ends", DatabaseUnavailable, 1_000)
    worker = Worker(runtime)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    wait_until(lambda: stage.started, what="the handler has run")
    waits: list[float] = []
    wait_for_threads = Executor._wait_for_threads

    def note(executor: Executor, limit_seconds: float, **more: Any) -> Any:
        waits.append(limit_seconds)
        return wait_for_threads(executor, limit_seconds, **more)

    monkeypatch.setattr(Executor, "_wait_for_threads", note)

    worker.stop()
    thread.join(120)

    assert not thread.is_alive()
    # The setting includes the time to return jobs to the queue. An earlier version added this time to the setting.
    assert sum(waits) == runtime.settings.drain_seconds


def test_a_wait_for_the_database_ends_at_once_if_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.process.database_retry.backoff_seconds", lambda *_, **__: 600.0)
    is_over = threading.Event()

    def fail() -> None:
        threading.Timer(0.2, is_over.set).start()
        raise DatabaseUnavailable("not now")

    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        retry_while_unavailable(fail, unless=is_over.is_set)
    assert time.monotonic() - began < 300


def test_an_end_that_cannot_be_stored_yet_is_tried_again_while_the_process_stops(
    runtime: Runtime, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = JobsRepository(runtime.database)
    job = jobs.enqueue(tenant_id="t", type="count", scope="global")
    worker = Worker(runtime)
    claim, failed = JobsRepository.claim, list[bool]()

    def fail_until_it_stops(*arguments: Any, **more: Any) -> Any:
        if more["ended"] and True not in failed:
            failed.append(worker._lanes._stopping.is_set())  # This is the error that handlers see.
            worker.stop_now()
            raise DatabaseUnavailable("not now")
        return claim(*arguments, **more)

    monkeypatch.setattr(JobsRepository, "claim", fail_until_it_stops)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    thread.join(120)

    ended = jobs.get_by_id(job.id)
    assert ended is not None
    assert (ended.status, ended.attempts) == ("completed", 0)


def test_a_job_that_the_system_has_no_thread_for_goes_back(
    runtime: Runtime, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = JobsRepository(runtime.database).enqueue(tenant_id="t", type="count", scope="global")
    start, refused = threading.Thread.start, []

    def refuse_once(self: threading.Thread) -> None:
        if self.name.startswith("photojobs-job-") and not refused:
            refused.append(self.name)
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    work(runtime, job)

    ended = JobsRepository(runtime.database).get_by_id(job.id)
    assert ended is not None
    assert (ended.status, ended.attempts, len(refused)) == ("completed", 0, 1)


def test_a_worker_is_stopped_without_any_lock(runtime: Runtime, stage: Any) -> None:
    worker = Worker(runtime)
    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with runtime.wakeups._changed:  # A signal may come while any lock is held.
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    stopper = threading.Thread(target=lambda: [worker.stop(), worker.stop_now()], daemon=True)
    stopper.start()
    stopper.join(60)
    is_stopped = not stopper.is_alive()
    release.set()
    holder.join(30)
    assert is_stopped
    worker.run()


def test_no_thread_that_waits_for_a_frozen_database_keeps_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, blocked = threading.Event(), list[str]()

    def wait(*_: Any, **__: Any) -> None:
        blocked.append(threading.current_thread().name)
        release.wait(600)
        raise sqlite3.OperationalError("it has never answered")

    database = Database(tmp_path / "photojobs.db")
    database.migrate()
    runtime = Runtime(database, settings=quick_settings(tmp_path))
    for place in (
        "flows.execution.sweep.sweep",
        "storage.lifecycle.heartbeats.write_heartbeats",
        "storage.queue.wakeups.Wakeups._open_file",
    ):
        monkeypatch.setattr(place, wait)
    try:
        with Sweeper(runtime):
            runtime.heartbeat.start()
            waiter = threading.Thread(target=runtime.wakeups.wait, args=(30.0,), daemon=True)
            waiter.start()
            wait_until(lambda: len(set(blocked)) == 3, what=lambda: f"three threads wait for the database: {blocked}")
            closing = threading.Thread(target=runtime.close, daemon=True)
        closing.start()
        closing.join(120)
        assert not closing.is_alive()
    finally:
        release.set()
    waiter.join(30)
    for thread in [thread for thread in threading.enumerate() if thread.name in blocked]:
        thread.join(30)
