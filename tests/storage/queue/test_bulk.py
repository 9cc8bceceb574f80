"""Many jobs are canceled or retried by a filter, with the same effects as for single jobs."""

from __future__ import annotations

from typing import Any

import pytest

from storage import Database, JobsRepository, TasksRepository
from storage.errors import InvalidValue
from storage.queue.bulk import JobFilter, cancel_jobs, retry_jobs


def _statuses(jobs: JobsRepository, tenant_id: str = "t") -> list[str]:
    return [job.status for job in reversed(jobs.list_by_tenant(tenant_id, limit=1000))]


def test_only_what_the_filter_selects_is_canceled_in_batches(
    database: Database, jobs: JobsRepository, make_project: Any
) -> None:
    project = make_project(tenant_id="t")
    jobs.enqueue_many([{"tenant_id": "t", "type": "a"}] * 7 + [{"tenant_id": "t", "type": "b"}] * 2)
    jobs.enqueue(tenant_id="other", type="a")
    jobs.enqueue(tenant_id="t", type="a", project_id=project.id)
    jobs.complete(jobs.list_by_tenant("t", type="b")[0].id)
    assert cancel_jobs(database, JobFilter(tenant_id="t", type="a", scope="photo_set"), batch_size=3) == 7
    assert _statuses(jobs) == ["canceled"] * 7 + ["queued", "completed", "queued"]
    assert _statuses(jobs, "other") == ["queued"]
    assert cancel_jobs(database, JobFilter(project_id=project.id)) == 1
    assert cancel_jobs(database, JobFilter(type="b", status="completed")) == 0


def test_age_selects_what_was_created_longer_ago(database: Database, jobs: JobsRepository, clock: Any) -> None:
    jobs.enqueue(tenant_id="t", type="x")
    clock.advance(seconds=100)
    jobs.enqueue(tenant_id="t", type="x")
    clock.advance(seconds=1)
    assert cancel_jobs(database, JobFilter(older_than_seconds=60)) == 1
    assert _statuses(jobs) == ["canceled", "queued"]


def test_canceling_the_jobs_of_a_task_ends_the_task(
    database: Database, tasks: TasksRepository, make_task: Any, make_project: Any, make_photos: Any
) -> None:
    task = make_task({"unit": "items", "chunk_size": 1}, "projects", photo_ids=make_photos(make_project(), 5))
    assert cancel_jobs(database, JobFilter(task_id=task.id), batch_size=2) == 5
    assert tasks.get(task.id).status == "canceled"
    assert len(tasks.list_jobs(task.id)) == 5


def test_retried_jobs_get_all_their_attempts_again(database: Database, jobs: JobsRepository) -> None:
    jobs.enqueue_many([{"tenant_id": "t", "type": "x"}] * 5)
    ids = [job.id for job in jobs.list_by_tenant("t")]
    jobs.complete(ids[0])
    jobs.cancel(ids[1])
    for job_id in ids[2:4]:
        jobs.increment_attempts(job_id)
        jobs.fail(job_id, "no")
    assert retry_jobs(database, JobFilter(tenant_id="t", status="failed"), batch_size=1) == 2
    retried = jobs.get_by_id(ids[2])
    assert retried is not None
    assert (retried.status, retried.attempts, retried.error_message, retried.finished_at) == ("queued", 0, None, None)
    assert retry_jobs(database, JobFilter(tenant_id="t")) == 1
    assert sorted(_statuses(jobs)) == ["completed", "queued", "queued", "queued", "queued"]


def test_retrying_the_failed_jobs_of_an_ended_task_lets_it_go_on(
    database: Database,
    jobs: JobsRepository,
    tasks: TasksRepository,
    make_task: Any,
    make_project: Any,
    make_photos: Any,
) -> None:
    step = {"unit": "items", "chunk_size": 1, "on_failure": "stop"}
    task = make_task(step, "projects", photo_ids=make_photos(make_project(), 3))
    first, second, third = tasks.list_jobs(task.id)
    jobs.complete(first.id)
    jobs.fail(second.id, "no")
    jobs.fail(third.id, "no")
    assert retry_jobs(database, JobFilter(task_id=task.id), batch_size=1) == 2
    assert (tasks.get(task.id).status, tasks.get(task.id).step_index) == ("queued", 0)
    jobs.complete(second.id)
    jobs.complete(third.id)
    assert tasks.get(task.id).step_index == 1


@pytest.mark.parametrize("batch_size", [1, 500])
def test_a_job_whose_unique_key_another_has_taken_is_not_retried(
    database: Database, jobs: JobsRepository, batch_size: int
) -> None:
    ended = []
    for _ in range(3):
        job = jobs.enqueue(tenant_id="t", type="x", unique_key="nightly")
        jobs.fail(job.id, "no")
        ended.append(job.id)
    assert retry_jobs(database, JobFilter(tenant_id="t"), batch_size=batch_size) == 1
    assert _statuses(jobs) == ["failed", "failed", "queued"]
    assert retry_jobs(database, JobFilter(tenant_id="t")) == 0


def test_the_unique_keys_of_other_tenants_and_other_keys_prevent_no_retry(
    database: Database, jobs: JobsRepository
) -> None:
    ended = jobs.enqueue(tenant_id="t", type="x", unique_key="nightly")
    jobs.fail(ended.id, "no")
    for tenant_id, key in (("t", "weekly"), ("t", None), ("other", "nightly"), ("zoo", "nightly")):
        jobs.enqueue(tenant_id=tenant_id, type="x", unique_key=key)
    other = jobs.enqueue(tenant_id="other", type="x", unique_key="hourly")
    jobs.fail(other.id, "no")
    assert retry_jobs(database, JobFilter(status="failed")) == 2


def test_a_filter_that_selects_everything_is_refused(database: Database) -> None:
    for call in (cancel_jobs, retry_jobs):
        with pytest.raises(InvalidValue, match="tenant_id"):
            call(database, JobFilter())
        no_status: Any
        for no_status in ("done", ["failed"]):
            with pytest.raises(InvalidValue, match="completed"):
                call(database, JobFilter(status=no_status))


@pytest.mark.parametrize("value", [1.6, True, "1"])
def test_an_id_that_is_no_whole_number_selects_no_job(database: Database, jobs: JobsRepository, value: Any) -> None:
    jobs.enqueue(tenant_id="t", type="x")
    for selected in (JobFilter(ids=(value,)), JobFilter(project_id=value)):
        with pytest.raises(InvalidValue, match="must be a whole number"):
            cancel_jobs(database, selected)
    assert _statuses(jobs) == ["queued"]
