"""The threads of an executor share exchanges with the database, and survive an exchange that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from flows.execution.worker import Lanes
from flows.process.executor import Executor
from flows.process.runtime import Runtime
from storage import JobsRepository, LanesRepository
from storage.errors import DatabaseUnavailable, InvalidValue
from storage.queue.exchange import End, Exchanged
from storage.records import Job
from tests.waiting import wait_until

CONCURRENCY = 4


class Watched(Lanes):
    """Lanes that record each exchange; a test can let an exchange wait or fail."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime, None)
        self.exchanges: list[tuple[list[int], int]] = []
        self.before: Callable[[Sequence[End], int], None] = lambda _ended, _limit: None

    def exchange(self, ended: Sequence[End], limit: int) -> Exchanged:
        self.exchanges.append(([end.job_id for end in ended], limit))
        self.before(ended, limit)
        return super().exchange(ended, limit)


def _executor(runtime: Runtime, source: Watched, concurrency: int = CONCURRENCY) -> Executor:
    settings = runtime.settings.model_copy(update={"concurrency": concurrency})
    return Executor(source, settings=settings, wakeups=runtime.wakeups)


@pytest.fixture
def source(runtime: Runtime) -> Watched:
    LanesRepository(runtime.database).change("normal", slots=0)
    return Watched(runtime)


def _enqueue(runtime: Runtime, count: int, type: str = "count", **more: Any) -> list[Job]:
    jobs = JobsRepository(runtime.database)
    return [jobs.enqueue(tenant_id="t", type=type, scope="global", **more) for _ in range(count)]


def _statuses(runtime: Runtime, of: Sequence[Job]) -> list[str]:
    jobs = JobsRepository(runtime.database)
    return [found.status for job in of if (found := jobs.get_by_id(job.id)) is not None]


def test_the_first_exchange_takes_a_job_for_each_free_thread(runtime: Runtime, stage: Any, source: Watched) -> None:
    queued = _enqueue(runtime, 9)
    _executor(runtime, source).run(until_empty=True)
    assert source.exchanges[0] == ([], CONCURRENCY)
    # The executor never requested more jobs than it had free threads.
    assert all(limit <= CONCURRENCY for _, limit in source.exchanges)
    assert sorted(job_id for ended, _ in source.exchanges for job_id in ended) == [job.id for job in queued]
    assert _statuses(runtime, queued) == ["completed"] * 9


def test_ends_that_come_while_an_exchange_is_under_way_share_the_next_one(
    runtime: Runtime, stage: Any, source: Watched
) -> None:
    queued = _enqueue(runtime, CONCURRENCY)
    executor = _executor(runtime, source)

    def hold_the_first_end(ended: Sequence[End], _limit: int) -> None:
        if len(ended) == 1:
            # The order is certain here, because this thread continues only when the others wait for it.
            wait_until(lambda: len(executor._turns) >= CONCURRENCY - 1, what="the other threads wait for their turn")

    source.before = hold_the_first_end
    executor.run(until_empty=True)
    assert [len(ended) for ended, _ in source.exchanges if ended] == [1, CONCURRENCY - 1]
    assert _statuses(runtime, queued) == ["completed"] * CONCURRENCY


def test_an_end_that_the_database_refuses_costs_the_others_nothing(
    runtime: Runtime, stage: Any, source: Watched
) -> None:
    queued = _enqueue(runtime, CONCURRENCY)
    executor = _executor(runtime, source)

    def refuse(ended: Sequence[End], _limit: int) -> None:
        if len(source.exchanges) == 2:
            wait_until(lambda: len(executor._turns) >= CONCURRENCY - 1, what="the other threads wait for their turn")
        if any(end.job_id == queued[1].id and end.status == "completed" for end in ended):
            raise InvalidValue("result", "cannot be stored")

    source.before = refuse
    executor.run(until_empty=True)
    assert _statuses(runtime, queued) == ["completed", "failed", "completed", "completed"]
    failed = JobsRepository(runtime.database).get_by_id(queued[1].id)
    assert failed is not None
    assert "its end could not be stored: result: cannot be stored" in str(failed.error_message)


def test_a_claim_that_fails_costs_no_end(runtime: Runtime, stage: Any, source: Watched) -> None:
    [job] = _enqueue(runtime, 1)

    def refuse(ended: Sequence[End], limit: int) -> None:
        if ended and limit:
            raise RuntimeError("a defect")

    source.before = refuse
    _executor(runtime, source, 1).run(until_empty=True)
    assert _statuses(runtime, [job]) == ["completed"]


def test_ends_are_handed_in_again_until_the_database_is_back(runtime: Runtime, stage: Any, source: Watched) -> None:
    queued = _enqueue(runtime, 6)
    left = [DatabaseUnavailable("away")] * 7

    def fail(ended: Sequence[End], _limit: int) -> None:
        if ended and left:
            raise left.pop()

    source.before = fail
    _executor(runtime, source).run(until_empty=True)
    assert left == []
    assert _statuses(runtime, queued) == ["completed"] * 6
    assert len(stage.started) == 6


def test_an_exchange_that_an_interrupt_of_the_process_ends_costs_the_other_threads_no_end(
    runtime: Runtime, stage: Any, source: Watched
) -> None:
    """Ctrl-C comes while the main thread makes an exchange for all threads."""
    queued = _enqueue(runtime, 2, "wait_at_gate")
    executor = _executor(runtime, source)

    def interrupt(ended: Sequence[End], _limit: int) -> None:
        if threading.current_thread() is main and stage.started and not ended:
            stage.gates.setdefault("gate", threading.Event()).set()
            wait_until(lambda: len(executor._turns) == 2, what="both ends wait for their turn")
            raise KeyboardInterrupt

    main = threading.current_thread()
    source.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        executor.run(until_empty=False)
    wait_until(lambda: _statuses(runtime, queued) == ["completed"] * 2, what="both ends are stored")


def test_a_job_in_backoff_or_a_slow_one_keeps_no_other_from_beginning(
    runtime: Runtime, stage: Any, source: Watched
) -> None:
    [slow] = _enqueue(runtime, 1, "wait_at_gate", priority=80)
    executor = _executor(runtime, source, 2)
    thread = threading.Thread(target=executor.run, kwargs={"until_empty": False}, daemon=True)
    thread.start()
    wait_until(lambda: stage.started, what="the slow one has begun")
    others = _enqueue(runtime, 5)
    wait_until(lambda: _statuses(runtime, others) == ["completed"] * 5, what="the others are done")
    assert _statuses(runtime, [slow]) == ["running"]
    stage.gates["gate"].set()
    wait_until(lambda: _statuses(runtime, [slow]) == ["completed"], what="the slow one is done")
    executor.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_no_thread_is_left_when_nothing_waits(runtime: Runtime, stage: Any, source: Watched) -> None:
    _enqueue(runtime, 3)
    executor = _executor(runtime, source)
    thread = threading.Thread(target=executor.run, kwargs={"until_empty": False}, daemon=True)
    thread.start()
    wait_until(lambda: len(stage.started) == 3, what="all have begun")
    wait_until(
        lambda: not [each for each in threading.enumerate() if each.name.startswith("photojobs-job-")],
        what="the threads of the jobs have ended",
    )
    executor.stop()
    thread.join(60)
    assert not thread.is_alive()
