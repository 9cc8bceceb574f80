"""A process runs each job that it follows, or sees the end of the job, in all cases."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from flows.execution.followed_run import FollowedRun
from flows.process.followed_jobs import FollowedJobs
from flows.process.runtime import Runtime
from storage import Database, JobsRepository, LanesRepository
from storage.errors import DatabaseBusy
from storage.lifecycle import heartbeats
from storage.queue.exchange import Exchanged
from storage.records import Job, JobStatus
from tests.flows.process.following import Process, Turn
from tests.waiting import wait_until


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def start_process(database: Database, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """A function that starts a process with these settings: `start_process(concurrency=1)`."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Process:
            started = Process(database, tmp_path, **settings)
            stack.callback(started.close)
            return started

        yield start


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


def running(turns: list[Turn]) -> int:
    return sum(turn.claimed.done() for turn in turns)


def test_of_two_who_follow_one_job_one_runs_it_and_both_learn_of_its_end(start_process: Any, enqueue: Any) -> None:
    process, job = start_process(), enqueue()
    followed = [process.follow(job), process.follow(job)]
    wait_until(lambda: running([turn for turn, _ in followed]), what="one has the job")

    for turn, _ in followed:
        turn.may_end.set()

    ends = [end.result(60) for _, end in followed]
    assert [end.status for end in ends] == 2 * ["completed"]
    assert running([turn for turn, _ in followed]) == 1


def test_a_job_claimed_for_one_who_has_left_is_handed_back_at_once(
    database: Database, start_process: Any, enqueue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, job = start_process(), enqueue()
    claims: list[int] = []
    claim = JobsRepository.claim

    def claim_and_leave(*arguments: Any, **named: Any) -> Exchanged:
        exchanged = claim(*arguments, **named)
        if exchanged.claimed:
            claims.extend(each.id for each in exchanged.claimed)
            process.stopping.set()
            process.followed.abandon(None)
        return exchanged

    monkeypatch.setattr(JobsRepository, "claim", claim_and_leave)
    process.followed.announce([job])

    turn, end = process.follow(job)

    left = end.result(60)
    assert left is not None
    assert not left.is_final
    # The job is also `queued` before the claim is committed.
    wait_until(lambda: row(database, job).updated_at != job.updated_at, what="the claim is committed")
    wait_until(lambda: status(database, job) == "queued", what="the job is back")
    assert (claims, turn.claimed.done()) == ([job.id], False)
    assert (row(database, job).attempts, row(database, job).heartbeat_at) == (0, None)


def test_an_executor_that_ends_stops_no_job_that_was_followed_meanwhile(
    start_process: Any, enqueue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, first, second = start_process(), enqueue(), enqueue()
    is_over = process.followed.is_over
    later: list[tuple[Turn, Any]] = []
    executors: list[threading.Thread] = []

    def follow_at_the_end() -> bool:
        over = is_over()
        if over and not later:
            executors.append(threading.current_thread())
            later.append(process.follow(second))
            later[0][0].claimed.result(60)
        return over

    monkeypatch.setattr(process.followed, "is_over", follow_at_the_end)
    turn, end = process.follow(first)
    turn.may_end.set()
    end.result(60)
    wait_until(lambda: later and later[0][0].claimed.done(), what="a new executor runs the second job")
    executors[0].join(60)

    assert not process.stopping.is_set()


def test_an_unforeseen_error_does_not_leave_everything_waiting(
    start_process: Any, enqueue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([RuntimeError("unforeseen")])
    claim = JobsRepository.claim

    def claim_or_fail(*arguments: Any, **named: Any) -> Exchanged:
        for error in errors:
            raise error
        return claim(*arguments, **named)

    monkeypatch.setattr(JobsRepository, "claim", claim_or_fail)
    turn, _ = start_process().follow(enqueue())

    assert turn.claimed.result(60) is not None


def test_a_job_that_must_wait_for_its_next_attempt_lets_others_go_first(
    database: Database, start_process: Any, enqueue: Any
) -> None:
    process = start_process(concurrency=1)
    later = enqueue(99, run_after=database.clock() + timedelta(hours=1))
    process.followed.announce([later])
    _, delayed = process.follow(later)
    ready, _ = process.follow(enqueue(95))

    assert ready.claimed.result(60) is not None

    assert not delayed.done()
    process.followed.close()
    assert delayed.result(60).status == "queued"


def test_another_executor_that_runs_the_job_is_seen(database: Database, start_process: Any, enqueue: Any) -> None:
    job = enqueue()
    elsewhere = JobsRepository(database).claim_next("another", lane="priority")
    assert elsewhere is not None

    turn, end = start_process().follow(job)

    assert turn.elsewhere.wait(60)
    assert not end.done()
    JobsRepository(database).complete(job.id, claim_token=elsewhere.claim_token)
    assert end.result(60).status == "completed"
    assert not turn.claimed.done()


def test_a_job_whose_row_is_removed_is_no_longer_followed(database: Database, start_process: Any, enqueue: Any) -> None:
    LanesRepository(database).change("priority", slots=1)
    assert JobsRepository(database).claim_next("another", lane="priority") if enqueue() else None
    job = enqueue()
    process = start_process()
    _, end = process.follow(job)
    wait_until(lambda: process.followed.next_in_line() == [job.id], what="it waits for a slot")
    with database.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM jobs WHERE id = {job.id}")

    assert end.result(60) is None


def test_a_process_that_is_busy_does_not_keep_others_from_idle_slots(
    database: Database, start_process: Any, enqueue: Any
) -> None:
    LanesRepository(database).change("priority", slots=2)
    busy, other = start_process(concurrency=1), start_process(concurrency=1)
    high = [busy.follow(enqueue(100))[0] for _ in range(3)]
    wait_until(lambda: running(high) == 1, what="the busy process has no free thread")

    low, _ = other.follow(enqueue(90))

    assert low.claimed.result(60) is not None
    assert running(high) == 1


@pytest.mark.parametrize("failures", [0, 1])
def test_a_process_that_ends_a_job_takes_the_slot_before_a_lower_rank(
    database: Database, start_process: Any, enqueue: Any, failures: int
) -> None:
    LanesRepository(database).change("priority", slots=1)
    busy, other = start_process(concurrency=1), start_process(concurrency=1)
    first, _ = busy.follow(enqueue(100))
    first.status = JobStatus.FAILED if failures else JobStatus.COMPLETED
    assert first.claimed.result(60) is not None
    second, _ = busy.follow(enqueue(100))
    low_job = enqueue(90)
    low, _ = other.follow(low_job)
    wait_until(lambda: row(database, low_job).heartbeat_at, what="every process sees that the low one waits")

    first.may_end.set()

    assert second.claimed.result(60) is not None
    assert not low.claimed.done()
    second.may_end.set()
    assert low.claimed.result(60) is not None


def test_a_process_that_ends_a_job_leaves_the_slot_to_a_higher_rank(
    database: Database, start_process: Any, enqueue: Any
) -> None:
    LanesRepository(database).change("priority", slots=1)
    busy, other = start_process(concurrency=1), start_process(concurrency=1)
    first, _ = busy.follow(enqueue(90))
    assert first.claimed.result(60) is not None
    second, _ = busy.follow(enqueue(90))
    high_job = enqueue(100)
    high, _ = other.follow(high_job)
    wait_until(lambda: row(database, high_job).heartbeat_at, what="every process sees that the high one waits")

    first.may_end.set()

    assert high.claimed.result(60) is not None
    assert not second.claimed.done()
    high.may_end.set()
    assert second.claimed.result(60) is not None


def test_a_row_whose_time_cannot_be_read_keeps_no_followed_job_waiting(sqlite_url: str, tmp_path: Path) -> None:
    with closing(Database(sqlite_url)) as rows:
        LanesRepository(rows).change("priority", slots=1)
        jobs = [JobsRepository(rows).enqueue(tenant_id="t", type="x", priority=95) for _ in range(3)]
        with rows.begin() as connection:
            connection.exec_driver_sql("UPDATE jobs SET created_at = 'yesterday' WHERE id = 2")
        with closing(Process(rows, tmp_path, concurrency=2)) as process:
            process.followed.announce([row(rows, job) for job in jobs])
            followed = [process.follow(job) for job in jobs]
            for turn, _ in followed:
                turn.may_end.set()
            assert [job.status for _, end in followed if (job := end.result(60))] == 3 * ["completed"]


def test_slots_that_are_added_while_jobs_wait_are_used(database: Database, start_process: Any, enqueue: Any) -> None:
    lanes = LanesRepository(database)
    lanes.change("priority", slots=1)
    process = start_process()
    waiting = [process.follow(enqueue())[0] for _ in range(3)]
    wait_until(lambda: running(waiting) == 1, what="one slot is used")

    lanes.change("priority", slots=2)

    wait_until(lambda: running(waiting) == 2, what="the second slot is used")


def test_the_executor_ends_with_the_last_job_and_starts_with_the_next(start_process: Any, enqueue: Any) -> None:
    process = start_process()
    for _ in range(2):
        turn, end = process.follow(enqueue())
        turn.may_end.set()
        assert end.result(60) is not None
        wait_until(lambda: not process.is_serving(), what="the executor has ended")


def test_a_thread_that_cannot_be_started_costs_the_job_nothing(
    runtime: Runtime, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [RuntimeError("can't start new thread")]
    faults = [DatabaseBusy("not now")]
    start, hand_back = threading.Thread.start, JobsRepository.hand_back

    def start_or_fail(thread: threading.Thread) -> None:
        if errors and thread.name.startswith("photojobs-job-"):
            raise errors.pop()
        start(thread)

    def hand_back_or_fail(*arguments: Any, **named: Any) -> Any:
        if faults:
            raise faults.pop()
        return hand_back(*arguments, **named)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    monkeypatch.setattr(JobsRepository, "hand_back", hand_back_or_fail)
    job = JobsRepository(runtime.database).enqueue(tenant_id="t", type="count", scope="global")

    ended = runtime.followed.follow(job.id, FollowedRun(runtime)).result(60)

    assert ended is not None
    assert (ended.status, ended.attempts, errors, faults) == ("completed", 0, [], [])
    assert stage.started == [("count", job.id)]


def test_looking_costs_the_same_however_many_wait(database: Database, start_process: Any, enqueue: Any) -> None:
    LanesRepository(database).change("priority", slots=1)
    assert JobsRepository(database).claim_next("another", lane="priority") if enqueue() else None
    process = start_process(poll_seconds=0.01, concurrency=12)
    looks: Counter[str] = Counter()
    event.listen(database.engine, "before_cursor_execute", lambda *_: looks.update(["statement"]))

    def statements_for_looks(number: int) -> int:
        """Return the number of statements for this many checks of the followed jobs."""
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
    waiting = [process.follow(enqueue())[1]]
    wait_until(lambda: len(process.followed.next_in_line()) == 1, what="one waits")
    for_one = statements_for_looks(5)

    waiting += [process.follow(enqueue())[1] for _ in range(11)]
    wait_until(lambda: len(process.followed.next_in_line()) == 12, what="twelve wait")
    for_twelve = statements_for_looks(5)
    process.followed.close()

    assert [end.result(60).status for end in waiting] == 12 * ["queued"]
    assert for_twelve <= 2 * for_one


def test_the_states_of_jobs_that_were_just_read_are_read_later(
    start_process: Any, enqueue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[str]()
    job_states, look = heartbeats.job_states, FollowedJobs.seconds_to_wait

    def read_states(database: Database, job_ids: Any) -> Any:
        calls.append("read")
        return job_states(database, job_ids)

    def look_once(followed: FollowedJobs, *, has_room: bool) -> float:
        seconds = look(followed, has_room=has_room)
        calls.append("look")
        return seconds

    monkeypatch.setattr(heartbeats, "job_states", read_states)
    monkeypatch.setattr(FollowedJobs, "seconds_to_wait", look_once)
    process, first, second = start_process(poll_seconds=3600.0), enqueue(), enqueue(priority=50)
    process.followed.announce([first, second])
    process.follow(first)
    process.follow(second)
    wait_until(lambda: calls, what="the executor has looked")

    assert calls[0] == "look"
    process.followed.look_now()
    wait_until(lambda: "read" in calls, what="the states were read")
