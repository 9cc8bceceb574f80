"""The follow-up jobs that a standalone job requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.handlers.job_targets import JobTargets
from storage import Database, JobsRepository


def test_a_standalone_job_gets_one_follow_up_job_for_equal_requests_about_photos_that_exist(
    database: Database, jobs: JobsRepository, make_project: Any, make_photos: Any
) -> None:
    first, second = make_photos(make_project(), 2)
    removed = second + 1
    targets = JobTargets(database, jobs.enqueue(tenant_id="tenant", type="count"))

    def request(photo_ids: Sequence[int], *, priority: int = 85, payload: Mapping[str, Any] | None = None) -> None:
        with database.begin() as connection:
            targets.enqueue_standalone(connection, "note", photo_ids=photo_ids, priority=priority, payload=payload)

    request([first, second])
    request([first, removed, second], payload={})
    request([first, second], payload={"force": True})
    request([first, second], priority=60)
    request([removed])

    made = [job for job in reversed(jobs.list_by_tenant("tenant")) if job.type == "note"]
    assert [(job.priority, job.payload) for job in made] == [(85, {}), (85, {"force": True}), (60, {})]
    assert all([item.photo_id for item in jobs.list_items(job.id)] == [first, second] for job in made)
