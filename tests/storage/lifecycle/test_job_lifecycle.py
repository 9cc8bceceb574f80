"""Each call between the claim of a job and its end, and after its end, does what it promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage import Database, Job, JobsRepository, Project
from storage.errors import ConstraintViolated, InvalidValue


@pytest.fixture
def running(jobs: JobsRepository) -> Job:
    jobs.enqueue(tenant_id="tenant", type="x")
    job = jobs.claim_next("worker")
    assert job is not None
    return job


def test_complete_ends_a_running_job(jobs: JobsRepository, running: Job, clock: Any) -> None:
    clock.advance(seconds=5)
    ended = jobs.complete(running.id, result={"done": 3})
    assert ended is not None
    assert (ended.status, ended.finished_at, ended.result) == ("completed", clock(), {"done": 3})
    assert (ended.error_message, ended.worker_id, ended.is_final) == (None, "worker", True)


def test_fail_keeps_the_reason_and_when(jobs: JobsRepository, running: Job, clock: Any) -> None:
    ended = jobs.fail(running.id, "disk on fire")
    assert ended is not None
    assert (ended.status, ended.error_message, ended.last_error_at) == ("failed", "disk on fire", clock())


def test_an_error_message_is_cut_at_a_thousand_characters(jobs: JobsRepository, running: Job) -> None:
    ended = jobs.fail(running.id, "ä" * 5000)
    assert ended is not None
    assert ended.error_message == "ä" * 1000


@pytest.mark.parametrize("end", ["complete", "fail", "cancel"])
def test_a_queued_job_can_be_ended_as_well(jobs: JobsRepository, end: str) -> None:
    job = jobs.enqueue(tenant_id="tenant", type="x")
    assert _end(jobs, end, job.id) is not None
    assert jobs.claim_next("worker") is None


@pytest.mark.parametrize("first", ["complete", "fail", "cancel"])
@pytest.mark.parametrize("second", ["complete", "fail", "cancel"])
def test_what_has_ended_stays_as_it_ended(
    jobs: JobsRepository, running: Job, clock: Any, first: str, second: str
) -> None:
    ended = _end(jobs, first, running.id)
    clock.advance(seconds=10)
    assert _end(jobs, second, running.id) is None
    assert jobs.get_by_id(running.id) == ended


@pytest.mark.parametrize("end", ["complete", "fail", "cancel"])
def test_a_job_that_does_not_exist_cannot_be_ended(jobs: JobsRepository, end: str) -> None:
    assert _end(jobs, end, 4711) is None


def test_only_the_claim_that_took_a_job_may_end_it(jobs: JobsRepository, running: Job) -> None:
    jobs.requeue(running.id)
    again = jobs.claim_next("another")
    assert again is not None
    assert again.claim_token != running.claim_token
    old = running.claim_token
    assert jobs.complete(running.id, claim_token=old) is None
    assert jobs.fail(running.id, "late", claim_token=old) is None
    assert not jobs.heartbeat(running.id, claim_token=old)
    assert not jobs.update_progress(running.id, done=9, claim_token=old)
    assert jobs.retry_later(running.id, "late", run_after=running.created_at, claim_token=old) is None
    assert jobs.hand_back(running.id, claim_token=str(old)) is None
    assert jobs.get_by_id(running.id) == again
    assert jobs.complete(running.id, claim_token=again.claim_token) is not None


def test_a_token_ends_no_job_that_was_queued_again_in_the_meantime(jobs: JobsRepository, running: Job) -> None:
    jobs.requeue(running.id)
    assert jobs.complete(running.id, claim_token=running.claim_token) is None
    queued = jobs.get_by_id(running.id)
    assert queued is not None
    assert queued.status == "queued"


@pytest.mark.parametrize("status", ["queued", "running", "completed", "failed", "canceled"])
def test_requeue_clears_the_run_whatever_the_status_was(jobs: JobsRepository, clock: Any, status: str) -> None:
    job = _job_of_status(jobs, status)
    clock.advance(seconds=1)
    queued = jobs.requeue(job.id)
    assert queued is not None
    assert (queued.status, queued.started_at, queued.finished_at) == ("queued", None, None)
    assert (queued.worker_id, queued.heartbeat_at, queued.claim_token) == (None, None, None)
    assert queued.attempts == job.attempts
    claimed = jobs.claim_next("worker")
    assert claimed is not None
    assert claimed.id == job.id


def test_requeue_of_no_job_is_none(jobs: JobsRepository) -> None:
    assert jobs.requeue(4711) is None


def test_requeue_is_refused_while_another_job_has_the_unique_key(jobs: JobsRepository) -> None:
    ended = jobs.enqueue(tenant_id="tenant", type="x", unique_key="nightly")
    jobs.complete(ended.id)
    jobs.enqueue(tenant_id="tenant", type="x", unique_key="nightly")
    with pytest.raises(ConstraintViolated):
        jobs.requeue(ended.id)
    assert jobs.get_by_id(ended.id).status == "completed"  # type: ignore[union-attr]


def test_a_heartbeat_touches_running_jobs_alone(jobs: JobsRepository, clock: Any) -> None:
    for status in ("queued", "completed", "failed", "canceled"):
        job = _job_of_status(jobs, status)
        clock.advance(seconds=1)
        assert not jobs.heartbeat(job.id)
        assert jobs.get_by_id(job.id) == job
        jobs.cancel(job.id)
    running = _job_of_status(jobs, "running")
    clock.advance(seconds=1)
    assert jobs.heartbeat(running.id, claim_token=running.claim_token)
    assert jobs.get_by_id(running.id).heartbeat_at == clock()  # type: ignore[union-attr]


def test_progress_changes_only_what_is_given(jobs: JobsRepository) -> None:
    job = jobs.enqueue(tenant_id="tenant", type="x", progress_total=10)
    assert jobs.update_progress(job.id, done=3)
    assert jobs.update_progress(job.id, total=20)
    assert jobs.update_progress(job.id)
    stored = jobs.get_by_id(job.id)
    assert stored is not None
    assert (stored.progress_done, stored.progress_total) == (3, 20)
    assert not jobs.update_progress(4711, done=1)
    with pytest.raises(InvalidValue, match="done"):
        jobs.update_progress(job.id, done=-1)


def test_a_payload_is_replaced_whole(jobs: JobsRepository) -> None:
    job = jobs.enqueue(tenant_id="tenant", type="x", payload={"a": 1})
    changed = jobs.update_payload(job.id, {"b": [2]})
    assert changed is not None
    assert changed.payload == {"b": [2]}
    assert jobs.update_payload(4711, {}) is None


def test_attempts_are_counted_and_a_default_never_replaces_a_maximum(jobs: JobsRepository) -> None:
    job = jobs.enqueue(tenant_id="tenant", type="x")
    assert jobs.increment_attempts(job.id).attempts == 1  # type: ignore[union-attr]
    assert jobs.increment_attempts(job.id).attempts == 2  # type: ignore[union-attr]
    assert jobs.set_default_max_attempts(job.id, 5).max_attempts == 5  # type: ignore[union-attr]
    assert jobs.set_default_max_attempts(job.id, 9).max_attempts == 5  # type: ignore[union-attr]
    assert jobs.increment_attempts(4711) is None
    assert jobs.set_default_max_attempts(4711, 1) is None


def test_cancel_by_project_touches_its_queued_and_running_jobs_alone(
    jobs: JobsRepository, make_project: Callable[..., Project]
) -> None:
    project, other = make_project(), make_project()
    ended = jobs.enqueue(tenant_id="tenant", type="x", project_id=project.id)
    jobs.complete(ended.id)
    running = jobs.enqueue(tenant_id="tenant", type="x", project_id=project.id)
    jobs.claim_next("worker")
    queued = jobs.enqueue(tenant_id="tenant", type="x", project_id=project.id)
    elsewhere = jobs.enqueue(tenant_id="tenant", type="x", project_id=other.id)
    canceled = jobs.cancel_by_project(project.id)
    assert {job.id for job in canceled} == {running.id, queued.id}
    assert {(job.status, job.error_message, job.last_error_at) for job in canceled} == {("canceled", None, None)}
    assert jobs.get_by_id(ended.id).status == "completed"  # type: ignore[union-attr]
    assert jobs.get_by_id(elsewhere.id).status == "queued"  # type: ignore[union-attr]


def test_a_retry_counts_an_attempt_and_waits_for_its_moment(jobs: JobsRepository, running: Job, clock: Any) -> None:
    moment = clock().replace(hour=18)
    given_back = jobs.retry_later(running.id, "flaky", run_after=moment, claim_token=running.claim_token)
    assert given_back is not None
    assert (given_back.status, given_back.attempts, given_back.run_after) == ("queued", 1, moment)
    assert (given_back.error_message, given_back.last_error_at, given_back.claim_token) == ("flaky", clock(), None)
    assert jobs.claim_next("worker") is None
    clock.set(moment)
    again = jobs.claim_next("worker")
    assert again is not None
    given_back = jobs.retry_later(again.id, "flaky", run_after=moment, claim_token=str(again.claim_token))
    assert given_back is not None
    assert given_back.attempts == 2


def test_handing_a_job_back_costs_no_attempt(jobs: JobsRepository, running: Job) -> None:
    given_back = jobs.hand_back(running.id, claim_token=str(running.claim_token))
    assert given_back is not None
    assert (given_back.status, given_back.attempts, given_back.error_message) == ("queued", 0, None)


def test_a_repeated_job_finds_what_is_not_done_pending_again(jobs: JobsRepository) -> None:
    job = jobs.enqueue_with_items(
        tenant_id="tenant", type="x", items=[{"filename": name} for name in ("done", "failed", "running", "skipped")]
    )
    assert isinstance(job, Job)
    jobs.claim_next("worker")
    for item in jobs.list_items(job.id):
        jobs.update_item_status(item.id, status=str(item.filename), message="because")
    jobs.requeue(job.id)
    statuses = {item.filename: item.status for item in jobs.list_items(job.id)}
    assert statuses == {"done": "done", "failed": "pending", "running": "pending", "skipped": "skipped"}


def test_the_next_pending_item_is_the_one_with_the_lowest_id(jobs: JobsRepository, clock: Any) -> None:
    job = jobs.enqueue_with_items(tenant_id="tenant", type="x", items=[{"filename": "a"}, {"filename": "b"}])
    assert isinstance(job, Job)
    first = jobs.next_pending_item(job.id)
    assert first is not None
    assert first.filename == "a"
    clock.advance(seconds=4)
    failed = jobs.update_item_status(first.id, status="failed", message="corrupt")
    assert failed is not None
    assert (failed.status, failed.message, failed.updated_at, failed.attempts) == ("failed", "corrupt", clock(), 1)
    second = jobs.next_pending_item(job.id)
    assert second is not None
    assert second.filename == "b"
    jobs.update_item_status(second.id, status="done")
    assert jobs.next_pending_item(job.id) is None


def test_an_item_status_that_is_none_is_refused_and_no_item_is_none(jobs: JobsRepository) -> None:
    no_status: Any
    for no_status in ("finished", ["done"]):
        with pytest.raises(InvalidValue, match="pending"):
            jobs.update_item_status(1, status=no_status)
    assert jobs.update_item_status(4711, status="done") is None
    assert jobs.list_items(4711) == []


def test_a_success_clears_the_reason_of_an_earlier_failure(jobs: JobsRepository) -> None:
    job = jobs.enqueue_with_items(tenant_id="tenant", type="x", items=[{"filename": "a"}])
    assert isinstance(job, Job)
    (item,) = jobs.list_items(job.id)
    jobs.update_item_status(item.id, status="failed", message="no")
    done = jobs.update_item_status(item.id, status="done")
    assert done is not None
    assert done.message is None


def test_items_go_with_their_job_and_keep_their_row_when_a_photo_goes(
    database: Database,
    jobs: JobsRepository,
    make_project: Callable[..., Project],
    make_photos: Callable[..., list[int]],
) -> None:
    from storage import PhotosRepository, ProjectsRepository

    project = make_project()
    photo_ids = make_photos(project, 2)
    job = jobs.enqueue_with_items(
        tenant_id="tenant", type="x", project_id=project.id, items=[{"photo_id": photo_id} for photo_id in photo_ids]
    )
    assert isinstance(job, Job)
    PhotosRepository(database).remove_many([photo_ids[0]])
    assert [item.photo_id for item in jobs.list_items(job.id)] == [None, photo_ids[1]]
    ProjectsRepository(database).remove(project.id)
    assert [item.photo_id for item in jobs.list_items(job.id)] == [None, None]
    assert jobs.get_by_id(job.id).project_id is None  # type: ignore[union-attr]


def _end(jobs: JobsRepository, how: str, id: int) -> Job | None:
    return jobs.fail(id, "no") if how == "fail" else getattr(jobs, how)(id)


def _job_of_status(jobs: JobsRepository, status: str) -> Job:
    job = jobs.enqueue(tenant_id="tenant", type="x")
    if status != "queued":
        claimed = jobs.claim_next("worker")
        assert claimed is not None
        assert claimed.id == job.id
    if status in ("completed", "failed", "canceled"):
        _end(jobs, {"completed": "complete", "failed": "fail", "canceled": "cancel"}[status], job.id)
    found = jobs.get_by_id(job.id)
    assert found is not None
    return found
