"""Jobs of dead executors return to the queue; jobs with heartbeats are not changed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from storage import Database, JobsRepository
from storage.queue.rescue import WORKER_LOST, find_silent, rescue_stale


def test_a_silent_job_is_queued_again_as_one_attempt_more(database: Database, jobs: JobsRepository, clock: Any) -> None:
    job = jobs.enqueue(tenant_id="t", type="x")
    jobs.claim_next("worker")
    clock.advance(seconds=61)
    rescued = rescue_stale(database, stale_seconds=60, max_attempts=3)
    assert (rescued.requeued, rescued.failed) == ((job.id,), ())
    stored = jobs.get_by_id(job.id)
    assert stored is not None
    assert (stored.status, stored.attempts, stored.error_message) == ("queued", 1, WORKER_LOST)
    assert (stored.claim_token, stored.worker_id, stored.heartbeat_at) == (None, None, None)


def test_a_job_that_beats_is_not_rescued_however_long_it_runs(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    job = jobs.enqueue(tenant_id="t", type="x")
    claimed = jobs.claim_next("worker")
    assert claimed is not None
    for _ in range(100):
        clock.advance(seconds=59)
        assert jobs.heartbeat(job.id, claim_token=claimed.claim_token)
        rescued = rescue_stale(database, stale_seconds=60, max_attempts=1)
        assert (rescued.requeued, rescued.failed) == ((), ())


def test_a_job_of_an_executor_that_died_before_the_clock_was_set_back_is_rescued(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    dead, alive = (jobs.enqueue(tenant_id="t", type="x") and jobs.claim_next("worker") for _ in range(2))
    assert dead is not None
    assert alive is not None
    clock.set(clock() - timedelta(hours=1))
    suspects = find_silent(database, stale_seconds=60)
    clock.advance(seconds=15)
    assert jobs.heartbeat(alive.id, claim_token=alive.claim_token)
    rescued = rescue_stale(database, stale_seconds=60, max_attempts=3, suspects=suspects)
    assert (rescued.requeued, rescued.failed) == ((dead.id,), ())


def test_the_last_attempt_fails_with_worker_lost(database: Database, jobs: JobsRepository, clock: Any) -> None:
    own = jobs.enqueue(tenant_id="t", type="x", max_attempts=2)
    default = jobs.enqueue(tenant_id="t", type="x")
    for attempt in range(1, 4):
        while jobs.claim_next("worker"):
            pass
        clock.advance(seconds=61)
        rescued = rescue_stale(database, stale_seconds=60, max_attempts=3)
        assert (own.id in rescued.failed) == (attempt == 2)
        assert (default.id in rescued.failed) == (attempt == 3)
    for job in (own, default):
        stored = jobs.get_by_id(job.id)
        assert stored is not None
        assert (stored.status, stored.error_message, stored.last_error_at) == (
            "failed",
            WORKER_LOST,
            stored.finished_at,
        )


def test_the_executor_that_comes_back_finds_its_claim_gone(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    jobs.enqueue(tenant_id="t", type="x")
    first = jobs.claim_next("worker")
    assert first is not None
    clock.advance(seconds=61)
    rescue_stale(database, stale_seconds=60, max_attempts=3)
    second = jobs.claim_next("worker")
    assert second is not None
    assert jobs.complete(first.id, claim_token=first.claim_token) is None
    assert jobs.complete(second.id, claim_token=second.claim_token) is not None


def test_requeue_stale_running_returns_the_ids_and_leaves_the_others(jobs: JobsRepository, clock: Any) -> None:
    ids = [job.id for job in jobs.enqueue_many([{"tenant_id": "t", "type": "x"}] * 4)]
    for _ in range(3):
        jobs.claim_next("worker")
    clock.advance(seconds=31)
    jobs.heartbeat(ids[1])
    assert jobs.requeue_stale_running(30) == [ids[0], ids[2]]
    assert [jobs.get_by_id(job_id).status for job_id in ids] == ["queued", "running", "queued", "queued"]  # type: ignore[union-attr]
    assert [jobs.get_by_id(job_id).attempts for job_id in ids] == [1, 0, 1, 0]  # type: ignore[union-attr]
    assert jobs.requeue_stale_running(30) == []


def test_both_ways_of_rescue_agree_on_which_jobs_are_abandoned(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    claimed, marked = jobs.enqueue_many([{"tenant_id": "t", "type": "x"}] * 2)
    jobs.claim_next("worker")
    with database.begin() as connection:
        # Another program may set only the status.
        connection.execute(text("UPDATE jobs SET status = 'running'"))
    clock.advance(seconds=-3600)
    silent = find_silent(database, stale_seconds=60)
    assert jobs.requeue_stale_running(60) == sorted(silent) == [claimed.id, marked.id]


def test_a_job_that_fails_by_rescue_moves_its_task_on(
    database: Database, jobs: JobsRepository, make_task: Any, tasks: Any, clock: Any
) -> None:
    task = make_task({"unit": "library", "on_failure": "stop"}, "library", scope="global")
    jobs.claim_next("worker")
    clock.advance(seconds=61)
    rescue_stale(database, stale_seconds=60, max_attempts=1)
    assert tasks.get(task.id).status == "failed"
