"""Listings show the newest first, by page and by filter, and never rows of another tenant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage import JobsRepository, Project
from storage.errors import InvalidValue


def test_listings_are_newest_first_and_fifty_long(jobs: JobsRepository, clock: Any) -> None:
    ids = []
    for number in range(60):
        # Each three jobs have the same moment, so that the id decides their order.
        clock.advance(seconds=number % 3 == 0)
        ids.append(jobs.enqueue(tenant_id="t", type="x").id)
    assert [job.id for job in jobs.list_by_tenant("t")] == ids[::-1][:50]
    assert [job.id for job in jobs.list_by_tenant("t", limit=5, offset=57)] == ids[::-1][57:]
    assert jobs.list_by_tenant("t", limit=0) == []
    assert jobs.list_by_tenant("other") == []


def test_paging_by_key_gives_every_job_once_while_new_ones_arrive(jobs: JobsRepository, clock: Any) -> None:
    ids = []
    for number in range(20):
        clock.advance(seconds=number % 3 == 0)
        ids.append(jobs.enqueue(tenant_id="t", type="x").id)
    seen: list[int] = []
    page = jobs.list_by_tenant("t", limit=3)
    while page:
        seen += [job.id for job in page]
        jobs.enqueue(tenant_id="t", type="x")
        page = jobs.list_by_tenant("t", limit=3, before=(page[-1].created_at, page[-1].id))
    assert seen == ids[::-1]


def test_filters_of_a_tenant_and_of_a_project(jobs: JobsRepository, make_project: Callable[..., Project]) -> None:
    project = make_project(tenant_id="t")
    a = jobs.enqueue(tenant_id="t", type="a", project_id=project.id)
    b = jobs.enqueue(tenant_id="t", type="b", project_id=project.id)
    c = jobs.enqueue(tenant_id="t", type="b")
    d = jobs.enqueue(tenant_id="t", type="b", scope="global")
    jobs.complete(b.id)

    def ids(found: list[Any]) -> list[int]:
        return [job.id for job in found]

    assert ids(jobs.list_by_tenant("t", type="b")) == [d.id, c.id, b.id]
    assert ids(jobs.list_by_tenant("t", scope="photo_set")) == [c.id]
    assert ids(jobs.list_by_tenant("t", status="queued", type="b", scope="global")) == [d.id]
    assert ids(jobs.list_by_tenant("t", status="completed")) == [b.id]
    assert ids(jobs.list_by_project(project.id)) == [b.id, a.id]
    assert ids(jobs.list_by_project(project.id, status="queued")) == [a.id]
    assert ids(jobs.list_by_project(project.id, type="b")) == [b.id]
    assert ids(jobs.list_by_project(project.id, limit=1, offset=1)) == [a.id]
    assert jobs.list_by_project(4711) == []


@pytest.mark.parametrize("arguments", [{"limit": -1}, {"offset": -1}, {"limit": True}, {"limit": "5"}])
def test_a_page_that_is_none_is_refused(jobs: JobsRepository, arguments: Any) -> None:
    with pytest.raises(InvalidValue):
        jobs.list_by_tenant("t", **arguments)


def test_items_are_read_in_id_order_in_batches_as_well(jobs: JobsRepository) -> None:
    job = jobs.enqueue_with_items(tenant_id="t", type="x", items=({"filename": f"{n}"} for n in range(1500)))
    assert not isinstance(job, list)
    listed = jobs.list_items(job.id)
    assert [item.filename for item in listed] == [f"{n}" for n in range(1500)]
    assert list(jobs.iterate_items(job.id)) == listed
