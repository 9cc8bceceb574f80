"""Threads that wait for a job, a slot or the moment of a job are woken, and need not wait for the next poll."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from flows.execution.worker import Worker
from flows.process.runtime import Runtime
from flows.starting.new_task import new_task
from storage import Database, JobsRepository, LanesRepository, TasksRepository
from storage.records import Job
from tests.flows.conftest import define, quick_settings
from tests.flows.process.following import Turn
from tests.waiting import wait_until


@contextmanager
def executor(database_url: str, folder: Path) -> Iterator[Runtime]:
    """Open the runtime of a process that polls once an hour."""
    with Runtime(Database(database_url), settings=quick_settings(folder, poll_seconds=3600)) as opened:
        yield opened


def _follow(runtime: Runtime, job: Job) -> tuple[Turn, Future[Job | None]]:
    turn = Turn()
    return turn, runtime.followed.follow(job.id, turn)


def test_an_idle_worker_begins_at_once_and_at_the_hour_of_a_delayed_job(
    database_url: str, rows: Database, tmp_path: Path, stage: Any
) -> None:
    jobs, tasks = JobsRepository(rows), TasksRepository(rows)
    with executor(database_url, tmp_path) as runtime:
        worker = Worker(runtime)
        thread = threading.Thread(target=worker.run)
        thread.start()
        jobs.enqueue(tenant_id="t", type="count", scope="global")
        wait_until(lambda: len(stage.started) == 1, what="the worker has found the first job, and is idle again")

        hour = rows.clock() + timedelta(seconds=0.5)
        delayed = jobs.enqueue(tenant_id="t", type="count", scope="global", run_after=hour)
        steps = ({"type": "count", "priority": 50}, {"type": "count", "priority": 95})
        task = tasks.start(new_task(define("two_steps", *steps, scope="global"), task_id="two-steps", tenant_id="t"))

        wait_until(lambda: tasks.get(task.id).is_final, what="both steps ran")
        wait_until(lambda: ("count", delayed.id) in stage.started, what="the delayed job ran")
        worker.stop()
        thread.join()


def test_who_waits_is_woken_by_a_slot_that_another_process_frees(
    database_url: str, rows: Database, tmp_path: Path
) -> None:
    LanesRepository(rows).change("priority", slots=1)
    jobs = JobsRepository(rows)
    first, second = (jobs.enqueue(tenant_id="t", type="x", priority=95) for _ in range(2))
    with executor(database_url, tmp_path) as one, executor(database_url, tmp_path) as other:
        running, ended = _follow(one, first)
        claimed = running.claimed.result(60)
        waiting, ended_too = _follow(other, second)
        wait_until(lambda: other.followed.next_in_line() == [second.id], what="the other process waits")

        jobs.complete(first.id, claim_token=claimed.claim_token)

        assert waiting.claimed.result(60).id == second.id
        running.may_end.set()
        waiting.may_end.set()
        assert ended_too.result(60) is not None
        # Its turn had ended the job no more, as it had ended already.
        assert ended.result(60) is None


def test_who_waits_for_a_delayed_job_gets_it_at_its_hour(database_url: str, rows: Database, tmp_path: Path) -> None:
    job = JobsRepository(rows).enqueue(tenant_id="t", type="x", run_after=rows.clock() + timedelta(seconds=0.5))
    with executor(database_url, tmp_path) as runtime:
        turn, ended = _follow(runtime, job)
        turn.may_end.set()

        assert turn.claimed.result(60).id == job.id
        assert ended.result(60) is not None
