"""Claims: their order and bounds, lanes with slots, aging and fairness, and waiting for a better job."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert

from storage import Database, Job, JobsRepository, LanesRepository
from storage.database import tables
from storage.errors import InvalidValue, UnknownLane
from storage.lifecycle.heartbeats import clear_waiting, job_states, record_waiting, write_heartbeats
from storage.queue.exchange import Wanted
from storage.queue.holds import HoldsRepository
from storage.queue.lanes import lane_of


def _all_claims(jobs: JobsRepository, **bounds: Any) -> list[int]:
    return [job.id for job in iter(lambda: jobs.claim_next("worker", **bounds), None)]


def test_a_claimed_job_runs_under_a_fresh_token(jobs: JobsRepository, clock: Any) -> None:
    queued = jobs.enqueue(tenant_id="tenant", type="x", payload={"a": 1})
    clock.advance(seconds=7)
    job = jobs.claim_next("worker-1")
    assert job is not None
    assert (job.id, job.status, job.worker_id, job.payload) == (queued.id, "running", "worker-1", {"a": 1})
    assert (job.started_at, job.heartbeat_at) == (clock(), clock())
    assert job.claim_token
    assert jobs.get_by_id(job.id) == job


def test_nothing_waits_then_nothing_is_claimed(jobs: JobsRepository) -> None:
    assert jobs.claim_next("worker") is None
    jobs.enqueue(tenant_id="tenant", type="x")
    assert jobs.claim_next("worker") is not None
    assert jobs.claim_next("worker") is None


def test_the_best_is_the_highest_priority_then_the_oldest_then_the_lowest_id(jobs: JobsRepository, clock: Any) -> None:
    ranked = []
    for _ in range(3):
        for priority in (50, 100, 5, 0):
            ranked += [((-priority, clock()), jobs.enqueue(tenant_id="t", type="x", priority=priority).id)]
            ranked += [((-priority, clock()), jobs.enqueue(tenant_id="t", type="x", priority=priority).id)]
        clock.advance(seconds=1)
    assert _all_claims(jobs) == [job_id for _, job_id in sorted(ranked)]


def test_a_row_of_another_program_is_claimed_whatever_its_priority_and_loses_its_former_end(
    database: Database, jobs: JobsRepository
) -> None:
    priorities = (2**31 - 1, -1, -(2**31))
    times = dict.fromkeys(("created_at", "updated_at", "finished_at"), database.clock())
    rows = [{"tenant_id": "t", "type": "x", "status": "queued", "priority": number, **times} for number in priorities]
    with database.begin() as connection:
        connection.execute(insert(tables.jobs), rows)
    claimed = list(iter(lambda: jobs.claim_next("worker"), None))
    assert [(job.priority, job.finished_at) for job in claimed] == [(priority, None) for priority in priorities]


@pytest.mark.parametrize("order", [{}, {"aging_seconds": 60}, {"fair_tenants": True}])
def test_a_row_whose_time_cannot_be_read_keeps_no_job_from_being_claimed(
    database: Database, jobs: JobsRepository, unreadable_time: str, order: dict[str, Any]
) -> None:
    LanesRepository(database).change("normal", **order)
    for tenant in ("a", "a", "b", "b"):
        jobs.enqueue(tenant_id=tenant, type="x")
    with database.begin() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET created_at = '{unreadable_time}' WHERE id IN (1, 3)")
    claimed = jobs.claim("worker", Wanted(lanes=["normal"]), limit=4).claimed
    assert sorted(job.id for job in claimed) == [1, 2, 3, 4]


def test_bounds_are_inclusive_and_a_tenant_gets_its_own_alone(jobs: JobsRepository) -> None:
    by_priority = {
        priority: jobs.enqueue(tenant_id="a", type="x", priority=priority).id for priority in (88, 89, 95, 99, 100)
    }
    other = jobs.enqueue(tenant_id="b", type="x", priority=97)
    assert _all_claims(jobs, tenant_id="a", min_priority=89, max_priority=99) == [
        by_priority[99],
        by_priority[95],
        by_priority[89],
    ]
    assert _all_claims(jobs, tenant_id="a", min_priority=89) == [by_priority[100]]
    assert _all_claims(jobs, max_priority=96) == [by_priority[88]]
    assert _all_claims(jobs) == [other.id]


def test_two_threads_never_get_the_same_job(database: Database) -> None:
    jobs = JobsRepository(database)
    queued = {job.id for job in jobs.enqueue_many([{"tenant_id": "tenant", "type": "x"}] * 120)}
    barrier = threading.Barrier(6)

    def drain(number: int) -> list[int]:
        barrier.wait()
        return [job.id for job in iter(lambda: jobs.claim_next(f"worker-{number}"), None)]

    with ThreadPoolExecutor(6) as threads:
        claimed = list(itertools.chain.from_iterable(threads.map(drain, range(6))))
    assert sorted(claimed) == sorted(queued)


def test_a_lane_or_bounds_but_not_both(jobs: JobsRepository) -> None:
    with pytest.raises(InvalidValue, match="lane"):
        jobs.claim_next("worker", lane="normal", min_priority=1)
    with pytest.raises(UnknownLane, match=r"express.*normal"):
        jobs.claim_next("worker", lane="express")


def test_the_priority_lane_begins_at_ninety(jobs: JobsRepository) -> None:
    low = jobs.enqueue(tenant_id="t", type="x", priority=89)
    high = jobs.enqueue(tenant_id="t", type="x", priority=90)
    assert _all_claims(jobs, lane="priority") == [high.id]
    assert _all_claims(jobs, lane="normal") == [low.id]


def test_a_lane_gives_no_more_jobs_than_it_has_slots(database: Database, jobs: JobsRepository) -> None:
    LanesRepository(database).change("normal", slots=2)
    jobs.enqueue_many([{"tenant_id": "t", "type": "x"}] * 4)
    high = jobs.enqueue(tenant_id="t", type="x", priority=95)
    first, second = _all_claims(jobs, lane="normal")
    assert _all_claims(jobs, lane="priority") == [high.id]
    jobs.complete(first)
    assert len(_all_claims(jobs, lane="normal")) == 1
    jobs.requeue(second)
    assert _all_claims(jobs, lane="normal") == [second]
    jobs.fail(second, "no")
    assert len(_all_claims(jobs, lane="normal")) == 1


LANES = ["priority", "normal"]


def _from_lanes(database: Database, *lanes: str, tenant_id: str | None = None) -> list[int]:
    wanted = Wanted(lanes=lanes or LANES, tenant_id=tenant_id)
    claims = iter(lambda: JobsRepository(database).claim("worker", wanted, limit=1).claimed, ())
    return [job.id for claimed in claims for job in claimed]


def test_of_several_lanes_the_first_that_has_work_gives_its_best(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    assert _from_lanes(database) == []
    low, high, higher = (jobs.enqueue(tenant_id="t", type="x", priority=priority).id for priority in (10, 90, 95))
    delayed = jobs.enqueue(tenant_id="t", type="x", priority=99, run_after=clock() + timedelta(seconds=60)).id
    other = jobs.enqueue(tenant_id="other", type="x", priority=100).id
    assert _from_lanes(database, tenant_id="t") == [higher, high, low]
    clock.advance(seconds=60)
    assert _from_lanes(database, "normal") == []
    assert _from_lanes(database) == [other, delayed]
    jobs.complete(other)
    first, second = (jobs.enqueue(tenant_id="t", type="x", priority=priority).id for priority in (95, 10))
    assert _from_lanes(database, "normal", "priority") == [second, first]
    claimed = jobs.get_by_id(first)
    assert claimed is not None
    assert (claimed.status, claimed.worker_id, claimed.started_at) == ("running", "worker", clock())
    assert claimed.claim_token


def test_a_lane_that_is_full_held_or_has_an_order_of_its_own_stands_in_no_others_way(
    database: Database, jobs: JobsRepository
) -> None:
    lanes = LanesRepository(database)
    high, higher = (jobs.enqueue(tenant_id="t", type="x", priority=priority).id for priority in (90, 95))
    low = jobs.enqueue(tenant_id="t", type="x").id
    lanes.change("priority", slots=1)
    assert _from_lanes(database) == [higher, low]
    jobs.complete(higher)
    low = jobs.enqueue(tenant_id="t", type="x").id
    HoldsRepository(database).hold("lane", "priority", reason="full disk")
    assert _from_lanes(database) == [low]
    HoldsRepository(database).release("lane", "priority")
    lanes.change("priority", slots=0, aging_seconds=60)
    low = jobs.enqueue(tenant_id="t", type="x").id
    assert _from_lanes(database) == [high, low]


def test_several_claimers_of_several_lanes_never_exceed_the_slots(database: Database, jobs: JobsRepository) -> None:
    LanesRepository(database).change("priority", slots=3)
    LanesRepository(database).change("normal", slots=2)
    jobs.enqueue_many([{"tenant_id": "t", "type": "x", "priority": priority} for priority in [95, 5] * 20])
    barrier = threading.Barrier(6)

    def drain(_: int) -> list[int]:
        barrier.wait()
        return _from_lanes(database)

    with ThreadPoolExecutor(6) as threads:
        claimed = list(itertools.chain.from_iterable(threads.map(drain, range(6))))
    priorities = sorted(job.priority for job in map(jobs.get_by_id, claimed) if job is not None)
    assert priorities == [5, 5, 95, 95, 95]


def test_slots_can_be_changed_while_jobs_run(database: Database, jobs: JobsRepository) -> None:
    lanes = LanesRepository(database)
    lanes.change("normal", slots=3)
    jobs.enqueue_many([{"tenant_id": "t", "type": "x"}] * 8)
    running = _all_claims(jobs, lane="normal")
    assert len(running) == 3
    lanes.change("normal", slots=1)
    jobs.complete(running.pop())
    assert _all_claims(jobs, lane="normal") == []
    jobs.complete(running.pop())
    assert _all_claims(jobs, lane="normal") == []
    jobs.complete(running.pop())
    assert len(_all_claims(jobs, lane="normal")) == 1
    assert lanes.change("normal", slots=0).slots is None
    assert len(_all_claims(jobs, lane="normal")) == 4


def test_threads_that_claim_at_once_never_exceed_the_slots(database: Database) -> None:
    jobs = JobsRepository(database)
    LanesRepository(database).change("normal", slots=3)
    jobs.enqueue_many([{"tenant_id": "t", "type": "x"}] * 40)
    barrier = threading.Barrier(6)
    seen: list[int] = []

    def work(number: int) -> None:
        barrier.wait()
        for _ in range(12):
            job = jobs.claim_next(f"worker-{number}", lane="normal")
            if job is not None:
                seen.append(len(jobs.list_by_tenant("t", status="running")))
                jobs.complete(job.id, claim_token=job.claim_token)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    assert seen
    assert max(seen) <= 3


def test_lanes_cannot_overlap_and_an_added_one_claims(database: Database, jobs: JobsRepository) -> None:
    lanes = LanesRepository(database)
    with pytest.raises(InvalidValue, match="overlaps"):
        lanes.add("urgent", min_priority=80, max_priority=95)
    with pytest.raises(InvalidValue, match="above"):
        lanes.add("urgent", min_priority=2, max_priority=1)
    with pytest.raises(UnknownLane):
        lanes.change("urgent", slots=1)
    with pytest.raises(InvalidValue, match="slots"):
        lanes.change("normal", slots=-1)
    assert [lane.name for lane in lanes.list()] == ["priority", "normal"]
    assert [lane_of(priority, lanes.list()) for priority in (95, 90, 89, -7)] == [
        *[lanes.get("priority")] * 2,
        *[lanes.get("normal")] * 2,
    ]
    assert lane_of(95, [lanes.get("normal")]) is None


def test_without_aging_a_low_job_waits_for_ever_and_with_it_rises(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    LanesRepository(database).change("normal", slots=0, aging_seconds=60)
    old = jobs.enqueue(tenant_id="t", type="x", priority=10)
    clock.advance(seconds=5 * 60)
    newer = jobs.enqueue(tenant_id="t", type="x", priority=16)
    new = jobs.enqueue(tenant_id="t", type="x", priority=15)
    # After five minutes, the old job ranks as priority 15: before the newer job of 15, and after the job of 16.
    assert _all_claims(jobs, lane="normal") == [newer.id, old.id, new.id]


def test_of_equal_rank_the_tenant_with_the_fewest_running_jobs_goes_first(
    database: Database, jobs: JobsRepository
) -> None:
    LanesRepository(database).change("normal", slots=0, fair_tenants=True)
    jobs.enqueue_many([{"tenant_id": "big", "type": "x"}] * 5)
    jobs.enqueue_many([{"tenant_id": "small", "type": "x"}] * 2)
    urgent = jobs.enqueue(tenant_id="big", type="x", priority=5)
    order = [job.tenant_id for job in iter(lambda: jobs.claim_next("w", lane="normal"), None)]
    assert order == ["big", "small", "big", "small", "big", "big", "big", "big"]
    assert jobs.get_by_id(urgent.id).status == "running"  # type: ignore[union-attr]


def test_fairness_and_aging_cost_the_same_however_long_the_queue(sqlite_database: Database) -> None:
    jobs = JobsRepository(sqlite_database)
    LanesRepository(sqlite_database).change("normal", slots=0, aging_seconds=60, fair_tenants=True)
    batch = [{"tenant_id": tenant, "type": "x", "priority": priority} for tenant in "abc" for priority in (1, 2)] * 50
    jobs.enqueue_many(batch)
    short = _virtual_machine_steps(sqlite_database, lambda: jobs.claim_next("worker", lane="normal"))
    jobs.enqueue_many(batch * 8)
    long = _virtual_machine_steps(sqlite_database, lambda: jobs.claim_next("worker", lane="normal"))
    assert long < 1.3 * short


def _virtual_machine_steps(database: Database, call: Callable[[], object]) -> int:
    """Return the work of SQLite for a call in steps of its virtual machine, which does not depend on other load."""
    steps = itertools.count()

    def prepare(driver: Any, *_: Any) -> None:
        driver.set_progress_handler(lambda: next(steps) < 0, 1)

    def undo(driver: Any, *_: Any) -> None:
        driver.set_progress_handler(None, 0)

    event.listen(database.engine, "checkout", prepare)
    event.listen(database.engine, "checkin", undo)
    try:
        call()
    finally:
        event.remove(database.engine, "checkout", prepare)
        event.remove(database.engine, "checkin", undo)
    return next(steps)


def test_a_lane_with_fairness_finds_due_jobs_and_respects_the_tenant(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    LanesRepository(database).change("normal", fair_tenants=True)
    jobs.enqueue(tenant_id="a", type="x")
    due = jobs.enqueue(tenant_id="b", type="x", run_after=clock() + timedelta(seconds=5))
    assert jobs.claim_next("worker", lane="normal", tenant_id="b") is None
    clock.advance(seconds=5)
    claimed = jobs.claim_next("worker", lane="normal", tenant_id="b")
    assert claimed is not None
    assert claimed.id == due.id


def _claim_awaited(database: Database, lane: str, *job_ids: int, limit: int = 100) -> list[int]:
    wanted = Wanted(lanes=[lane], job_ids=job_ids)
    return [job.id for job in JobsRepository(database).claim("worker", wanted, limit=limit).claimed]


def test_a_waiter_gets_its_job_only_when_no_better_one_is_waited_for(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    LanesRepository(database).change("normal", slots=1)
    low = jobs.enqueue(tenant_id="t", type="x", priority=10)
    high = jobs.enqueue(tenant_id="t", type="x", priority=20)
    # No process waits for the better job, so that job does not hold others back.
    record_waiting(database, [high.id], worker_id="w")
    assert _claim_awaited(database, "normal", low.id) == []
    clear_waiting(database, [high.id])
    assert _claim_awaited(database, "normal", low.id) == [low.id]
    assert _claim_awaited(database, "normal", high.id) == []
    jobs.complete(low.id)
    assert _claim_awaited(database, "normal", high.id) == [high.id]


# The clock goes on, or it is set back by an hour.
@pytest.mark.parametrize("seconds", [2, -3600])
def test_a_waiter_that_died_holds_nobody_back(
    database: Database, jobs: JobsRepository, clock: Any, seconds: float
) -> None:
    LanesRepository(database).change("normal", slots=1)
    low = jobs.enqueue(tenant_id="t", type="x", priority=10)
    high = jobs.enqueue(tenant_id="t", type="x", priority=20)
    record_waiting(database, [high.id], worker_id="w")
    clock.advance(seconds=14)
    assert _claim_awaited(database, "normal", low.id) == []
    assert [job.id for job in jobs.list_ready()] == [low.id]
    clock.set(clock() + timedelta(seconds=seconds))
    assert [job.id for job in jobs.list_ready()] == [high.id, low.id]
    assert _claim_awaited(database, "normal", low.id) == [low.id]


def test_a_waiter_gets_no_more_than_the_free_slots_and_its_limit(database: Database, jobs: JobsRepository) -> None:
    LanesRepository(database).change("normal", slots=3)
    ids = [job.id for job in jobs.enqueue_many([{"tenant_id": "t", "type": "x"}] * 6)]
    assert _claim_awaited(database, "normal", *ids, limit=1) == ids[:1]
    assert _claim_awaited(database, "normal", *ids) == ids[1:3]
    assert _claim_awaited(database, "normal", *ids) == []


def test_jobs_of_another_lane_delayed_or_ended_are_not_given_to_a_waiter(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    other = jobs.enqueue(tenant_id="t", type="x", priority=95)
    delayed = jobs.enqueue(tenant_id="t", type="x", run_after=clock() + timedelta(seconds=1))
    ended = jobs.enqueue(tenant_id="t", type="x")
    jobs.cancel(ended.id)
    assert _claim_awaited(database, "normal", other.id, delayed.id, ended.id) == []
    clock.advance(seconds=1)
    assert _claim_awaited(database, "normal", other.id, delayed.id, ended.id) == [delayed.id]


def test_one_beat_serves_all_jobs_of_a_process_and_names_those_it_lost(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    jobs.enqueue_many([{"tenant_id": "t", "type": "x"}] * 3)
    claimed = list(iter(lambda: jobs.claim_next("worker"), None))
    assert all(isinstance(job, Job) for job in claimed)
    jobs.complete(claimed[1].id)
    jobs.requeue(claimed[2].id)
    jobs.claim_next("another")
    clock.advance(seconds=3)
    lost = write_heartbeats(database, [(job.id, str(job.claim_token)) for job in claimed])
    assert lost == {claimed[1].claim_token, claimed[2].claim_token}
    assert jobs.get_by_id(claimed[0].id).heartbeat_at == clock()  # type: ignore[union-attr]
    assert jobs.get_by_id(claimed[2].id).heartbeat_at != clock()  # type: ignore[union-attr]
    assert write_heartbeats(database, []) == set()
    found = job_states(database, [job.id for job in claimed] + [4711])
    assert {job_id: standing.status for job_id, standing in found.items()} == {
        claimed[0].id: "running",
        claimed[1].id: "completed",
        claimed[2].id: "running",
    }
