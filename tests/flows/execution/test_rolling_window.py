"""A run follows many jobs at a time, and no job keeps another from starting."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from flows import catalog, run_task, step
from flows.api.start import start_task
from flows.execution import followed_run, plain_run
from flows.execution.plain_run import run_plainly
from flows.execution.rolling_window import RollingWindow, Source, StepSource
from flows.handlers.step_context import StepContext
from flows.process.job_follower import JobFollower
from flows.process.runtime import Runtime
from storage import HoldsRepository, JobsRepository, TasksRepository
from storage.errors import DatabaseBusy, SchemaMismatch
from storage.records import Job
from tests.flows.conftest import add_photos
from tests.waiting import wait_until

#: The chunks of the current test that fail at their first attempt.
_unlucky: set[int] = set()


@step("fail_first", unit="items", modifies_files=False)
def fail_first(ctx: StepContext) -> None:
    """Fails at the first attempt for some chunks."""
    if ctx.job.chunk_index in _unlucky and ctx.job.attempts == 0:
        raise OSError("not at the first attempt")
    for batch in ctx.item_batches():
        for item in batch:
            with ctx.item(item):
                pass


@pytest.fixture
def patient(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A runtime that follows at most four jobs at a time, and repeats failed jobs after an hour."""
    # A run whose step has more jobs does not wait for this time.
    monkeypatch.setattr(StepSource, "read_again_seconds", 3600.0)
    changes = {"retry_delay_seconds": 3600.0, "window_size": 4, "concurrency": 2}
    with Runtime(runtime.database, settings=runtime.settings.model_copy(update=changes)) as opened, opened.as_current():
        yield opened
    _unlucky.clear()


@pytest.fixture
def photo_ids(runtime: Runtime) -> list[int]:
    return add_photos(runtime.database, (f"p{number}" for number in range(12)))


def _statuses(runtime: Runtime, task_id: str) -> list[str]:
    """Return the status of each job; a job that waits for its next attempt has a status of its own here."""
    jobs = TasksRepository(runtime.database).list_jobs(task_id)
    return ["waits" if job.run_after is not None else job.status for job in jobs]


def _all_but_the_unlucky_have_run(runtime: Runtime, task_id: str) -> bool:
    return Counter(_statuses(runtime, task_id)) == {"completed": 12 - len(_unlucky), "waits": len(_unlucky)}


def _let_retries_begin(runtime: Runtime) -> None:
    """Move the moments of the next attempts to now; no running job may be about to fail."""
    with runtime.database.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET run_after = NULL")


@contextmanager
def _in_thread(run: Callable[[], object]) -> Iterator[None]:
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run)
        yield
        running.result(60)


# Either as many jobs wait for their next attempt as the run can follow, or only one.
@pytest.mark.parametrize("unlucky", [{0}, {0, 1, 2, 3, 4}])
def test_jobs_that_wait_for_their_next_attempt_keep_no_other_from_beginning(
    patient: Runtime, define: Any, photo_ids: list[int], unlucky: set[int]
) -> None:
    _unlucky.update(unlucky)
    definition = define("pick", {"type": "fail_first", "priority": 50, "chunk_size": 1})
    items = [{"photo_id": id_} for id_ in photo_ids]
    started = start_task(type=definition, tenant_id="user_0", items=items)

    with _in_thread(lambda: run_plainly(started.task_id, patient)):
        wait_until(
            lambda: _all_but_the_unlucky_have_run(patient, started.task_id),
            what=lambda: f"the others have run: {_statuses(patient, started.task_id)}",
        )
        _let_retries_begin(patient)

    assert _statuses(patient, started.task_id) == 12 * ["completed"]


@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
def test_a_mapped_run_goes_on_beside_a_job_that_waits_for_its_next_attempt(
    prefect_api: str, patient: Runtime, define: Any, photo_ids: list[int]
) -> None:
    _unlucky.add(0)
    definition = define("pick_mapped", {"type": "fail_first", "priority": 50, "chunk_size": 1})

    def let_the_last_one_begin() -> None:
        def others_have_run() -> bool:
            tasks = TasksRepository(patient.database).list_newest()
            return bool(tasks) and _all_but_the_unlucky_have_run(patient, tasks[0].id)

        try:
            wait_until(others_have_run, what="the others have run", limit_seconds=100)
        finally:
            _let_retries_begin(patient)

    with _in_thread(let_the_last_one_begin):
        summary = run_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids])

    assert summary.message == "12 jobs completed, 0 failed, 0 canceled"


@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
# Prefect leaves connections of an event loop that has ended to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
# One job waits for its next attempt, or as many as the window has room for in the lane of the late job.
@pytest.mark.parametrize(("unlucky", "priority"), [(1, 95), (4, 50)])
def test_the_drain_flow_takes_up_jobs_that_come_while_others_wait_for_their_next_attempt(
    prefect_api: str, patient: Runtime, stage: Any, unlucky: int, priority: int
) -> None:
    jobs = JobsRepository(patient.database)
    tenants = [f"unlucky_{number}" for number in range(unlucky)]
    stage.failures.update(dict.fromkeys(tenants, 1))
    first = [jobs.enqueue(tenant_id=tenant, type="stumble", scope="global", priority=50) for tenant in tenants]
    late: list[Job] = []

    def enqueue_late() -> None:
        try:
            wait_until(lambda: all(_reread(jobs, job).run_after for job in first), what="the first have failed once")
            late.append(jobs.enqueue(tenant_id="other", type="count", scope="global", priority=priority))
            wait_until(lambda: _reread(jobs, late[0]).status == "completed", what="the late one has run")
        finally:
            _let_retries_begin(patient)

    with _in_thread(enqueue_late):
        state = catalog.drain_queue(return_state=True)

    assert (state.type.value, state.message) == ("COMPLETED", f"{unlucky + 1} jobs completed")
    assert stage.started[unlucky] == ("count", late[0].id)


@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_best_job_is_next_in_the_drain_flow_although_its_lane_has_a_full_window(
    prefect_api: str, patient: Runtime, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = JobsRepository(patient.database)
    followed: list[int] = []
    follow = patient.followed.follow

    def follow_and_note(job_id: int, follower: JobFollower) -> Any:
        future = follow(job_id, follower)
        followed.append(job_id)
        return future

    monkeypatch.setattr(patient.followed, "follow", follow_and_note)
    for gate in ("held", "opened"):
        payload = {"gate": gate}
        jobs.enqueue(tenant_id="many", type="wait_at_gate", scope="global", priority=60, payload=payload)
    waiting = [jobs.enqueue(tenant_id="many", type="count", scope="global", priority=50) for _ in range(6)]
    late: list[Job] = []

    def enqueue_late() -> None:
        try:
            wait_until(lambda: len(stage.started) == 2, what="both threads are busy")
            # The process has no thread for them, so they must keep no slots from the jobs of other processes.
            wait_until(
                lambda: all(job.worker_id is None for job in jobs.get_many([job.id for job in waiting]).values()),
                what="the flow keeps no slots",
                limit_seconds=10,
            )
            late.append(jobs.enqueue(tenant_id="other", type="count", scope="global", priority=55))
            wait_until(lambda: late[0].id in followed, what="the flow waits for the late one")
            stage.gates.setdefault("opened", threading.Event()).set()
            wait_until(lambda: _reread(jobs, late[0]).status == "completed", what="the late one has run")
        finally:
            for gate in ("held", "opened"):
                stage.gates.setdefault(gate, threading.Event()).set()

    with _in_thread(enqueue_late):
        state = catalog.drain_queue(return_state=True)

    assert (state.type.value, state.message) == ("COMPLETED", f"{len(waiting) + 3} jobs completed")
    assert stage.started[2] == ("count", late[0].id)


def _reread(jobs: JobsRepository, job: Job) -> Job:
    found = jobs.get_by_id(job.id)
    assert found is not None
    return found


def test_a_step_whose_jobs_are_all_followed_is_not_read_again_before_they_have_ended(
    runtime: Runtime, define: Any, photo_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepSource, "read_again_seconds", 3600.0)
    definition = define("pick_once", {"type": "fail_first", "priority": 50, "chunk_size": 1})
    started = start_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids])
    reads = list[int]()
    unfinished_jobs = TasksRepository.unfinished_jobs

    def counted(self: TasksRepository, *args: Any, **keywords: Any) -> list[Job]:
        found = unfinished_jobs(self, *args, **keywords)
        reads.append(len(found))
        return found

    monkeypatch.setattr(TasksRepository, "unfinished_jobs", counted)

    run_plainly(started.task_id, runtime)

    assert reads == [12, 0]


class _Read(StepSource["_Ends"]):
    def begin(self, jobs: Any) -> Any:
        raise NotImplementedError


def test_jobs_that_found_no_room_are_read_again_although_followed_ones_have_ended_meanwhile(
    runtime: Runtime, define: Any, photo_ids: list[int]
) -> None:
    definition = define("pick_some", {"type": "fail_first", "priority": 50, "chunk_size": 3})
    started = start_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids])
    first, second, third, fourth = started.job_ids
    task = TasksRepository(runtime.database).get(started.task_id)
    source = _Read(task, runtime)
    with runtime.database.begin() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET status = 'completed' WHERE id IN ({first}, {second})")

    # The run has room for only one job, because it has not read the ends of the others yet.
    found = source.read(1, {first: _Ends(), second: _Ends()})

    assert [job.id for job in found] == [third, fourth]
    assert [job.id for job in source.read(1, {third: _Ends()})] == [third, fourth]


def test_a_run_of_follow_up_jobs_goes_back_with_its_task_to_a_step_that_is_retried(
    runtime: Runtime, define: Any, photo_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepSource, "look_seconds", 0.05)
    monkeypatch.setattr(StepSource, "read_again_seconds", 0.05)
    database, items = runtime.database, [{"photo_id": photo_ids[0]}]
    jobs, tasks, holds = JobsRepository(database), TasksRepository(database), HoldsRepository(database)
    started = start_task(
        type=define("go_back", {"type": "fail_first", "priority": 50}), tenant_id="user_0", items=items
    )
    [first] = started.job_ids
    tasks.add_follow_up(started.task_id, type="fail_first", priority=60, photo_ids=photo_ids[:1])
    jobs.complete(first)
    narrow = runtime.settings.model_copy(update={"window_size": 1})
    with ThreadPoolExecutor(1) as threads, Runtime(database, settings=narrow) as opened:
        holds.hold("task", started.task_id)
        run = threads.submit(run_plainly, started.task_id, opened)
        wait_until(lambda: opened.followed.next_in_line(), what="the run waits for the follow-up job")
        jobs.requeue(first)
        holds.release("task", started.task_id)

        assert run.result(30).task.status == "completed"
    assert [job.status for job in tasks.list_jobs(started.task_id)] == ["completed", "completed"]


def test_a_run_waits_for_the_database_at_the_end_of_a_step_and_of_its_task(
    runtime: Runtime, define: Any, photo_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = start_task(
        type=define("shown", {"type": "fail_first", "priority": 50}),
        tenant_id="user_0",
        items=[{"photo_id": photo_ids[0]}],
    )
    failed: list[object] = []

    def failing_once(call: Callable[..., Any]) -> Callable[..., Any]:
        def fail_or_call(*arguments: Any, **named: Any) -> Any:
            if call not in failed:
                failed.append(call)
                raise DatabaseBusy("not now")
            return call(*arguments, **named)

        return fail_or_call

    ended: list[int] = []
    note_end = failing_once(lambda _task, step_index: ended.append(step_index))
    monkeypatch.setattr(plain_run, "follow_steps", partial(plain_run.follow_steps, on_step_end=note_end))
    monkeypatch.setattr(plain_run, "summarize_task", failing_once(plain_run.summarize_task))

    assert run_plainly(started.task_id, runtime).task.status == "completed"
    assert (ended, len(failed)) == ([0], 2)


class _Given(Source["_Ends"]):
    """Gives out the jobs of a list; the test ends their futures."""

    look_seconds = 0.01

    def __init__(self, count: int) -> None:
        self.left = list(range(count))
        self.begun: dict[int, _Ends] = {}
        self.most_followed = 0
        self.not_ready_now = 0

    def read(self, room: int, followed: Any) -> list[Any]:
        self.most_followed = max(self.most_followed, len(followed))
        return [_Numbered(number) for number in [*followed, *self.left]][: room + len(followed)]

    def begin(self, jobs: Any) -> Iterator[_Ends]:
        for job in jobs:
            self.left.remove(job.id)
            self.begun[job.id] = _Ends()
            yield self.begun[job.id]

    def not_ready(self) -> int:
        return self.not_ready_now

    def is_stopped(self) -> bool:
        return False


class _Numbered:
    def __init__(self, id_: int) -> None:
        self.id = id_


class _Ends:
    def add_done_callback(self, fn: Any) -> None:
        self.end = lambda: fn(self)


def test_as_many_are_followed_as_the_window_holds_and_each_once(runtime: Runtime) -> None:
    source, window = _Given(10), RollingWindow["_Ends"](runtime.followed, size=4)
    with _in_thread(lambda: window.follow(source)):
        wait_until(lambda: len(source.begun) == 4, what="the window is full")
        for number in (2, 0, 1):
            source.begun[number].end()
        wait_until(lambda: len(source.begun) == 7, what="what has ended is replaced beside the one that has not")
        assert 3 in window.followed
        source.not_ready_now = 4
        wait_until(lambda: not source.left, what="those that cannot begin take no room")
        for number, future in source.begun.items():
            if number not in (2, 0, 1):
                future.end()
    assert sorted(source.begun) == list(range(10))
    assert not window.followed


def test_an_error_of_one_job_ends_the_run_and_returns_the_others_to_the_queue(
    runtime: Runtime, stage: Any, define: Any, photo_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = define("breaks_off", {"type": "count", "priority": 50, "chunk_size": 1})
    started = start_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids])
    run = followed_run.run_claimed_job

    def fail_first(job: Any, *arguments: Any, **named: Any) -> Any:
        if job.id == started.job_ids[0]:
            raise SchemaMismatch("another version has changed the tables")
        return run(job, *arguments, **named)

    monkeypatch.setattr(followed_run, "run_claimed_job", fail_first)
    with pytest.raises(SchemaMismatch):
        run_plainly(started.task_id, runtime)
    monkeypatch.undo()

    assert "failed" not in _statuses(runtime, started.task_id)
