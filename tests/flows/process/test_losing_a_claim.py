"""Executors that are slow, frozen, over their time limit or cut off stop useless work, and lose no finished work."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.api.start import start_task
from flows.errors import ClaimLost, PermanentStepError, StepTimeout
from flows.execution.sweep import sweep
from flows.execution.worker import Worker, drain_queue
from flows.handlers.item_outcomes import ItemOutcomes
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.process.heartbeat_thread import TIMEOUT_GRACE_SECONDS, Heartbeat
from flows.process.job_claim import JobClaim, awake_or_asleep
from flows.process.runtime import Runtime
from flows.testing import run_queued_job
from storage import Database, JobsRepository, TasksRepository
from storage.database.tables import jobs as job_table
from storage.database.tables import tasks as task_table
from storage.errors import DatabaseUnavailable
from storage.lifecycle import heartbeats
from storage.queue.exchange import Exchanged
from storage.records import Job
from tests.flows.conftest import add_photos, items_of


@step("spin", unit="library", modifies_files=False)
def spin(ctx: StepContext) -> None:
    """Computes without a checkpoint."""
    give_up_at = time.monotonic() + 120
    while time.monotonic() < give_up_at:
        pass


@step("leave_python", unit="library", modifies_files=False)
def leave_python(ctx: StepContext) -> None:
    """Raises SystemExit, as `sys.exit` does."""
    raise SystemExit(3)


@step("refuse", unit="library", modifies_files=False)
def refuse(ctx: StepContext) -> None:
    """Fails with an error that is not repeated."""
    raise PermanentStepError("never")


def claim(database: Database, **more: Any) -> Job:
    jobs = JobsRepository(database)
    jobs.enqueue(tenant_id="t", type="count", scope="global", **more)
    claimed = jobs.claim_next("somebody")
    assert claimed is not None
    return claimed


def silence(database: Database, job: Job, *, hours: float) -> None:
    with database.begin() as connection:
        then = database.clock() - timedelta(hours=hours)
        connection.execute(job_table.update().where(job_table.c.id == job.id).values(heartbeat_at=then))


def test_a_handler_that_never_looks_up_is_stopped_by_its_time_limit(runtime: Runtime, stage: Any, define: Any) -> None:
    definition = define(
        "spinning", {"type": "spin", "priority": 50, "timeout_seconds": 0.1, "max_attempts": 1}, scope="global"
    )
    started = start_task(type=definition, tenant_id="user_0")
    began_at = time.monotonic()

    drain_queue(runtime=runtime)

    assert time.monotonic() - began_at < 60
    [job] = TasksRepository(runtime.database).list_jobs(started.task_id)
    assert job.status == "failed"
    assert job.error_message == (
        "timed out: the job ran for longer than the timeout_seconds of its step (0.1 s); raise this limit for slow work"
    )


class StrikingLock:
    """A lock that is interrupted once, at the moment in which a thread takes it."""

    def __init__(self) -> None:
        self.strikes = False
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if self.strikes:
            self.strikes = False
            raise StepTimeout
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_an_interrupt_that_strikes_at_the_very_end_leaves_none_behind(
    rows: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat = Heartbeat(rows, worker_id="w", interval_seconds=0.01, waiting=list)
    lock = StrikingLock()
    monkeypatch.setattr(heartbeat, "_lock", lock)
    overdue = JobClaim(rows, claim(rows), trusted_seconds=60, deadline=time.monotonic() + 0.05)
    with heartbeat.time_limit(overdue):
        lock.strikes = True
    heartbeat.start()

    # The next work of the thread must not be interrupted, even long after the deadline.
    time.sleep(TIMEOUT_GRACE_SECONDS + 0.3)
    heartbeat.close()


def test_an_interrupt_that_strikes_at_the_very_beginning_leaves_no_limit_behind(rows: Database) -> None:
    def strike() -> None:
        raise StepTimeout("at the beginning")

    heartbeat = Heartbeat(rows, worker_id="w", interval_seconds=60, waiting=list)
    heartbeat._wake.set = strike  # type: ignore[method-assign]
    overdue = JobClaim(rows, claim(rows), trusted_seconds=60, deadline=time.monotonic() - 60)

    with pytest.raises(StepTimeout, match="at the beginning"), heartbeat.time_limit(overdue):
        pass

    # If the limit stayed, the next jobs of the thread would be interrupted.
    assert heartbeat._next_interrupt_at() == float("inf")


def test_a_limit_that_is_kept_leaves_nothing_for_the_interpreter_to_look_for(
    rows: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python 3.11 and 3.12 look for an exception that was withdrawn as long as the process lives.
    sent: list[object] = []
    monkeypatch.setattr(ctypes.pythonapi, "PyThreadState_SetAsyncExc", lambda *arguments: sent.append(arguments))
    heartbeat = Heartbeat(rows, worker_id="w", interval_seconds=60, waiting=list)
    with heartbeat.time_limit(JobClaim(rows, claim(rows), trusted_seconds=60, deadline=time.monotonic() + 3600)):
        heartbeat._interrupt_overdue()

    assert sent == []


def test_an_interrupt_that_was_sent_is_raised_before_the_block_has_ended(rows: Database) -> None:
    heartbeat = Heartbeat(rows, worker_id="w", interval_seconds=60, waiting=list)
    overdue = JobClaim(rows, claim(rows), trusted_seconds=60, deadline=time.monotonic() - 60)
    begun = threading.Event()
    interrupter = threading.Thread(target=lambda: begun.wait() and heartbeat._interrupt_overdue())
    interrupter.start()

    with suppress(StepTimeout), heartbeat.time_limit(overdue):
        begun.set()
        interrupter.join()
    interrupter.join()

    # An interrupt that is raised only now would fail the test.
    assert heartbeat._next_interrupt_at() == float("inf")


def test_a_process_that_slept_asks_before_it_goes_on(rows: Database) -> None:
    mine = JobClaim(rows, claim(rows), trusted_seconds=5)
    mine.check()
    JobsRepository(rows).requeue(mine.job.id)

    mine.check()  # The job has just learned that its claim is valid.
    mine.confirmed_at = awake_or_asleep() - 3600

    with pytest.raises(ClaimLost):
        mine.check()


def test_an_answer_counts_from_when_it_was_asked_for(rows: Database) -> None:
    mine = JobClaim(rows, claim(rows), trusted_seconds=5)
    mine.confirmed_at = awake_or_asleep() - 3600
    asked_at = awake_or_asleep() - 1800

    # The process was stopped for half an hour between the query and the storing of its answer.
    mine.confirm(asked_at)
    JobsRepository(rows).requeue(mine.job.id)

    with pytest.raises(ClaimLost):
        mine.check()


def test_a_claim_that_has_lain_about_is_not_trusted(rows: Database) -> None:
    claimed = claim(rows)
    JobsRepository(rows).requeue(claimed.id)
    late = Database(
        rows.engine.url.render_as_string(hide_password=False), clock=lambda: rows.clock() + timedelta(hours=1)
    )

    with pytest.raises(ClaimLost):
        JobClaim(late, claimed, trusted_seconds=5).check()
    late.close()


def test_both_claims_of_a_job_that_came_back_to_its_process_are_told_the_truth(rows: Database) -> None:
    jobs = JobsRepository(rows)
    first = claim(rows)
    jobs.requeue(first.id)
    second = jobs.claim_next("somebody")
    assert second is not None

    lost = heartbeats.write_heartbeats(rows, [(first.id, str(first.claim_token)), (second.id, str(second.claim_token))])

    assert lost == {first.claim_token}


@pytest.mark.postgres
def test_a_handlers_long_transaction_keeps_no_other_job_from_its_beat(postgresql_url: str) -> None:
    database = Database(postgresql_url, busy_timeout_seconds=1)
    held, other = claim(database), claim(database)
    for job in (held, other):
        silence(database, job, hours=1)
    with database.begin() as connection:
        connection.execute(job_table.update().where(job_table.c.id == held.id).values(progress_done=1))

        lost = heartbeats.write_heartbeats(
            database, [(held.id, str(held.claim_token)), (other.id, str(other.claim_token))]
        )

    assert lost == set()
    found = JobsRepository(database).get_by_id(other.id)
    assert found is not None
    assert found.heartbeat_at is not None
    assert database.clock() - found.heartbeat_at < timedelta(minutes=1)
    database.close()


def test_an_executor_that_lives_is_not_rescued_when_its_machine_wakes_up(runtime: Runtime, stage: Any) -> None:
    job = JobsRepository(runtime.database).enqueue(tenant_id="t", type="wait_at_gate", scope="global", priority=95)
    entered = stage.entered.setdefault("gate", threading.Event())
    worker = Worker(runtime)
    thread = threading.Thread(target=worker.drain)
    thread.start()
    assert entered.wait(30)
    silence(runtime.database, job, hours=8)

    swept = sweep(runtime)

    assert (swept.requeued, swept.failed) == (0, 0)
    stage.gates["gate"].set()
    thread.join(30)
    ended = JobsRepository(runtime.database).get_by_id(job.id)
    assert ended is not None
    assert (ended.status, ended.attempts) == ("completed", 0)


def test_an_executor_that_is_dead_is_rescued_by_one_sweep(runtime: Runtime, stage: Any) -> None:
    job = claim(runtime.database)
    silence(runtime.database, job, hours=8)

    assert sweep(runtime).requeued == 1


def test_a_claim_whose_answer_got_lost_costs_no_attempt(runtime: Runtime, stage: Any) -> None:
    jobs = JobsRepository(runtime.database)
    job = jobs.enqueue(tenant_id="t", type="count", scope="global", max_attempts=1)
    claimed = jobs.claim_next(runtime.worker_id)
    assert claimed is not None
    sweep(runtime)
    found = jobs.get_by_id(job.id)
    assert found is not None
    assert found.status == "running"  # The answer to this claim may still be on its way.
    silence(runtime.database, job, hours=1 / 3600)

    assert sweep(runtime).requeued == 1

    assert drain_queue(runtime=runtime).ended == {"completed": 1}
    ended = jobs.get_by_id(job.id)
    assert ended is not None
    assert (ended.status, ended.attempts) == ("completed", 0)


def test_a_handler_that_ends_the_program_fails_its_job_alone(runtime: Runtime, stage: Any) -> None:
    job = JobsRepository(runtime.database).enqueue(tenant_id="t", type="leave_python", scope="global", max_attempts=1)

    ended = run_queued_job(runtime, job.id)

    assert (ended.status, ended.error_message) == ("failed", "SystemExit: 3")


def test_what_can_never_succeed_is_tried_once(runtime: Runtime, stage: Any) -> None:
    job = JobsRepository(runtime.database).enqueue(tenant_id="t", type="refuse", scope="global", max_attempts=9)

    ended = run_queued_job(runtime, job.id)

    assert (ended.status, ended.error_message, ended.attempts) == ("failed", "never", 0)


@pytest.mark.parametrize("damage", ["gone", "unreadable"])
def test_a_job_whose_task_cannot_be_read_fails_with_the_reason(
    damage: str, runtime: Runtime, stage: Any, define: Any
) -> None:
    started = start_task(type=define("odd", {"type": "count", "priority": 50}, scope="global"), tenant_id="user_0")
    with runtime.database.begin() as connection:
        this = task_table.c.id == started.task_id
        if damage == "gone":
            connection.execute(task_table.delete().where(this))
        else:
            connection.execute(task_table.update().where(this).values(definition_json={"steps": "none"}))

    ended = run_queued_job(runtime, started.job_ids[0])

    assert ended.status == "failed"
    assert str(ended.error_message).startswith("the job cannot be run: ")


def test_a_draining_worker_takes_a_database_that_is_away_for_no_empty_queue(
    runtime: Runtime, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    JobsRepository(runtime.database).enqueue(tenant_id="t", type="count", scope="global")
    answers = iter([DatabaseUnavailable("away")] * 2)
    claim = JobsRepository.claim

    def away_at_first(self: JobsRepository, *arguments: Any, **named: Any) -> Exchanged:
        for error in answers:
            raise error
        return claim(self, *arguments, **named)

    monkeypatch.setattr(JobsRepository, "claim", away_at_first)

    assert drain_queue(runtime=runtime).ended == {"completed": 1}


def test_items_that_were_done_are_not_lost_over_a_database_that_is_away(
    runtime: Runtime, stage: Any, monkeypatch: pytest.MonkeyPatch, make_items: Callable[[], list[dict[str, Any]]]
) -> None:
    jobs = JobsRepository(runtime.database)
    job = jobs.enqueue_with_items(tenant_id="user_0", type="note", items=make_items(), max_attempts=1)
    assert isinstance(job, Job)
    errors = iter([DatabaseUnavailable("away")])
    record = ItemOutcomes._record

    def away_at_first(self: ItemOutcomes) -> int:
        done = record(self)
        for error in errors:
            # The end was written, but the answer was lost.
            raise error
        return done

    monkeypatch.setattr(ItemOutcomes, "_record", away_at_first)

    ended = run_queued_job(runtime, job.id)

    assert ended.status == "completed"
    assert [(item.status, item.attempts) for item in jobs.list_items(job.id)] == [("done", 1)] * 3


@pytest.fixture
def make_items(runtime: Runtime) -> Callable[[], list[dict[str, Any]]]:
    return lambda: items_of(*add_photos(runtime.database, "abc"))


def test_an_executor_that_lost_its_job_frees_no_project_of_its_successor(rows: Database, tmp_path: Path) -> None:
    from storage import ProjectsRepository
    from storage.queue.project_claims import claim_projects, claiming_jobs, release_projects

    project = ProjectsRepository(rows).create(project_name="Alps", project_folder="alps")
    jobs = JobsRepository(rows)
    first = claim(rows)
    assert claim_projects(rows, [project.id], job_id=first.id, claim_token=str(first.claim_token))
    jobs.requeue(first.id)
    second = jobs.claim_next("somebody")
    assert second is not None
    # The first executor counts as dead now.
    own = {"job_id": second.id, "claim_token": str(second.claim_token)}
    assert claim_projects(rows, [project.id], **own, stale_seconds=0)

    release_projects(rows, [project.id], claim_token=str(first.claim_token))

    with rows.connect() as connection:
        assert claiming_jobs(connection, project.id) == [second.id]
