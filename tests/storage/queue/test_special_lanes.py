"""Lanes with aging or fairness: bounds, slots, limits, holds, and jobs for which flow runs wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from storage import Database, JobsRepository, LanesRepository
from storage.database import tables
from storage.errors import UnknownLane
from storage.lifecycle.heartbeats import record_waiting
from storage.queue.claims import next_due_at, rank_heads
from storage.queue.exchange import Wanted
from storage.queue.holds import HoldsRepository

OWN_ORDER: dict[str, Any] = {"aging_seconds": 3600, "fair_tenants": True}


def _enqueue(jobs: JobsRepository, priority: int = 50, tenant_id: str = "t", **more: Any) -> int:
    return jobs.enqueue(tenant_id=tenant_id, type="x", priority=priority, **more).id


def _claim(jobs: JobsRepository, *lanes: str, limit: int = 9, tenant_id: str | None = None) -> list[int]:
    return [job.id for job in jobs.claim("worker", Wanted(lanes=lanes, tenant_id=tenant_id), limit=limit).claimed]


def _claim_awaited(database: Database, *job_ids: int, lane: str = "middle", limit: int = 9) -> list[int]:
    wanted = Wanted(lanes=[lane], job_ids=job_ids)
    return [job.id for job in JobsRepository(database).claim("worker", wanted, limit=limit).claimed]


@pytest.fixture
def lanes(database: Database) -> LanesRepository:
    """The lanes, with an additional lane `middle` from 40 to 60 between `normal` and `high`."""
    with database.begin() as connection:
        connection.execute(update(tables.lanes).where(tables.lanes.c.name == "normal").values(max_priority=39))
    lanes = LanesRepository(database)
    lanes.add("middle", min_priority=40, max_priority=60)
    lanes.add("high", min_priority=61, max_priority=80)
    lanes.change("middle", **OWN_ORDER)
    return lanes


def test_a_lane_has_the_jobs_from_its_lowest_to_its_highest_priority(lanes: Any, jobs: JobsRepository) -> None:
    _, lowest, highest, _ = (_enqueue(jobs, priority) for priority in (39, 40, 60, 61))
    assert _claim(jobs, "middle") == [highest, lowest]


def test_every_priority_of_every_tenant_is_ranked_and_what_is_held_is_left_out(
    lanes: Any, database: Database, jobs: JobsRepository
) -> None:
    by_rank = [_enqueue(jobs, priority, tenant) for priority in (60, 55, 41) for tenant in ("a", "b", "c")]
    for tenant in ("a", "c"):
        _enqueue(jobs, 41, tenant)
    held = _enqueue(jobs, 58, "held")
    HoldsRepository(database).hold("tenant", "held")
    with database.connect() as connection:
        lane = lanes.get("middle")
        heads = rank_heads(connection, lane=lane, now=database.clock())
        of_b = rank_heads(connection, lane=lane, now=database.clock(), tenant_id="b")
    assert [head.id for head in heads] == by_rank
    assert [head.id for head in of_b] == by_rank[1::3]
    assert held not in _claim(jobs, "middle", limit=99)


def test_a_claim_takes_no_more_than_its_limit_and_the_free_slots(lanes: LanesRepository, jobs: JobsRepository) -> None:
    ids = [_enqueue(jobs) for _ in range(6)]
    assert _claim(jobs, "middle", limit=2) == ids[:2]
    lanes.change("middle", slots=3)
    assert _claim(jobs, "middle") == ids[2:3]
    assert _claim(jobs, "middle") == []
    lanes.change("middle", slots=1)
    assert _claim(jobs, "middle") == []


def test_lanes_after_one_with_an_order_of_its_own_get_what_is_left_of_the_limit(
    lanes: LanesRepository, jobs: JobsRepository
) -> None:
    lanes.change("middle", slots=2)
    high = [_enqueue(jobs, 70) for _ in range(2)]
    middle = [_enqueue(jobs) for _ in range(3)]
    low = [_enqueue(jobs, 10) for _ in range(4)]
    assert _claim(jobs, "high", "middle", "normal", limit=5) == [*high, *middle[:2], low[0]]
    assert _claim(jobs, "high", "middle", "normal", limit=1) == [low[1]]
    assert _claim(jobs, "normal", "middle", limit=2) == low[2:]


def test_a_lane_that_does_not_exist_is_refused_wherever_it_is_named(lanes: Any, jobs: JobsRepository) -> None:
    ids = [_enqueue(jobs), _enqueue(jobs, 10)]
    for names in (("express",), ("normal", "express"), ("express", "normal"), ("middle", "express")):
        with pytest.raises(UnknownLane, match="express"):
            _claim(jobs, *names)
    # None of them was claimed.
    assert _claim(jobs, "middle", "normal") == ids


@pytest.mark.parametrize("order", [OWN_ORDER, {"aging_seconds": 0, "fair_tenants": False}])
def test_of_the_awaited_jobs_of_a_lane_the_best_get_its_free_slots(
    lanes: LanesRepository, database: Database, jobs: JobsRepository, clock: Any, order: dict[str, Any]
) -> None:
    lanes.change("middle", slots=3, **order)
    running = _enqueue(jobs, 60)
    assert _claim_awaited(database, running) == [running]
    outside, lowest, low, high, highest, above = (_enqueue(jobs, priority) for priority in (39, 40, 45, 50, 60, 61))
    of_another = _enqueue(jobs, 55)
    record_waiting(database, [of_another], worker_id="another")
    # Two slots are free, and another process waits for the second best job.
    assert _claim_awaited(database, outside, lowest, low, high, highest, above) == [highest]
    assert _claim_awaited(database, lowest, low, high) == []
    jobs.complete(running)
    assert _claim_awaited(database, lowest, low, high) == [high]
    assert _claim_awaited(database, lowest, low) == []
    # The process is dead.
    clock.advance(seconds=60)
    assert _claim_awaited(database, lowest, low, limit=0) == []
    assert _claim_awaited(database, lowest, low) == [low]
    assert _claim_awaited(database, lowest) == []


@pytest.mark.parametrize("order", [OWN_ORDER, {"aging_seconds": 0, "fair_tenants": False}])
def test_an_awaited_job_that_is_on_hold_or_delayed_waits(
    lanes: LanesRepository, database: Database, jobs: JobsRepository, clock: Any, order: dict[str, Any]
) -> None:
    lanes.change("middle", **order)
    holds = HoldsRepository(database)
    ready, held = _enqueue(jobs), _enqueue(jobs, tenant_id="held")
    delayed = _enqueue(jobs, run_after=clock() + timedelta(seconds=5))
    holds.hold("tenant", "held")
    holds.hold("lane", "middle")
    assert _claim_awaited(database, ready, held, delayed) == []
    holds.release("lane", "middle")
    assert _claim_awaited(database, ready, held, delayed) == [ready]
    clock.advance(seconds=5)
    holds.release("tenant", "held")
    assert sorted(_claim_awaited(database, ready, held, delayed)) == [held, delayed]


def test_fairness_counts_the_running_jobs_of_the_lane_alone(
    lanes: LanesRepository, database: Database, jobs: JobsRepository
) -> None:
    lanes.change("middle", aging_seconds=0)
    for _ in range(3):
        _enqueue(jobs, 10, "busy elsewhere")
    _claim(jobs, "normal")
    _enqueue(jobs, 50, "busy here")
    _claim(jobs, "middle")
    second, first = _enqueue(jobs, 50, "busy here"), _enqueue(jobs, 50, "busy elsewhere")
    assert _claim_awaited(database, first, second, limit=1) == [first]
    assert _claim(jobs, "middle", limit=1) == [second]


def test_awaited_jobs_that_get_slots_at_the_same_time_are_shared_fairly_among_tenants(
    lanes: LanesRepository, database: Database, jobs: JobsRepository
) -> None:
    lanes.change("middle", slots=4)
    of_a, of_b = ([_enqueue(jobs, 50, tenant) for _ in range(3)] for tenant in "ab")
    best = _enqueue(jobs, 60, "a")
    assert set(_claim_awaited(database, *of_a, *of_b, best)) == {best, of_b[0], of_a[0], of_b[1]}


def test_aging_counts_whole_steps(lanes: LanesRepository, jobs: JobsRepository, clock: Any) -> None:
    lanes.change("middle", aging_seconds=60, fair_tenants=False)
    old = _enqueue(jobs, 50)
    clock.advance(seconds=119)
    new = _enqueue(jobs, 52)
    clock.advance(seconds=0.5)
    assert _claim(jobs, "middle", limit=1) == [new]
    newer = _enqueue(jobs, 52)
    clock.advance(seconds=0.5)
    assert _claim(jobs, "middle") == [old, newer]


def test_the_first_delayed_job_that_is_not_held_says_when_to_look_again(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    assert next_due_at(database) is None
    _enqueue(jobs)
    assert next_due_at(database) is None
    first = clock() + timedelta(seconds=5)
    _enqueue(jobs, run_after=clock() + timedelta(seconds=7))
    _enqueue(jobs, run_after=first)
    _enqueue(jobs, run_after=clock() + timedelta(seconds=1), tenant_id="held")
    HoldsRepository(database).hold("tenant", "held")
    assert next_due_at(database) == first
    clock.advance(seconds=60)
    assert next_due_at(database) == first
