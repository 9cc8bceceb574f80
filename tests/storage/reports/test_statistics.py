"""Statistics of jobs match the jobs that were run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from storage import Database, JobsRepository
from storage.reports.statistics import Statistics


def test_counts_by_status_type_tenant_and_lane(database: Database, jobs: JobsRepository, clock: Any) -> None:
    statistics = Statistics(database)
    assert statistics.count_by_status() == {"queued": 0, "running": 0, "completed": 0, "failed": 0, "canceled": 0}
    began = clock()
    jobs.enqueue_many([{"tenant_id": "a", "type": "x", "priority": 95}] * 3)
    clock.advance(seconds=10)
    jobs.enqueue_many([{"tenant_id": "b", "type": "y"}] * 2)
    jobs.enqueue(tenant_id="b", type="y", run_after=clock() + timedelta(days=1))
    claimed = jobs.claim_next("worker")
    assert claimed is not None
    jobs.cancel(jobs.list_by_tenant("b")[-1].id)
    assert statistics.count_by_status() == {"queued": 4, "running": 1, "completed": 0, "failed": 0, "canceled": 1}
    assert statistics.count_by_status(tenant_id="b")["queued"] == 2
    assert statistics.count_by_type() == {"x": {"queued": 2, "running": 1}, "y": {"queued": 2, "canceled": 1}}
    assert statistics.count_by_tenant() == {"a": {"queued": 2, "running": 1}, "b": {"queued": 2, "canceled": 1}}
    high, normal = statistics.lanes()
    assert (high.name, high.running, high.queued, high.oldest_waiting_at) == ("priority", 1, 2, began)
    assert (normal.name, normal.running, normal.queued, normal.oldest_waiting_at) == ("normal", 0, 2, clock())


def test_times_are_those_of_the_jobs_that_ended_last(database: Database, jobs: JobsRepository, clock: Any) -> None:
    empty = Statistics(database).times()
    assert (empty.waiting.sample_size, empty.waiting.average_seconds, empty.running.p95_seconds) == (0, None, None)
    for seconds in (1, 2, 3, 4, 10):
        jobs.enqueue(tenant_id="t", type="x")
        clock.advance(seconds=seconds)
        job = jobs.claim_next("worker")
        assert job is not None
        clock.advance(seconds=10 * seconds)
        jobs.complete(job.id)
    times = Statistics(database).times()
    assert (times.waiting.sample_size, times.waiting.average_seconds, times.waiting.median_seconds) == (5, 4, 3)
    assert (times.running.longest_seconds, times.running.median_seconds) == (100, 30)
    assert times.running.p95_seconds is not None
    assert 40 < times.running.p95_seconds < 100
    latest = Statistics(database).times(sample_size=1)
    assert (latest.waiting.sample_size, latest.running.median_seconds) == (1, 100)


def test_a_job_whose_time_cannot_be_read_is_left_out_of_the_times(sqlite_database: Database) -> None:
    repository = JobsRepository(sqlite_database)
    for _ in range(2):
        repository.enqueue(tenant_id="t", type="x")
        job = repository.claim_next("worker")
        assert job is not None
        repository.complete(job.id)
    with sqlite_database.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET created_at = 'yesterday' WHERE id = 1")
    assert Statistics(sqlite_database).times().waiting.sample_size == 1


def test_the_oldest_waiting_job_is_one_that_could_run(database: Database, jobs: JobsRepository, clock: Any) -> None:
    statistics = Statistics(database)
    assert statistics.oldest_waiting() is None
    delayed = jobs.enqueue(tenant_id="t", type="x", run_after=clock() + timedelta(days=1))
    clock.advance(seconds=1)
    old = jobs.enqueue(tenant_id="t", type="x", priority=1)
    clock.advance(seconds=1)
    jobs.enqueue(tenant_id="t", type="x", priority=99)
    oldest = statistics.oldest_waiting()
    assert oldest is not None
    assert oldest.id == old.id != delayed.id
