"""Statistics of jobs match the jobs that were run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from storage import Database, JobsRepository
from storage.reports.statistics import OpenJobs, Statistics


def test_counts_by_status_type_and_lane(database: Database, jobs: JobsRepository, clock: Any) -> None:
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
    assert statistics.open_by_type() == {"x": OpenJobs(queued=2, running=1), "y": OpenJobs(queued=2, running=0)}
    assert statistics.count_delayed() == 1
    high, normal = statistics.lanes()
    assert (high.name, high.running, high.queued, high.oldest_waiting_at) == ("priority", 1, 2, began)
    assert (normal.name, normal.running, normal.queued, normal.oldest_waiting_at) == ("normal", 0, 2, clock())
