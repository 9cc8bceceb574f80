"""The worker runs the right jobs in the right order, and leaves nothing behind after an error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from flows.api.start import start_task
from flows.errors import PermanentStepError
from flows.execution.worker import Worker, drain_queue
from flows.process.runtime import Runtime
from flows.testing import run_queued_job
from storage import JobsRepository, LanesRepository, TasksRepository
from storage.database.tables import jobs as job_table
from storage.errors import CorruptPayload, InvalidValue
from storage.library.errors import UnsafePath
from storage.records import Job
from task_definitions.errors import InvalidDefinition
from tests.flows.conftest import add_photos, items_of


@pytest.fixture
def photo_ids(runtime: Runtime) -> list[int]:
    return add_photos(runtime.database, "abcde")


def test_a_worker_carries_a_task_through_all_its_steps(
    runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    definition = define("two", {"type": "note", "priority": 95, "chunk_size": 2}, {"type": "count", "priority": 50})

    started = start_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids])
    summary = drain_queue(runtime=runtime)

    assert summary.ended == {"completed": 4}
    task = TasksRepository(runtime.database).get(started.task_id)
    assert task.status == "completed"
    assert task.started_at is not None
    assert sorted(stage.items) == photo_ids
    assert [kind for kind, _ in stage.started] == ["note", "note", "note", "count"]


def test_with_one_slot_jobs_start_in_rank_order(runtime: Runtime, stage: Any) -> None:
    lanes = LanesRepository(runtime.database)
    lanes.change("priority", slots=1)
    jobs = JobsRepository(runtime.database)
    low = jobs.enqueue(tenant_id="user_0", type="count", priority=90)
    high = jobs.enqueue(tenant_id="user_0", type="count", priority=100)
    middle = jobs.enqueue(tenant_id="user_0", type="count", priority=95)

    drain_queue(runtime=runtime)

    assert [job_id for _, job_id in stage.started] == [high.id, middle.id, low.id]


def test_rows_that_another_program_inserted_by_plain_sql_are_worked_off(runtime: Runtime, stage: Any) -> None:
    with runtime.database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (tenant_id, type, status, created_at, priority, scope, attempts)"
            " VALUES ('user_0', 'count', 'queued', '2025-10-01T12:00:00.000Z', 10, 'global', 0)"
        )

    assert drain_queue(runtime=runtime).ended == {"completed": 1}


def test_a_failing_job_is_repeated_until_it_succeeds(runtime: Runtime, stage: Any) -> None:
    stage.failures["user_0"] = 2
    job = JobsRepository(runtime.database).enqueue(tenant_id="user_0", type="stumble", scope="global", max_attempts=3)

    first = run_queued_job(runtime, job.id)
    assert (first.status, first.attempts, first.error_message) == ("queued", 1, "OSError: stumbled")
    assert run_queued_job(runtime, job.id).status == "queued"
    assert run_queued_job(runtime, job.id).status == "completed"


def test_a_job_fails_with_its_reason_at_its_last_attempt(runtime: Runtime, stage: Any) -> None:
    stage.failures["user_0"] = 9
    job = JobsRepository(runtime.database).enqueue(tenant_id="user_0", type="stumble", scope="global", max_attempts=1)

    ended = run_queued_job(runtime, job.id)

    assert (ended.status, ended.error_message) == ("failed", "OSError: stumbled")


@pytest.mark.parametrize(
    "error",
    [
        PermanentStepError("refused"),
        UnsafePath("out of the library"),
        CorruptPayload("no object"),
        InvalidDefinition("no steps"),
        InvalidValue("photos", "too large"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_job_is_not_repeated_after_an_error_that_a_repetition_cannot_avoid(
    runtime: Runtime, stage: Any, error: Exception
) -> None:
    stage.error = error
    job = JobsRepository(runtime.database).enqueue(tenant_id="user_0", type="reraise", scope="global", max_attempts=3)

    ended = run_queued_job(runtime, job.id)

    assert ended.status == "failed"


def test_an_unknown_type_fails_at_once_and_says_so(runtime: Runtime, stage: Any) -> None:
    job = JobsRepository(runtime.database).enqueue(tenant_id="user_0", type="no_such_type", max_attempts=5)

    ended = run_queued_job(runtime, job.id)

    assert ended.status == "failed"
    assert ended.error_message is not None
    assert '"no_such_type" is not a step type' in ended.error_message


def test_a_payload_that_is_no_json_object_fails_its_job_and_holds_up_nothing(runtime: Runtime, stage: Any) -> None:
    with runtime.database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (tenant_id, type, status, created_at, priority, scope, attempts, payload_json)"
            " VALUES ('user_0', 'count', 'queued', 'yesterday', 99, 'global', 0, '{broken')"
        )
    JobsRepository(runtime.database).enqueue(tenant_id="user_0", type="count", scope="global")

    assert drain_queue(runtime=runtime).ended == {"failed": 1, "completed": 1}


def test_failed_items_are_recorded_with_reasons_and_the_rest_goes_on(runtime: Runtime, stage: Any) -> None:
    ids = add_photos(runtime.database, ("good", "bad", "fine"))
    jobs = JobsRepository(runtime.database)
    job = jobs.enqueue_with_items(tenant_id="user_0", type="note", items=items_of(*ids))
    assert not isinstance(job, list)

    ended = run_queued_job(runtime, job.id)

    assert ended.status == "failed"
    assert ended.error_message == "1 of 3 photos failed: bad: is bad"
    items = jobs.list_items(job.id)
    assert [(item.status, item.message) for item in items] == [("done", None), ("failed", "is bad"), ("done", None)]
    assert items[1].error_type == "PermanentStepError"
    assert ended.progress_done == 3


def test_a_repeated_job_redoes_only_what_did_not_succeed(runtime: Runtime, stage: Any, photo_ids: list[int]) -> None:
    jobs = JobsRepository(runtime.database)
    job = jobs.enqueue_with_items(tenant_id="user_0", type="note", items=[{"photo_id": id_} for id_ in photo_ids])
    assert not isinstance(job, list)
    done = jobs.list_items(job.id)[0]
    jobs.update_item_status(done.id, status="done")

    run_queued_job(runtime, job.id)

    assert sorted(stage.items) == photo_ids[1:]


def _at_gate(runtime: Runtime, stage: Any, work: Callable[[Worker], object]) -> tuple[Job, Worker, threading.Thread]:
    """Let a worker work in a thread; return its job, which waits at the gate, the worker and the thread."""
    job = JobsRepository(runtime.database).enqueue(tenant_id="user_0", type="wait_at_gate", scope="global")
    worker = Worker(runtime)
    thread = threading.Thread(target=work, args=(worker,))
    entered = stage.entered.setdefault("gate", threading.Event())
    thread.start()
    assert entered.wait(60)
    return job, worker, thread


def test_a_canceled_job_stops_at_its_next_checkpoint_and_stays_canceled(runtime: Runtime, stage: Any) -> None:
    jobs = JobsRepository(runtime.database)
    job, _, thread = _at_gate(runtime, stage, Worker.drain)

    jobs.cancel(job.id)
    thread.join(60)

    assert not thread.is_alive()
    ended = jobs.get_by_id(job.id)
    assert ended is not None
    assert (ended.status, ended.result) == ("canceled", {})


def test_stopping_hands_running_jobs_back_without_costing_an_attempt(runtime: Runtime, stage: Any) -> None:
    job, worker, thread = _at_gate(runtime, stage, Worker.run)

    worker.stop_now()
    thread.join(60)

    handed_back = JobsRepository(runtime.database).get_by_id(job.id)
    assert handed_back is not None
    assert (handed_back.status, handed_back.attempts, handed_back.worker_id) == ("queued", 0, None)


def test_a_handler_that_takes_longer_than_its_timeout_is_stopped(runtime: Runtime, stage: Any, define: Any) -> None:
    definition = define(
        "slow", {"type": "wait_at_gate", "priority": 50, "timeout_seconds": 0.1, "max_attempts": 1}, scope="global"
    )
    started = start_task(type=definition, tenant_id="user_0")

    drain_queue(runtime=runtime)

    task = TasksRepository(runtime.database).get(started.task_id)
    job = TasksRepository(runtime.database).list_jobs(started.task_id)[0]
    assert task.status == "failed"
    assert job.error_message == (
        "timed out: the job ran for longer than the timeout_seconds of its step (0.1 s); raise this limit for slow work"
    )


def test_follow_up_work_asked_for_twice_is_done_once_at_the_end(
    runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    definition = define(
        "more", {"type": "ask_for_more", "priority": 95, "chunk_size": 2}, {"type": "count", "priority": 50}
    )
    started = start_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids])

    drain_queue(runtime=runtime)

    rows = TasksRepository(runtime.database).list_jobs(started.task_id)
    assert [(job.type, job.status) for job in rows] == [
        *[("ask_for_more", "completed")] * 3,
        ("count", "completed"),
        ("note", "completed"),
    ]
    assert sorted(stage.items) == photo_ids
    assert [kind for kind, _ in stage.started] == ["count", "note"]


def test_a_dead_executors_job_is_rescued_and_done(runtime: Runtime, stage: Any) -> None:
    jobs = JobsRepository(runtime.database)
    job = jobs.enqueue(tenant_id="user_0", type="count", scope="global")
    claimed = jobs.claim_next("dead-worker")
    assert claimed is not None
    long_ago = runtime.database.clock() - timedelta(hours=1)
    with runtime.database.begin() as connection:
        connection.execute(job_table.update().where(job_table.c.id == job.id).values(heartbeat_at=long_ago))

    drain_queue(runtime=runtime)

    ended = jobs.get_by_id(job.id)
    assert ended is not None
    assert (ended.status, ended.attempts) == ("completed", 1)
    assert jobs.complete(job.id, claim_token=claimed.claim_token) is None


def test_a_tenant_is_served_alone_when_asked_for(runtime: Runtime, stage: Any) -> None:
    jobs = JobsRepository(runtime.database)
    mine = jobs.enqueue(tenant_id="mine", type="count", scope="global")
    other = jobs.enqueue(tenant_id="other", type="count", scope="global")

    drain_queue(runtime=runtime, tenant_id="mine")

    statuses: dict[int, Any] = {
        job.id: job.status for job in jobs.list_by_tenant("mine") + jobs.list_by_tenant("other")
    }
    assert statuses == {mine.id: "completed", other.id: "queued"}
