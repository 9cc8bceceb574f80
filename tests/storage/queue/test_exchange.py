"""One transaction hands in ended jobs and takes the next ones, on both databases."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from storage import Database, Job, JobsRepository, LanesRepository, TasksRepository
from storage.database.tables import project_claims
from storage.errors import DatabaseUnavailable
from storage.queue import exchange as exchange_module
from storage.queue.exchange import End, Exchanged, Wanted
from storage.queue.holds import HoldsRepository
from storage.queue.lanes import lane_name
from storage.queue.project_claims import claim_projects
from storage.records import JobStatus

LANES = ("priority", "normal")


def _enqueue(jobs: JobsRepository, *, priority: int = 50, tenant_id: str = "tenant", **more: Any) -> Job:
    return jobs.enqueue(tenant_id=tenant_id, type="x", priority=priority, **more)


def _claimed(jobs: JobsRepository, **more: Any) -> Job:
    job = jobs.claim_next("worker", **more)
    assert job is not None
    return job


def _completed(*jobs: Job, result: dict[str, Any] | None = None) -> list[End]:
    status = JobStatus.COMPLETED
    return [End(job_id=job.id, status=status, claim_token=job.claim_token, result=result) for job in jobs]


def _exchange(
    jobs: JobsRepository, ended: Sequence[End], *, limit: int = 1, lanes: Sequence[str] = LANES, **more: Any
) -> Exchanged:
    return jobs.claim("worker", Wanted(lanes=lanes, **more), limit=limit, ended=ended)


def _statuses(jobs: JobsRepository, *of: Job) -> list[str]:
    return [getattr(jobs.get_by_id(job.id), "status", "gone") for job in of]


def test_jobs_end_with_their_results_and_the_best_are_taken_each_with_a_token_of_its_own(
    database: Database, jobs: JobsRepository
) -> None:
    running = [_claimed(jobs) for _ in range(2) if _enqueue(jobs)]
    queued = [_enqueue(jobs, priority=priority) for priority in (10, 60, 95, 50, 60)]
    done = _exchange(jobs, _completed(*running, result={"counts": {"made": 1}}), limit=4)
    assert sorted(job.id for job in done.ended) == [job.id for job in running]
    for job in done.ended:
        assert job == jobs.get_by_id(job.id)
        assert (job.status, job.result, job.finished_at) == ("completed", {"counts": {"made": 1}}, database.clock())
    assert [job.id for job in done.claimed] == [queued[index].id for index in (2, 1, 4, 3)]
    for job in done.claimed:
        assert job == jobs.get_by_id(job.id)
        assert (job.status, job.worker_id, job.started_at) == ("running", "worker", database.clock())
    tokens = {job.claim_token for job in (*done.claimed, *running)}
    assert len(tokens) == 6
    assert None not in tokens


def test_a_failure_and_a_cancel_say_so_and_keep_what_is_not_given(jobs: JobsRepository, clock: Any) -> None:
    failing, plain, open_job = (_enqueue(jobs) for _ in range(3))
    claimed = [_claimed(jobs) for _ in range(2)]
    clock.advance(seconds=1)
    ends = [
        End(job_id=failing.id, status=JobStatus.FAILED, claim_token=claimed[0].claim_token, error_message="a\0b" * 999),
        End(job_id=plain.id, status=JobStatus.FAILED),
        End(job_id=open_job.id, status=JobStatus.CANCELED, error_message="enough"),
    ]
    done = {job.id: job for job in jobs.claim("w", Wanted(), limit=0, ended=ends).ended}
    assert (done[failing.id].error_message or "")[:3] == "a\N{SYMBOL FOR NULL}b"
    assert len(done[failing.id].error_message or "") == 1000
    assert (done[plain.id].error_message, done[plain.id].last_error_at) == ("no reason was given", clock())
    canceled = done[open_job.id]
    assert (canceled.status, canceled.error_message, canceled.last_error_at) == ("canceled", "enough", None)


def test_with_nothing_waiting_the_jobs_end_alone(jobs: JobsRepository) -> None:
    _enqueue(jobs)
    done = _exchange(jobs, _completed(_claimed(jobs)))
    assert ([job.status for job in done.ended], done.claimed) == (["completed"], ())


def test_a_claim_that_was_lost_ends_nothing_and_frees_no_slot(database: Database, jobs: JobsRepository) -> None:
    LanesRepository(database).change("normal", slots=2)
    _enqueue(jobs)
    lost = _claimed(jobs)
    jobs.requeue(lost.id)
    for _ in range(3):
        _enqueue(jobs)
    others = [_claimed(jobs, lane="normal") for _ in range(2)]
    done = _exchange(jobs, _completed(lost))
    assert (done.ended, done.claimed) == ((), ())
    assert _statuses(jobs, *others) == ["running", "running"]
    # Another caller ended the job without a token. A queued job holds no slot.
    waiting = next(job for job in jobs.list_ready() if job.id != lost.id)
    done = _exchange(jobs, [End(job_id=waiting.id, status=JobStatus.CANCELED)])
    assert ([job.id for job in done.ended], done.claimed) == ([waiting.id], ())


def test_an_end_handed_in_twice_ends_once_and_still_looks_at_its_task(
    database: Database, jobs: JobsRepository, make_task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer or the process was lost after the end of a job, before its task was settled."""
    task = make_task("library", "library", scope="global")
    job = _claimed(jobs)

    def die(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(exchange_module, "_settle", die)
        with pytest.raises(DatabaseUnavailable):
            _exchange(jobs, _completed(job))
    assert _statuses(jobs, job) == ["completed"]
    tasks = TasksRepository(database)
    assert [stuck.id for stuck in tasks.list_stuck()] == [task.id]
    done = _exchange(jobs, _completed(job))
    assert done.ended == ()
    assert [claimed.step_index for claimed in done.claimed] == [1]
    assert tasks.list_stuck() == []


def test_the_end_of_a_step_gives_its_next_jobs_at_once(jobs: JobsRepository, make_task: Any) -> None:
    make_task("library", "library", scope="global")
    done = _exchange(jobs, _completed(_claimed(jobs)), limit=5)
    assert [(job.status, job.step_index) for job in done.claimed] == [("running", 1)]


def test_no_other_tasks_than_those_of_the_ended_jobs_are_settled(
    jobs: JobsRepository, make_task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_task({"unit": "library"}, scope="global", task_id="ended before")
    _exchange(jobs, _completed(_claimed(jobs)))
    make_task({"unit": "library"}, scope="global", task_id="ending")
    settle, settled = exchange_module.settle_task, []

    def note(connection: Any, task_id: str, **more: Any) -> Any:
        settled.append(task_id)
        return settle(connection, task_id, **more)

    monkeypatch.setattr(exchange_module, "settle_task", note)
    _exchange(jobs, _completed(_claimed(jobs)))

    assert settled == ["ending"]


def test_of_the_jobs_whose_ends_end_their_task_one_stands_for_all(
    database: Database, jobs: JobsRepository, make_task: Any, make_project: Any, make_photos: Any, clock: Any
) -> None:
    make_task({"unit": "items", "chunk_size": 1}, photo_ids=make_photos(make_project(), 3))
    running = jobs.claim("w", Wanted(), limit=3).claimed
    first = jobs.complete(running[2].id)
    clock.advance(seconds=1)
    done = _exchange(jobs, _completed(*running[:2]))
    tasks = TasksRepository(database)
    assert first is not None
    assert [job.id for job in (first, *done.ended) if tasks.has_ended_with(job)] == [running[1].id]


def test_a_job_that_is_ended_under_its_executor_keeps_its_projects_held_for_a_while(
    database: Database, jobs: JobsRepository, make_project: Any, clock: Any
) -> None:
    _enqueue(jobs)
    job, project = _claimed(jobs), make_project()
    assert claim_projects(database, [project.id], job_id=job.id, claim_token=str(job.claim_token))
    clock.advance(seconds=30)
    _exchange(jobs, [End(job_id=job.id, status=JobStatus.CANCELED)])
    with database.connect() as connection:
        assert connection.execute(select(project_claims.c.claimed_at)).scalar_one() == clock()


def test_the_slot_that_becomes_free_is_the_one_that_is_taken(database: Database, jobs: JobsRepository) -> None:
    LanesRepository(database).change("normal", slots=1)
    _enqueue(jobs)
    waiting = _enqueue(jobs)
    job = _claimed(jobs, lane="normal")
    assert jobs.claim_next("other", lane="normal") is None
    done = _exchange(jobs, _completed(job))
    assert [job.id for job in done.claimed] == [waiting.id]
    assert jobs.claim_next("other", lane="normal") is None


def test_a_running_job_that_ends_without_its_token_frees_its_slot_for_the_same_call(
    database: Database, jobs: JobsRepository
) -> None:
    LanesRepository(database).change("normal", slots=1)
    _enqueue(jobs)
    waiting = [_enqueue(jobs) for _ in range(2)]
    job = _claimed(jobs, lane="normal")
    done = _exchange(jobs, [End(job_id=job.id, status=JobStatus.CANCELED)], limit=2)
    assert ([job.id for job in done.ended], [job.id for job in done.claimed]) == ([job.id], [waiting[0].id])


def test_a_job_that_waited_is_taken_before_the_jobs_of_a_next_step(jobs: JobsRepository, make_task: Any) -> None:
    make_task("library", "library", scope="global")
    job, waiting = _claimed(jobs), _enqueue(jobs, priority=0)
    done = jobs.claim("w", Wanted(), limit=1, ended=[End(job_id=job.id, status=JobStatus.COMPLETED)])
    assert [claimed.id for claimed in done.claimed] == [waiting.id]


def test_a_lane_that_has_fewer_slots_than_running_jobs_gives_none_away(
    database: Database, jobs: JobsRepository
) -> None:
    for _ in range(3):
        _enqueue(jobs)
    first = _claimed(jobs, lane="normal")
    _claimed(jobs, lane="normal")
    LanesRepository(database).change("normal", slots=1)
    done = _exchange(jobs, _completed(first))
    assert done.claimed == ()


def test_a_better_job_in_another_lane_is_taken_within_the_slots_of_that_one(
    database: Database, jobs: JobsRepository
) -> None:
    LanesRepository(database).change("priority", slots=1)
    _enqueue(jobs)
    job = _claimed(jobs)
    best, second = (_enqueue(jobs, priority=priority) for priority in (96, 95))
    low = _enqueue(jobs)
    done = _exchange(jobs, _completed(job), limit=2)
    assert [claimed.id for claimed in done.claimed] == [best.id, low.id]
    done = _exchange(jobs, _completed(done.claimed[0]), limit=2)
    assert [claimed.id for claimed in done.claimed] == [second.id]


@pytest.mark.parametrize("change", [{}, {"aging_seconds": 60}])
@pytest.mark.parametrize("wanted", [{"tenant_id": "tenant"}, {"job_ids": ()}])
def test_ready_jobs_that_are_not_wanted_cost_no_second_transaction(
    database: Database, jobs: JobsRepository, monkeypatch: pytest.MonkeyPatch, wanted: Any, change: Any
) -> None:
    _enqueue(jobs)
    job = _claimed(jobs)
    LanesRepository(database).change("normal", slots=4, **change)
    _enqueue(jobs, tenant_id="other")
    rounds: list[object] = []
    one_round, in_special_lane = exchange_module._one_round, exchange_module._take_in_special_lane
    monkeypatch.setattr(exchange_module, "_one_round", lambda *given: (rounds.append(given), one_round(*given))[1])
    monkeypatch.setattr(
        exchange_module, "_take_in_special_lane", lambda *given: (rounds.append(given), in_special_lane(*given))[1]
    )
    done = _exchange(jobs, _completed(job), **wanted)
    assert ([ended.id for ended in done.ended], done.claimed) == ([job.id], ())
    # On SQLite, the jobs of a lane with a special order are claimed in a separate transaction.
    assert len(rounds) == (1 if database.is_postgresql or not change else 2)


def test_a_full_lane_does_not_keep_the_next_one_waiting(database: Database, jobs: JobsRepository) -> None:
    LanesRepository(database).change("priority", slots=1)
    _enqueue(jobs, priority=95)
    _claimed(jobs)
    _enqueue(jobs)
    job = _claimed(jobs)
    _enqueue(jobs, priority=95)
    low = _enqueue(jobs)
    done = _exchange(jobs, _completed(job))
    assert [job.id for job in done.claimed] == [low.id]


@pytest.mark.parametrize("change", [{"aging_seconds": 60}, {"fair_tenants": True}])
def test_a_lane_with_an_order_of_its_own_is_served_in_it_and_the_lanes_behind_it_afterwards(
    database: Database, jobs: JobsRepository, clock: Any, change: dict[str, Any]
) -> None:
    LanesRepository(database).change("priority", slots=3, **change)
    _enqueue(jobs, priority=92)
    job = _claimed(jobs)
    old = [_enqueue(jobs, priority=91).id for _ in range(2)]
    clock.advance(seconds=600)
    new = _enqueue(jobs, priority=91, tenant_id="other").id
    low = _enqueue(jobs).id
    done = _exchange(jobs, _completed(job), limit=9)
    # Aging prefers the old jobs. After the first job, fairness prefers the tenant without running jobs.
    order = [*old, new] if "aging_seconds" in change else [old[0], new, old[1]]
    assert [claimed.id for claimed in done.claimed] == [*order, low]


@pytest.mark.parametrize("lanes", [["priority"], ("priority", "normal")])
def test_a_fault_in_the_lanes_after_one_with_an_order_of_its_own_loses_no_claimed_job(
    database: Database,
    jobs: JobsRepository,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lanes: Sequence[str],
) -> None:
    LanesRepository(database).change("priority", aging_seconds=60)
    high, _ = _enqueue(jobs, priority=95), _enqueue(jobs)
    later: list[object] = []

    def die(*arguments: object, **_: object) -> None:
        later.append(arguments)
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(exchange_module, "exchange", die)
    done = _exchange(jobs, [], lanes=lanes, limit=2)
    assert [claimed.id for claimed in done.claimed] == [high.id]
    # If no lane is left, no other transaction begins.
    assert len(later) == len(lanes) - 1
    # No job has ended, so the message names only the claimed job.
    lost = f"the database failed (away) after this process had claimed job {high.id}; no claim is lost"
    assert caplog.messages == [lost] * (len(lanes) - 1)


def test_a_fault_inside_the_callers_transaction_is_raised(
    database: Database, jobs: JobsRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction may be rolled back, and with it the claims."""
    LanesRepository(database).change("priority", aging_seconds=60)
    _enqueue(jobs, priority=95)

    def die(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(exchange_module, "exchange", die)
    with pytest.raises(DatabaseUnavailable), database.begin() as connection:
        _exchange(JobsRepository(connection), [], limit=2)
    assert [job.status for job in jobs.list_by_tenant("tenant")] == ["queued"]


@pytest.mark.parametrize("is_due", [True, False])
@pytest.mark.parametrize("has_token", [True, False])
def test_the_lanes_before_one_with_an_order_of_its_own_are_served_first(
    database: Database, jobs: JobsRepository, clock: Any, has_token: bool, is_due: bool
) -> None:
    LanesRepository(database).change("priority", slots=1)
    LanesRepository(database).change("normal", aging_seconds=60)
    _enqueue(jobs, priority=95)
    job = _claimed(jobs)
    _enqueue(jobs)
    high = _enqueue(jobs, priority=95)
    _enqueue(jobs, run_after=clock() + timedelta(seconds=5 if is_due else 500))
    clock.advance(seconds=10)
    ended = _completed(job) if has_token else [End(job_id=job.id, status=JobStatus.CANCELED)]
    done = _exchange(jobs, ended, lanes=("priority", "normal"))
    assert [claimed.id for claimed in done.claimed] == [high.id]


def test_a_delayed_job_that_is_due_is_taken_by_its_rank(jobs: JobsRepository, clock: Any) -> None:
    _enqueue(jobs)
    job = _claimed(jobs)
    delayed = _enqueue(jobs, run_after=clock() + timedelta(seconds=5), priority=80)
    waiting = _enqueue(jobs)
    done = _exchange(jobs, _completed(job))
    assert [job.id for job in done.claimed] == [waiting.id]
    clock.advance(seconds=10)
    _enqueue(jobs)
    done = _exchange(jobs, _completed(*done.claimed))
    assert [job.id for job in done.claimed] == [delayed.id]


def test_held_tenants_lanes_and_other_tenants_are_passed_over(database: Database, jobs: JobsRepository) -> None:
    holds = HoldsRepository(database)
    for _ in range(2):
        _enqueue(jobs)
    job = _claimed(jobs)
    holds.hold("tenant", "held")
    _enqueue(jobs, tenant_id="held", priority=80)
    other = _enqueue(jobs, tenant_id="other", priority=70)
    done = _exchange(jobs, _completed(job), tenant_id="other")
    assert [job.id for job in done.claimed] == [other.id]
    holds.hold("lane", "normal")
    done = _exchange(jobs, _completed(*done.claimed))
    assert done.claimed == ()


def test_many_executors_take_every_job_once_and_never_more_than_there_are_slots(
    database: Database, jobs: JobsRepository
) -> None:
    LanesRepository(database).change("normal", slots=5)
    LanesRepository(database).change("priority", slots=2)
    ids = {_enqueue(jobs, priority=95 if number % 3 == 0 else 50).id for number in range(90)}
    taken: list[int] = []
    too_many: list[object] = []

    def work(number: int) -> None:
        held: list[Job] = []
        while len(taken) < len(ids):
            ending = held[: 1 + number % 3]
            done = _exchange(jobs, _completed(*ending), limit=len(ending) + 1)
            held = [*held[len(ending) :], *done.claimed]
            taken.extend(job.id for job in done.claimed)
            running = Counter(lane_name(job.priority) for job in jobs.list_by_tenant("tenant", status="running"))
            if running["normal"] > 5 or running["priority"] > 2:
                too_many.append(running)
        jobs.claim("worker", Wanted(), limit=0, ended=_completed(*held))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    assert sorted(taken) == sorted(ids)
    assert too_many == []
    assert {job.status for job in jobs.list_by_tenant("tenant", limit=100)} == {"completed"}


def test_ends_of_one_step_at_the_same_moment_settle_their_task_once(
    database: Database, jobs: JobsRepository, make_task: Any, make_project: Any, make_photos: Any
) -> None:
    """No end locks the task. The caller that looks last sees that the step has ended."""
    photo_ids = make_photos(make_project(), 6)
    for _ in range(5):
        task = make_task({"unit": "items", "chunk_size": 1}, "library", photo_ids=photo_ids)
        running = jobs.claim("w", Wanted(), limit=6).claimed
        barrier = threading.Barrier(6)

        def end(job: Job, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            assert jobs.complete(job.id, claim_token=job.claim_token) is not None

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(end, running))
        [following] = jobs.claim("w", Wanted(), limit=6).claimed
        assert (following.task_id, following.step_index) == (task.id, 1)
        jobs.complete(following.id)
        assert TasksRepository(database).get(task.id).status == "completed"
