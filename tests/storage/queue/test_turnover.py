"""Ending a job and taking the next in one statement: what `complete` and `claim_next` would do, or nothing."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH

from storage import Database, Job, JobsRepository, LanesRepository
from storage.queue.claims import Claimant, _best_statement
from storage.queue.holds import HoldsRepository
from storage.queue.project_claims import claim_projects
from storage.queue.turnover import Turnover, _statement, complete_and_claim

LANES = ("priority", "normal")

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(postgresql_database: Database) -> Database:
    return postgresql_database


def _enqueue(jobs: JobsRepository, *, priority: int = 50, tenant_id: str = "tenant", **more: Any) -> Job:
    return jobs.enqueue(tenant_id=tenant_id, type="x", priority=priority, **more)


def _claimed(jobs: JobsRepository, **more: Any) -> Job:
    job = jobs.claim_next("worker", **more)
    assert job is not None
    return job


def _turn_over(database: Database, job: Job, **more: Any) -> Turnover | None:
    claimant = Claimant(worker_id="worker", now=database.clock())
    return complete_and_claim(database, job, claimant, lanes=more.pop("lanes", LANES), **more)


def test_the_job_ends_with_its_result_and_the_best_one_is_claimed_with_a_token_of_its_own(
    database: Database, jobs: JobsRepository
) -> None:
    _enqueue(jobs)
    job = _claimed(jobs)
    _enqueue(jobs, priority=10)
    best = _enqueue(jobs, priority=60)
    turnover = _turn_over(database, job, result={"counts": {"made": 1}})
    assert turnover is not None
    assert turnover.claimed is not None
    assert turnover.ended == jobs.get_by_id(job.id)
    assert (turnover.ended.status, turnover.ended.result, turnover.ended.finished_at) == (
        "completed",
        {"counts": {"made": 1}},
        database.clock(),
    )
    assert turnover.claimed == jobs.get_by_id(best.id)
    assert (turnover.claimed.status, turnover.claimed.worker_id) == ("running", "worker")
    assert turnover.claimed.claim_token not in (None, job.claim_token)


def test_with_nothing_waiting_the_job_ends_alone(database: Database, jobs: JobsRepository) -> None:
    _enqueue(jobs)
    turnover = _turn_over(database, _claimed(jobs))
    assert turnover is not None
    assert (turnover.ended.status, turnover.claimed) == ("completed", None)


def test_a_claim_that_was_lost_ends_nothing_and_takes_nothing(database: Database, jobs: JobsRepository) -> None:
    _enqueue(jobs)
    job = _claimed(jobs)
    waiting = _enqueue(jobs)
    jobs.cancel(job.id)
    assert _turn_over(database, job) is None
    assert [getattr(jobs.get_by_id(each.id), "status", None) for each in (job, waiting)] == ["canceled", "queued"]


def test_a_job_of_a_task_and_one_that_holds_a_project_are_left_to_the_gate(
    database: Database, jobs: JobsRepository, make_task: Any, make_project: Any
) -> None:
    make_task("library", scope="global")
    of_task = _claimed(jobs)
    _enqueue(jobs)
    assert _turn_over(database, of_task) is None
    holding = _claimed(jobs)
    assert claim_projects(database, [make_project().id], job_id=holding.id, claim_token=str(holding.claim_token))
    assert _turn_over(database, holding) is None
    assert jobs.complete(holding.id, claim_token=holding.claim_token) is not None


def test_the_slot_that_becomes_free_is_the_one_that_is_taken(database: Database, jobs: JobsRepository) -> None:
    LanesRepository(database).change("normal", slots=1)
    _enqueue(jobs)
    waiting = _enqueue(jobs)
    job = _claimed(jobs, lane="normal")
    assert jobs.claim_next("other", lane="normal") is None
    turnover = _turn_over(database, job)
    assert turnover is not None
    assert turnover.claimed is not None
    assert turnover.claimed.id == waiting.id
    assert jobs.claim_next("other", lane="normal") is None


def test_a_lane_that_has_fewer_slots_than_running_jobs_gives_none_away(
    database: Database, jobs: JobsRepository
) -> None:
    for _ in range(3):
        _enqueue(jobs)
    first = _claimed(jobs, lane="normal")
    _claimed(jobs, lane="normal")
    LanesRepository(database).change("normal", slots=1)
    turnover = _turn_over(database, first)
    assert turnover is not None
    assert turnover.claimed is None


def test_a_better_job_in_another_lane_with_slots_is_left_to_a_claim_that_counts_them(
    database: Database, jobs: JobsRepository
) -> None:
    _enqueue(jobs)
    job = _claimed(jobs)
    _enqueue(jobs)
    _enqueue(jobs, priority=95)
    turnover = _turn_over(database, job)
    assert turnover is not None
    assert turnover.claimed is None


def test_a_full_lane_does_not_keep_the_next_one_waiting(database: Database, jobs: JobsRepository) -> None:
    LanesRepository(database).change("priority", slots=1)
    _enqueue(jobs, priority=95)
    _claimed(jobs)
    _enqueue(jobs)
    job = _claimed(jobs)
    _enqueue(jobs, priority=95)
    low = _enqueue(jobs)
    turnover = _turn_over(database, job)
    assert turnover is not None
    assert turnover.claimed is not None
    assert turnover.claimed.id == low.id


@pytest.mark.parametrize("change", [{"aging_seconds": 60}, {"fair_tenants": True}])
def test_lanes_with_an_order_of_their_own_are_left_to_claims_that_know_it(
    database: Database, jobs: JobsRepository, change: dict[str, Any]
) -> None:
    LanesRepository(database).change("normal", **change)
    _enqueue(jobs)
    job = _claimed(jobs)
    _enqueue(jobs)
    turnover = _turn_over(database, job)
    assert turnover is not None
    assert turnover.claimed is None


def test_a_delayed_job_that_is_due_is_left_to_a_claim_that_ranks_it(
    database: Database, jobs: JobsRepository, clock: Any
) -> None:
    _enqueue(jobs)
    job = _claimed(jobs)
    _enqueue(jobs, run_after=clock() + timedelta(seconds=5), priority=80)
    waiting = _enqueue(jobs)
    turnover = _turn_over(database, job)
    assert turnover is not None
    assert turnover.claimed is not None
    assert turnover.claimed.id == waiting.id
    clock.advance(seconds=10)
    _enqueue(jobs)
    turnover = _turn_over(database, turnover.claimed)
    assert turnover is not None
    assert turnover.claimed is None


def test_held_tenants_lanes_and_other_tenants_are_passed_over(database: Database, jobs: JobsRepository) -> None:
    holds = HoldsRepository(database)
    for _ in range(2):
        _enqueue(jobs)
    job = _claimed(jobs)
    holds.hold("tenant", "held")
    _enqueue(jobs, tenant_id="held", priority=80)
    other = _enqueue(jobs, tenant_id="other", priority=70)
    turnover = _turn_over(database, job, tenant_id="other")
    assert turnover is not None
    assert turnover.claimed is not None
    assert turnover.claimed.id == other.id
    holds.hold("lane", "normal")
    turnover = _turn_over(database, turnover.claimed)
    assert turnover is not None
    assert turnover.claimed is None


def test_many_executors_take_every_job_once_and_never_more_than_there_are_slots(
    database: Database, jobs: JobsRepository
) -> None:
    LanesRepository(database).change("normal", slots=3)
    ids = [_enqueue(jobs).id for _ in range(60)]
    taken: list[int] = []
    too_many: list[int] = []

    def work(_: int) -> None:
        job = jobs.claim_next("worker", lane="normal")
        while job is not None:
            taken.append(job.id)
            running = len(jobs.list_by_tenant("tenant", status="running", limit=100))
            if running > 3:
                too_many.append(running)
            turnover = _turn_over(database, job)
            assert turnover is not None
            job = turnover.claimed or jobs.claim_next("worker", lane="normal")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    assert sorted(taken) == ids
    assert too_many == []


def test_the_driver_remembers_how_it_reads_the_statements_of_every_job() -> None:
    statements = [_statement(for_tenant) for for_tenant in (False, True)]
    statements += [_best_statement(True, *others) for others in itertools.product((False, True), repeat=2)]
    # Longer ones are read anew each time, which costs a fifth of a claim.
    assert max(len(statement.text("postgresql")) for statement in statements) <= MAX_CACHED_STATEMENT_LENGTH
