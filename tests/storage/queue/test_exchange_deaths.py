"""If a process is killed between any two statements of an exchange of jobs, nothing is lost."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from storage import Database, JobsRepository, TasksRepository
from storage.lifecycle.state_machine import lock_task
from storage.queue.exchange import End, Wanted
from storage.queue.rescue import rescue_stale
from storage.records import Job, JobStatus

WANTED = Wanted(lanes=("priority", "normal"))


@pytest.mark.parametrize("limit", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the process that dies is forked")
def test_a_death_between_any_two_statements_loses_nothing_and_does_nothing_twice(
    database: Database, database_url: str, make_task: Any, limit: int
) -> None:
    own = Database(database_url)
    jobs, tasks = JobsRepository(own), TasksRepository(own)
    with _dying(database_url) as die_before:
        for statement in itertools.count(1):
            with own.begin() as connection:
                for table in ("jobs", "tasks"):
                    connection.execute(text(f"DELETE FROM {table}"))
            task = make_task("library", "library", scope="global")
            jobs.enqueue(tenant_id="tenant", type="x", priority=40)
            running = jobs.claim("dying", Wanted(), limit=2).claimed
            waiting = [jobs.enqueue(tenant_id="tenant", type="x", priority=priority) for priority in (95, 10)]
            is_over = die_before(statement, limit)

            rows = {job.id: job for job in jobs.list_by_tenant("tenant")}
            # What ended, and what was taken, is in the database together or not at all. On PostgreSQL, a claim of no
            # more jobs than end locks no lane; the claim of a job that needs the lock follows in another transaction.
            expected = [["completed", "completed", "running"], ["running", "running", "queued"]]
            if database.is_postgresql and limit == 2:
                expected.append(["completed", "completed", "queued"])
            assert [rows[job.id].status for job in (*running, waiting[0])] in expected
            had_ended = [job.id for job in running if rows[job.id].is_final]

            with own.begin() as connection:
                # PostgreSQL frees the locks of a dead process a moment later. An earlier sweep skips its task.
                lock_task(connection, task.id)
            for stuck in tasks.list_stuck():
                tasks.settle(stuck.id)
            taken = {job.id for job in rows.values() if job.status == "running"}
            assert set(rescue_stale(own, stale_seconds=-60, max_attempts=3).requeued) >= taken
            _work_off(jobs)

            rows = {job.id: job for job in jobs.list_by_tenant("tenant")}
            assert {job.status for job in rows.values()} == {"completed"}
            assert [job.step_index for job in tasks.list_jobs(task.id)] == [0, 1]
            assert tasks.get(task.id).status == "completed"
            assert {rows[job_id].attempts for job_id in had_ended} <= {0}
            assert {rows[job_id].attempts for job_id in taken} <= {1}
            if is_over:
                break
    own.close()
    # Processes died before the ends, the claim, the check and the settling.
    assert statement > 8


def _work_off(jobs: JobsRepository) -> None:
    ended: list[End] = []
    while True:
        claimed: tuple[Job, ...] = jobs.claim("w", WANTED, limit=3, ended=ended).claimed
        ended = [End(job_id=job.id, status=JobStatus.COMPLETED, claim_token=job.claim_token) for job in claimed]
        if not claimed:
            return


@contextmanager
def _dying(url: str) -> Iterator[Any]:
    script = Path(__file__).with_name("exchange_dying.py")
    with subprocess.Popen(
        [sys.executable, str(script), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def die_before(statement: int, limit: int) -> bool:
            print(statement, limit, file=process.stdin, flush=True)
            answer = process.stdout.readline().strip()  # type: ignore[union-attr]
            assert answer in ("died", "survived"), answer
            return answer == "survived"

        yield die_before
        process.stdin.close()
