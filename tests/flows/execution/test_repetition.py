"""After a failure, only the failed work runs again, after the right delay."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.api.start import start_task
from flows.execution.worker import Worker, drain_queue
from flows.process.retry_delay import JITTER, backoff_seconds
from flows.process.runtime import Runtime
from storage import JobsRepository, TasksRepository
from storage.database.tables import photos
from tests.flows.conftest import add_photos, items_of
from tests.waiting import wait_until


@given(
    failures=st.integers(1, 10_000),
    first=st.floats(0, 3600),
    longest=st.floats(0, 604_800),
    jitter=st.floats(1 - JITTER, 1 + JITTER),
)
def test_the_wait_doubles_up_to_a_limit_and_is_spread(
    failures: int, first: float, longest: float, jitter: float
) -> None:
    with patch("random.uniform", return_value=jitter) as uniform:
        wait = backoff_seconds(failures, first_seconds=first, longest_seconds=longest)
        later = backoff_seconds(failures + 1, first_seconds=first, longest_seconds=longest)
        shortest = backoff_seconds(1, first_seconds=first, longest_seconds=longest)

    uniform.assert_called_with(1 - JITTER, 1 + JITTER)
    assert wait <= later <= longest * (1 + JITTER)
    assert later in (pytest.approx(2 * wait), pytest.approx(longest * jitter))
    assert shortest == min(first, longest) * jitter


def test_others_run_while_a_failed_job_waits_for_its_next_attempt(runtime: Runtime, stage: Any) -> None:
    stage.failures["unlucky"] = 1
    jobs = JobsRepository(runtime.database)
    unlucky = jobs.enqueue(tenant_id="unlucky", type="stumble", scope="global", priority=99)
    others = [jobs.enqueue(tenant_id="t", type="count", scope="global", priority=50) for _ in range(3)]
    # The delay is longer than the test, so the test moves the moment of the retry forward.
    settings = runtime.settings.model_copy(update={"retry_delay_seconds": 3600.0, "concurrency": 1})
    with Runtime(runtime.database, settings=settings) as patient:
        worker = Worker(patient)
        thread = threading.Thread(target=worker.run)
        thread.start()
        wait_until(lambda: len(stage.started) == 4, what="the others have run")

        waiting = jobs.get_by_id(unlucky.id)
        assert waiting is not None
        assert waiting.run_after is not None
        assert waiting.run_after > runtime.database.clock() + timedelta(minutes=40)
        with runtime.database.begin() as connection:
            connection.exec_driver_sql("UPDATE jobs SET run_after = NULL")
        wait_until(lambda: len(stage.started) == 5, what="the unlucky one is run again")
        worker.stop()
        thread.join(30)

    assert [job_id for _, job_id in stage.started] == [unlucky.id, *(job.id for job in others), unlucky.id]


def test_a_step_whose_failure_stops_its_task_starts_no_later_one(runtime: Runtime, stage: Any, define: Any) -> None:
    stage.failures["user_0"] = 1
    definition = define(
        "stops",
        {"type": "stumble", "priority": 95, "max_attempts": 1},
        {"type": "count", "priority": 50},
        scope="global",
    )
    started = start_task(type=definition, tenant_id="user_0")

    drain_queue(runtime=runtime)

    tasks = TasksRepository(runtime.database)
    assert tasks.get(started.task_id).status == "failed"
    assert [(job.type, job.status) for job in tasks.list_jobs(started.task_id)] == [("stumble", "failed")]


def test_a_step_whose_failure_does_not_matter_lets_its_task_go_on_and_fail_at_the_end(
    runtime: Runtime, stage: Any, define: Any
) -> None:
    stage.failures["user_0"] = 1
    definition = define(
        "goes_on",
        {"type": "stumble", "priority": 95, "max_attempts": 1, "on_failure": "continue"},
        {"type": "count", "priority": 50},
        scope="global",
    )
    started = start_task(type=definition, tenant_id="user_0")

    drain_queue(runtime=runtime)

    tasks = TasksRepository(runtime.database)
    assert tasks.get(started.task_id).status == "failed"
    assert [(job.type, job.status) for job in tasks.list_jobs(started.task_id)] == [
        ("stumble", "failed"),
        ("count", "completed"),
    ]


@pytest.fixture
def failed_task(runtime: Runtime, stage: Any, define: Any) -> str:
    """Return the id of a task of two steps: an item of the first step failed, and its cause has been repaired since."""
    ids = add_photos(runtime.database, ("a", "b", "c", "bad"))
    definition = define(
        "repaired", {"type": "note", "priority": 95, "chunk_size": 2}, {"type": "count", "priority": 50}
    )
    started = start_task(type=definition, tenant_id="user_0", items=items_of(*ids))
    drain_queue(runtime=runtime)
    assert TasksRepository(runtime.database).get(started.task_id).status == "failed"
    with runtime.database.begin() as connection:
        connection.execute(photos.update().where(photos.c.filename == "bad").values(filename="good"))
    stage.started.clear()
    stage.items.clear()
    return started.task_id


def test_a_retry_redoes_only_what_failed_and_goes_on_from_there(runtime: Runtime, stage: Any, failed_task: str) -> None:
    tasks = TasksRepository(runtime.database)
    before = {job.id: job.finished_at for job in tasks.list_jobs(failed_task) if job.status == "completed"}

    tasks.retry(failed_task)
    drain_queue(runtime=runtime)

    assert tasks.get(failed_task).status == "completed"
    assert [kind for kind, _ in stage.started] == ["note", "count"]
    assert len(stage.items) == 1
    after = {job.id: job.finished_at for job in tasks.list_jobs(failed_task)}
    assert before.items() <= after.items()


def test_a_retry_from_a_step_runs_that_step_and_all_later_ones_anew(
    runtime: Runtime, stage: Any, failed_task: str
) -> None:
    tasks = TasksRepository(runtime.database)

    tasks.retry(failed_task, from_step=0)
    drain_queue(runtime=runtime)

    assert tasks.get(failed_task).status == "completed"
    assert [kind for kind, _ in stage.started] == ["note", "note", "count"]
    assert len(stage.items) == 4


def test_a_retry_goes_through_later_steps_that_have_run_and_runs_none_of_them_again(
    runtime: Runtime, stage: Any, define: Any
) -> None:
    stage.failures["user_0"] = 1
    definition = define(
        "repaired_late",
        {"type": "stumble", "priority": 95, "max_attempts": 1, "on_failure": "continue"},
        {"type": "count", "priority": 50},
        scope="global",
    )
    started = start_task(type=definition, tenant_id="user_0")
    drain_queue(runtime=runtime)

    tasks = TasksRepository(runtime.database)
    tasks.retry(started.task_id)
    drain_queue(runtime=runtime)

    assert tasks.get(started.task_id).status == "completed"
    assert [kind for kind, _ in stage.started] == ["stumble", "count", "stumble"]


def test_a_lane_is_drained_alone_and_in_rank_order(runtime: Runtime, stage: Any) -> None:
    jobs = JobsRepository(runtime.database)
    settings = runtime.settings.model_copy(update={"concurrency": 1})
    ranks = [91, 99, 95, 20, 89, 100]
    queued = {rank: jobs.enqueue(tenant_id="t", type="count", scope="global", priority=rank).id for rank in ranks}

    with Runtime(runtime.database, settings=settings) as one_at_a_time:
        drain_queue(lane="priority", runtime=one_at_a_time)
        assert [job_id for _, job_id in stage.started] == [queued[rank] for rank in (100, 99, 95, 91)]
        stage.started.clear()

        drain_queue(lane="normal", runtime=one_at_a_time)
        assert [job_id for _, job_id in stage.started] == [queued[89], queued[20]]
