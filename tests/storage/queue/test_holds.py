"""Held jobs are not claimed; after the release, they can start unless another hold remains."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from storage import Database, JobsRepository, TasksRepository
from storage.errors import InvalidValue, UnknownLane, UnknownTask
from storage.queue.bulk import JobFilter, retry_jobs
from storage.queue.holds import HoldsRepository


@pytest.fixture
def holds(database: Database) -> HoldsRepository:
    return HoldsRepository(database)


def _marks(database: Database) -> list[str | None]:
    with database.connect() as connection:
        return list(connection.execute(text("SELECT held_by FROM jobs ORDER BY id")).scalars())


def test_jobs_of_a_held_tenant_wait_those_of_others_do_not(jobs: JobsRepository, holds: HoldsRepository) -> None:
    jobs.enqueue(tenant_id="held", type="x")
    other = jobs.enqueue(tenant_id="other", type="x")
    hold = holds.hold("tenant", "held", "disk full")
    assert (hold.kind, hold.name, hold.reason) == ("tenant", "held", "disk full")
    later = jobs.enqueue(tenant_id="held", type="x", priority=100)
    claimed = jobs.claim_next("worker")
    assert claimed is not None
    assert claimed.id == other.id
    assert jobs.claim_next("worker") is None
    assert jobs.claim_next("worker", lane="priority") is None
    assert holds.release("tenant", "held")
    claimed = jobs.claim_next("worker")
    assert claimed is not None
    assert claimed.id == later.id


def test_a_held_task_stops_before_its_next_job_and_goes_on_when_released(
    tasks: TasksRepository,
    jobs: JobsRepository,
    holds: HoldsRepository,
    make_task: Any,
    make_project: Any,
    make_photos: Any,
) -> None:
    task = make_task("items", "projects", photo_ids=make_photos(make_project(), 2))
    running = jobs.claim_next("worker")
    assert running is not None
    holds.hold("task", task.id)
    assert jobs.complete(running.id, claim_token=running.claim_token) is not None
    assert tasks.get(task.id).step_index == 1
    assert jobs.claim_next("worker") is None
    holds.release("task", task.id)
    assert jobs.claim_next("worker") is not None


def test_a_held_lane_gives_no_jobs_while_other_lanes_do(jobs: JobsRepository, holds: HoldsRepository) -> None:
    jobs.enqueue(tenant_id="t", type="x")
    jobs.enqueue(tenant_id="t", type="x", priority=95)
    holds.hold("lane", "normal")
    assert jobs.claim_next("worker", lane="normal") is None
    assert jobs.claim_next("worker", lane="priority") is not None
    holds.release("lane", "normal")
    assert jobs.claim_next("worker", lane="normal") is not None


@pytest.mark.parametrize("first_released", ["task", "tenant"])
def test_a_job_under_two_holds_waits_for_both_releases(
    database: Database, jobs: JobsRepository, holds: HoldsRepository, make_task: Any, first_released: str
) -> None:
    task = make_task("library", scope="global")
    names = {"task": task.id, "tenant": "tenant"}
    for kind, name in names.items():
        holds.hold(kind, name)
    holds.release(first_released, names.pop(first_released))
    ((second, name),) = names.items()
    assert _marks(database) == [second]
    assert jobs.claim_next("worker") is None
    holds.release(second, name)
    assert _marks(database) == [None]
    assert jobs.claim_next("worker") is not None


def test_a_release_never_frees_follow_ups_that_wait_for_their_steps(
    database: Database,
    tasks: TasksRepository,
    holds: HoldsRepository,
    make_task: Any,
    make_project: Any,
    make_photos: Any,
) -> None:
    photo_ids = make_photos(make_project(), 1)
    task = make_task("items", photo_ids=photo_ids)
    tasks.add_follow_up(task.id, type="derive", priority=85, photo_ids=[photo_ids[0]])
    for kind, name in (("task", task.id), ("tenant", "tenant")):
        holds.hold(kind, name)
        assert _marks(database)[1] == "steps"
        holds.release(kind, name)
        assert _marks(database) == [None, "steps"]


def test_a_job_given_back_while_its_tenant_is_held_stays_held(jobs: JobsRepository, holds: HoldsRepository) -> None:
    jobs.enqueue(tenant_id="held", type="x")
    running = jobs.claim_next("worker")
    assert running is not None
    holds.hold("tenant", "held")
    jobs.requeue(running.id)
    assert jobs.claim_next("worker") is None
    holds.release("tenant", "held")
    assert jobs.claim_next("worker") is not None


@pytest.mark.parametrize("how", ["requeue", "bulk retry"])
def test_a_job_that_ended_under_a_hold_runs_when_it_is_queued_again_after_the_release(
    database: Database, jobs: JobsRepository, holds: HoldsRepository, how: str
) -> None:
    job = jobs.enqueue(tenant_id="held", type="x")
    holds.hold("tenant", "held")
    jobs.cancel(job.id)
    holds.release("tenant", "held")
    assert jobs.requeue(job.id) if how == "requeue" else retry_jobs(database, JobFilter(tenant_id="held"))
    assert jobs.claim_next("worker") is not None


def test_a_job_that_ended_before_a_hold_is_marked_when_it_is_queued_again_under_it(
    database: Database, jobs: JobsRepository, holds: HoldsRepository
) -> None:
    for _ in range(2):
        jobs.cancel(jobs.enqueue(tenant_id="held", type="x").id)
    holds.hold("tenant", "held")
    jobs.requeue(1)
    retry_jobs(database, JobFilter(tenant_id="held"))
    assert _marks(database) == ["tenant"] * 2


def test_a_hold_marks_its_jobs_so_that_claims_need_not_read_them(
    database: Database, jobs: JobsRepository, holds: HoldsRepository
) -> None:
    jobs.enqueue_many([{"tenant_id": "held", "type": "x"}] * 3)
    holds.hold("tenant", "held")
    jobs.enqueue(tenant_id="held", type="x")
    assert _marks(database) == ["tenant"] * 4


def test_holds_are_listed_and_change_only_their_reason_when_repeated(holds: HoldsRepository, clock: Any) -> None:
    first = holds.hold("tenant", "a", "one")
    clock.advance(seconds=1)
    holds.hold("lane", "normal")
    again = holds.hold("tenant", "a", "two")
    assert (again.created_at, again.reason) == (first.created_at, "two")
    assert [(hold.kind, hold.name) for hold in holds.list()] == [("tenant", "a"), ("lane", "normal")]
    assert [hold.name for hold in holds.list("lane")] == ["normal"]
    assert holds.release("tenant", "a")
    assert not holds.release("tenant", "a")
    assert [hold.name for hold in holds.list()] == ["normal"]


def test_what_cannot_be_held_is_refused_by_name(holds: HoldsRepository) -> None:
    with pytest.raises(InvalidValue, match=r"planet.*task, tenant, lane"):
        holds.hold("planet", "earth")
    with pytest.raises(InvalidValue, match="planet"):
        holds.release("planet", "earth")
    with pytest.raises(UnknownTask, match="nobody"):
        holds.hold("task", "nobody")
    with pytest.raises(UnknownLane, match="express"):
        holds.hold("lane", "express")
    with pytest.raises(InvalidValue, match="name"):
        holds.hold("tenant", "")
    assert holds.list() == []
