"""Jobs that a process waits for: each is claimed or its end is seen, whatever happens."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from flows.execution.job_following import FollowedRun
from flows.process import claiming_thread as dispatcher_module
from flows.process.claiming_thread import Dispatcher
from flows.process.runtime import Runtime
from storage import Database, JobsRepository, LanesRepository
from storage.queue.claims import claim_awaited, new_worker_id
from storage.queue.wakeups import Wakeups
from storage.records import Job
from tests.waiting import wait_until

Waiting = Callable[[Dispatcher, Job], "Future[Job | None]"]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def open_dispatcher(database: Database) -> Iterator[Callable[..., Dispatcher]]:
    """Another process's dispatcher: `open_dispatcher(concurrency=1)`."""
    with ExitStack() as stack:

        def make(concurrency: int = 4, poll_seconds: float = 0.05) -> Dispatcher:
            wakeups = Wakeups(database)
            made = Dispatcher(
                database,
                worker_id=new_worker_id("test"),
                wakeups=wakeups,
                poll_seconds=poll_seconds,
                concurrency=concurrency,
            )
            stack.callback(wakeups.close)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def wait_for() -> Waiting:
    """Waits for a job; the future is what it is answered."""

    def wait_for(dispatcher: Dispatcher, job: Job) -> Future[Job | None]:
        future: Future[Job | None] = Future()
        dispatcher.wait_for(job, future.set_result, stopping=threading.Event())
        return future

    return wait_for


@pytest.fixture
def enqueue(database: Database) -> Callable[..., Job]:
    return lambda priority=95, **more: JobsRepository(database).enqueue(
        tenant_id="t", type="x", priority=priority, **more
    )


def row(database: Database, job: Job) -> Job:
    found = JobsRepository(database).get_by_id(job.id)
    assert found is not None
    return found


def status(database: Database, job: Job) -> str:
    return row(database, job).status


def test_of_two_who_wait_for_one_job_one_runs_it_and_both_learn_of_its_end(
    database: Database, open_dispatcher: Any, wait_for: Waiting, enqueue: Any
) -> None:
    dispatcher, job = open_dispatcher(), enqueue()
    waiting = [wait_for(dispatcher, job), wait_for(dispatcher, job)]
    wait_until(lambda: any(future.done() for future in waiting), what="one has the job")
    [claimed] = [future.result() for future in waiting if future.done()]
    assert claimed is not None

    JobsRepository(database).complete(job.id, claim_token=claimed.claim_token)

    assert {future.result(10) for future in waiting} == {claimed, None}


def test_a_job_claimed_for_somebody_who_has_left_is_handed_back_at_once(
    database: Database, open_dispatcher: Any, wait_for: Waiting, enqueue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher, job = open_dispatcher(), enqueue()
    claims: list[list[Job]] = []

    def claim_and_leave(*arguments: Any, **named: Any) -> list[Job]:
        claimed = claim_awaited(*arguments, **named)
        if claimed:
            claims.append(claimed)
            dispatcher.abandon(None)
        return claimed

    monkeypatch.setattr(dispatcher_module, "claim_awaited", claim_and_leave)

    assert wait_for(dispatcher, job).result(10) is None
    # It is queued before the claim is committed as well.
    wait_until(lambda: row(database, job).updated_at != job.updated_at, what="the claim is committed")
    wait_until(lambda: status(database, job) == "queued", what="the job is back")
    assert [[claimed.id for claimed in claims[0]], len(claims)] == [[job.id], 1]
    assert (row(database, job).attempts, row(database, job).heartbeat_at) == (0, None)


def test_an_error_that_nobody_foresaw_does_not_leave_everybody_waiting(
    open_dispatcher: Any, wait_for: Waiting, enqueue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([RuntimeError("unforeseen")])

    def claim_or_fail(*arguments: Any, **named: Any) -> list[Job]:
        for error in errors:
            raise error
        return claim_awaited(*arguments, **named)

    monkeypatch.setattr(dispatcher_module, "claim_awaited", claim_or_fail)

    assert wait_for(open_dispatcher(), enqueue()).result(10) is not None


def test_a_job_that_must_wait_for_its_next_attempt_lets_others_go_first(
    database: Database, open_dispatcher: Any, wait_for: Waiting, enqueue: Any
) -> None:
    dispatcher = open_dispatcher(concurrency=1)
    delayed = enqueue(99, run_after=database.clock() + timedelta(hours=1))
    ready = enqueue(95)
    for_delayed, for_ready = wait_for(dispatcher, delayed), wait_for(dispatcher, ready)

    assert for_ready.result(10) is not None

    assert not for_delayed.done()
    dispatcher.close()
    assert for_delayed.result(10) is None


def test_another_executor_that_runs_the_job_is_seen(database: Database, open_dispatcher: Any, enqueue: Any) -> None:
    job, seen, ended = enqueue(), threading.Event(), Future[Job | None]()
    running = JobsRepository(database).claim_next("another", lane="priority")
    assert running is not None

    open_dispatcher().wait_for(job, ended.set_result, stopping=threading.Event(), on_elsewhere=seen.set)

    assert seen.wait(60)
    assert not ended.done()
    JobsRepository(database).complete(job.id, claim_token=running.claim_token)
    assert ended.result(60) is None


def test_a_process_that_is_busy_does_not_keep_others_from_idle_slots(
    database: Database, open_dispatcher: Any, wait_for: Waiting, enqueue: Any
) -> None:
    LanesRepository(database).change("priority", slots=2)
    busy, other = open_dispatcher(concurrency=1), open_dispatcher(concurrency=1)
    high = [wait_for(busy, enqueue(100)) for _ in range(3)]
    wait_until(lambda: any(future.done() for future in high), what="the busy process has its hands full")

    low = wait_for(other, enqueue(90))

    assert low.result(10) is not None
    assert sum(future.done() for future in high) == 1
    busy.close()


def test_who_waits_holds_a_slot_that_frees_against_a_lower_rank(
    database: Database, open_dispatcher: Any, wait_for: Waiting, enqueue: Any
) -> None:
    LanesRepository(database).change("priority", slots=1)
    busy, other = open_dispatcher(concurrency=1), open_dispatcher(concurrency=1)
    [first, second] = [enqueue(100), enqueue(100)]
    claimed = wait_for(busy, first).result(10)
    assert claimed is not None
    next_one = wait_for(busy, second)
    wait_until(lambda: row(database, second).heartbeat_at, what="everybody sees that the second waits")
    low_job = enqueue(90)
    low = wait_for(other, low_job)
    wait_until(lambda: row(database, low_job).heartbeat_at, what="so does the low one")

    busy.release()
    JobsRepository(database).complete(first.id, claim_token=claimed.claim_token)

    assert next_one.result(10) is not None
    assert not low.done()
    other.close()


@pytest.mark.parametrize("failures", [0, 1])
def test_a_process_has_room_for_the_next_job_before_the_end_of_one_frees_its_slot(
    runtime: Runtime, stage: Any, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    job = JobsRepository(runtime.database).enqueue(tenant_id="t", type="stumble", scope="global", max_attempts=1)
    stage.failures["t"] = failures
    seen: list[str] = []
    monkeypatch.setattr(runtime.dispatcher, "release", lambda: seen.append(status(runtime.database, job)))

    runtime.follower.follow(job.id, FollowedRun(runtime)).result(60)

    assert seen == ["running"]
    assert status(runtime.database, job) == ("failed" if failures else "completed")


def test_slots_that_are_added_while_jobs_wait_are_used(
    database: Database, open_dispatcher: Any, wait_for: Waiting, enqueue: Any
) -> None:
    lanes = LanesRepository(database)
    lanes.change("priority", slots=1)
    dispatcher = open_dispatcher()
    waiting = [wait_for(dispatcher, enqueue()) for _ in range(3)]
    wait_until(lambda: sum(future.done() for future in waiting) == 1, what="one slot is used")

    lanes.change("priority", slots=2)

    wait_until(lambda: sum(future.done() for future in waiting) == 2, what="the second slot is used")
    dispatcher.close()


def test_looking_costs_the_same_however_many_wait(
    database: Database, open_dispatcher: Any, wait_for: Waiting, enqueue: Any
) -> None:
    LanesRepository(database).change("priority", slots=1)
    running = JobsRepository(database).claim_next("another", lane="priority") if enqueue() else None
    assert running is not None
    dispatcher = open_dispatcher(poll_seconds=0.01)
    looks: Counter[str] = Counter()
    event.listen(database.engine, "before_cursor_execute", lambda *_: looks.update(["statement"]))

    def statements_for_looks(number: int) -> int:
        """How many statements so many looks take; who sees a job's status has looked once."""
        seen = count_looks()
        wait_until(lambda: count_looks() > seen, what="a look begins")
        before, seen = looks["statement"], count_looks()
        wait_until(lambda: count_looks() >= seen + number, what="the looks have been made")
        return looks["statement"] - before

    def count_looks() -> int:
        return looks["look"]

    event.listen(
        database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: looks.update(
            ["look"] if statement.startswith("SELECT jobs.id, jobs.status") else []
        ),
    )
    waiting = [wait_for(dispatcher, enqueue())]
    wait_until(lambda: len(dispatcher.attended()) == 1, what="one waits")
    for_one = statements_for_looks(5)

    waiting += [wait_for(dispatcher, enqueue()) for _ in range(11)]
    wait_until(lambda: len(dispatcher.attended()) == 12, what="twelve wait")
    for_twelve = statements_for_looks(5)
    dispatcher.close()

    assert all(future.result(10) is None for future in waiting)
    assert for_twelve <= 2 * for_one
