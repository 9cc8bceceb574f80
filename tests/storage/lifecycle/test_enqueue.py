"""`enqueue` and `enqueue_with_items` write and return the right rows."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from storage import MAX_ITEMS_PER_JOB, Database, Job, JobsRepository, Project
from storage.errors import InvalidValue, TooManyItems, UnknownProject
from task_definitions import MissingProject, UnexpectedProject, UnknownScope


def _items(count: int) -> list[dict[str, Any]]:
    return [{"filename": f"photo-{number}"} for number in range(count)]


def test_a_new_job_is_queued_untried_and_returned_whole(jobs: JobsRepository, clock: Any) -> None:
    job = jobs.enqueue(tenant_id="tenant", type="resize", payload={"custom": "data", "deep": [1, {"a": None}]})
    assert (job.status, job.attempts, job.progress_done, job.progress_total) == ("queued", 0, 0, None)
    assert (job.created_at, job.started_at, job.finished_at, job.worker_id) == (clock(), None, None, None)
    assert (job.priority, job.max_attempts, job.error_message, job.heartbeat_at) == (0, None, None, None)
    assert job.payload == {"custom": "data", "deep": [1, {"a": None}]}
    assert jobs.get_by_id(job.id) == job


def test_what_was_given_is_what_is_stored(jobs: JobsRepository, make_project: Callable[..., Project]) -> None:
    project = make_project()
    job = jobs.enqueue(
        tenant_id="tenant", type="x", project_id=project.id, priority=50, progress_total=7, max_attempts=2, payload={}
    )
    assert (job.project_id, job.priority, job.progress_total, job.max_attempts) == (project.id, 50, 7, 2)


@pytest.mark.parametrize(
    ("scope", "with_project", "expected"),
    [
        (None, True, "project"),
        (None, False, "photo_set"),
        ("photo_set", True, "photo_set"),
        ("photo_set", False, "photo_set"),
        ("global", False, "global"),
        ("project", True, "project"),
    ],
)
def test_a_scope_that_is_not_given_follows_the_project(
    jobs: JobsRepository, make_project: Callable[..., Project], scope: str | None, with_project: bool, expected: str
) -> None:
    project_id = make_project().id if with_project else None
    assert jobs.enqueue(tenant_id="tenant", type="x", scope=scope, project_id=project_id).scope == expected


@pytest.mark.parametrize(
    ("scope", "with_project", "error"),
    [("project", False, MissingProject), ("global", True, UnexpectedProject), ("everything", False, UnknownScope)],
)
def test_a_scope_that_contradicts_the_project_is_refused(
    jobs: JobsRepository,
    make_project: Callable[..., Project],
    scope: str,
    with_project: bool,
    error: type[Exception],
) -> None:
    project_id = make_project().id if with_project else None
    with pytest.raises(error):
        jobs.enqueue(tenant_id="tenant", type="x", scope=scope, project_id=project_id)
    assert jobs.list_by_tenant("tenant") == []


def test_a_project_that_does_not_exist_is_refused_by_its_id(jobs: JobsRepository) -> None:
    with pytest.raises(UnknownProject, match="4711"):
        jobs.enqueue(tenant_id="tenant", type="x", project_id=4711)


def test_items_are_written_with_the_job_in_their_order(
    jobs: JobsRepository, make_project: Callable[..., Project], make_photos: Callable[..., list[int]]
) -> None:
    photo_ids = make_photos(make_project(), 2)
    job = jobs.enqueue_with_items(
        tenant_id="tenant",
        type="x",
        items=[
            {"photo_id": photo_ids[1], "filename": "b.jpg"},
            {"photo_id": photo_ids[0]},
            {"filename": "c.jpg", "status": "done", "message": "was there"},
        ],
        priority=75,
    )
    assert isinstance(job, Job)
    assert (job.progress_total, job.progress_done, job.priority, job.scope) == (3, 0, 75, "photo_set")
    items = jobs.list_items(job.id)
    assert [(item.photo_id, item.filename, item.status, item.message) for item in items] == [
        (photo_ids[1], "b.jpg", "pending", None),
        (photo_ids[0], None, "pending", None),
        (None, "c.jpg", "done", "was there"),
    ]
    assert {(item.tenant_id, item.job_id, item.attempts) for item in items} == {("tenant", job.id, 0)}
    assert [item.id for item in items] == sorted(item.id for item in items)


def test_no_items_make_one_job_without_items(jobs: JobsRepository) -> None:
    job = jobs.enqueue_with_items(tenant_id="tenant", type="x", items=[])
    assert isinstance(job, Job)
    assert job.progress_total == 0


@pytest.mark.parametrize("auto_chunk", [False, True])
def test_as_many_items_as_a_job_may_have_make_one_job(jobs: JobsRepository, auto_chunk: bool) -> None:
    job = jobs.enqueue_with_items(tenant_id="tenant", type="x", items=_items(MAX_ITEMS_PER_JOB), auto_chunk=auto_chunk)
    assert isinstance(job, Job)
    assert job.progress_total == MAX_ITEMS_PER_JOB
    assert "chunk_index" not in job.payload


def test_one_item_too_many_is_refused_with_count_maximum_and_the_way_out(jobs: JobsRepository) -> None:
    with pytest.raises(TooManyItems, match=r"2001.*2000.*auto_chunk") as refusal:
        jobs.enqueue_with_items(tenant_id="tenant", type="x", items=iter(_items(MAX_ITEMS_PER_JOB + 1)))
    assert (refusal.value.count, refusal.value.maximum) == (2001, 2000)
    assert jobs.list_by_tenant("tenant") == []


def test_auto_chunk_makes_a_list_of_jobs_in_the_order_of_the_items(jobs: JobsRepository) -> None:
    chunks = jobs.enqueue_with_items(
        tenant_id="tenant", type="x", items=iter(_items(4500)), auto_chunk=True, payload={"reason": "bulk"}, priority=60
    )
    assert isinstance(chunks, list)
    assert [job.progress_total for job in chunks] == [2000, 2000, 500]
    assert [job.payload for job in chunks] == [
        {"reason": "bulk", "chunk_index": index, "total_chunks": 3} for index in range(3)
    ]
    assert [(job.chunk_index, job.total_chunks, job.priority, job.status) for job in chunks] == [
        (index, 3, 60, "queued") for index in range(3)
    ]
    names = [item.filename for job in chunks for item in jobs.list_items(job.id)]
    assert names == [item["filename"] for item in _items(4500)]
    assert [jobs.get_by_id(job.id) for job in chunks] == chunks


def test_a_bad_item_among_thousands_leaves_nothing_behind(jobs: JobsRepository) -> None:
    items = [*_items(4200), {"filename": "x", "photo": 1}]
    with pytest.raises(InvalidValue, match=r"items\[.*\]\.photo"):
        jobs.enqueue_with_items(tenant_id="tenant", type="x", items=items, auto_chunk=True)
    assert jobs.list_by_tenant("tenant") == []


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"photo_id": None},
        {"photo_id": "1"},
        {"photo_id": 0},
        {"filename": ""},
        {"filename": "a", "status": "gone"},
        {"filename": "a", "status": ["done"]},
        {"filename": "a", "message": lambda: "cannot be pickled"},
        7,
        lambda: "cannot be pickled",
    ],
)
@pytest.mark.parametrize("kind", [list, iter])
def test_an_item_that_cannot_be_one_is_refused_by_its_place(
    jobs: JobsRepository, item: Any, kind: Callable[[list[Any]], Any]
) -> None:
    with pytest.raises(InvalidValue, match=r"items\[1\]"):
        jobs.enqueue_with_items(tenant_id="tenant", type="x", items=kind([{"filename": "good"}, item]))
    assert jobs.list_by_tenant("tenant") == []


@pytest.mark.parametrize("auto_chunk", [False, True])
def test_items_may_be_mappings_of_any_kind_but_must_be_several(jobs: JobsRepository, auto_chunk: bool) -> None:
    def of_another_kind() -> Iterator[Mapping[str, Any]]:
        yield from map(MappingProxyType, _items(2))

    job = jobs.enqueue_with_items(tenant_id="tenant", type="x", items=of_another_kind(), auto_chunk=auto_chunk)
    assert not isinstance(job, list)
    assert [{"filename": item.filename} for item in jobs.list_items(job.id)] == _items(2)
    no_items: Any = 7
    with pytest.raises(InvalidValue, match="items: must be"):
        jobs.enqueue_with_items(tenant_id="tenant", type="x", items=no_items, auto_chunk=auto_chunk)


def test_an_error_of_the_callers_iterable_is_raised_and_leaves_no_file_open(jobs: JobsRepository) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield {"filename": "x" * 5_000_000}
        raise RuntimeError

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(RuntimeError):
            jobs.enqueue_with_items(tenant_id="tenant", type="x", items=broken(), auto_chunk=True)
        gc.collect()
    assert caught == []


def test_many_jobs_are_queued_in_one_transaction_or_not_at_all(jobs: JobsRepository) -> None:
    queued = jobs.enqueue_many({"tenant_id": "tenant", "type": f"type-{number}"} for number in range(5))
    assert [job.type for job in queued] == [f"type-{number}" for number in range(5)]
    with pytest.raises(InvalidValue):
        jobs.enqueue_many([{"tenant_id": "other", "type": "x"}, {"tenant_id": "other", "type": ""}])
    assert jobs.list_by_tenant("other") == []


def test_an_unfinished_job_with_the_same_unique_key_is_returned_instead_of_a_new_one(jobs: JobsRepository) -> None:
    first = jobs.enqueue(tenant_id="tenant", type="x", unique_key="nightly")
    assert jobs.enqueue(tenant_id="tenant", type="x", unique_key="nightly").id == first.id
    jobs.claim_next("worker")
    assert jobs.enqueue(tenant_id="tenant", type="x", unique_key="nightly").id == first.id
    assert jobs.enqueue(tenant_id="other", type="x", unique_key="nightly").id != first.id
    assert jobs.enqueue(tenant_id="tenant", type="x", unique_key="weekly").id != first.id


def test_a_unique_key_is_free_again_when_its_job_has_ended(jobs: JobsRepository) -> None:
    for end in (jobs.complete, jobs.cancel, lambda job_id: jobs.fail(job_id, "no")):
        job = jobs.enqueue(tenant_id="tenant", type="x", unique_key="nightly")
        end(job.id)
        assert jobs.enqueue(tenant_id="tenant", type="x", unique_key="nightly").id != job.id
        jobs.cancel_by_project(0)
        for queued in jobs.list_by_tenant("tenant", status="queued"):
            jobs.cancel(queued.id)


def test_a_unique_key_stands_for_a_whole_batch_of_items(jobs: JobsRepository) -> None:
    chunks = jobs.enqueue_with_items(
        tenant_id="tenant", type="x", items=_items(2500), auto_chunk=True, unique_key="batch"
    )
    assert isinstance(chunks, list)
    again = jobs.enqueue_with_items(
        tenant_id="tenant", type="x", items=_items(2500), auto_chunk=True, unique_key="batch"
    )
    assert isinstance(again, Job)
    assert again.id == chunks[0].id
    assert len(jobs.list_by_tenant("tenant")) == 2


def test_a_delayed_job_is_not_claimed_before_its_moment(jobs: JobsRepository, clock: Any) -> None:
    job = jobs.enqueue(tenant_id="tenant", type="x", run_after=clock() + timedelta(seconds=60))
    assert job.run_after == clock() + timedelta(seconds=60)
    clock.advance(seconds=59.999)
    assert jobs.claim_next("worker") is None
    clock.advance(seconds=0.001)
    claimed = jobs.claim_next("worker")
    assert claimed is not None
    assert claimed.id == job.id


def test_a_delayed_job_ranks_by_its_priority_when_it_is_due(jobs: JobsRepository, clock: Any) -> None:
    delayed = jobs.enqueue(tenant_id="tenant", type="x", priority=50, run_after=clock() + timedelta(seconds=10))
    low = jobs.enqueue(tenant_id="tenant", type="x", priority=10)
    high = jobs.enqueue(tenant_id="tenant", type="x", priority=90)
    clock.advance(seconds=10)
    assert [claimed.id for claimed in iter(lambda: jobs.claim_next("worker"), None)] == [high.id, delayed.id, low.id]


def test_every_moment_comes_from_the_databases_clock(database: Database, clock: Any) -> None:
    jobs = JobsRepository(database)
    created = clock()
    job = jobs.enqueue(tenant_id="tenant", type="x")
    started = clock.advance(seconds=1.5)
    jobs.claim_next("worker")
    beaten = clock.advance(seconds=2)
    assert jobs.heartbeat(job.id)
    failed = clock.advance(seconds=3)
    ended = jobs.fail(job.id, "no")
    assert ended is not None
    assert (ended.created_at, ended.started_at, ended.heartbeat_at) == (created, started, beaten)
    assert (ended.finished_at, ended.last_error_at, ended.updated_at) == (failed, failed, failed)
