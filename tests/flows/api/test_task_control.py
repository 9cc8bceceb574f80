"""Programs follow and control tasks; the results are the same on both databases, in sync and async code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

import flows
from flows.errors import MissingDask
from flows.process.runtime import Runtime
from flows.starting import outbox
from storage import Database, JobsRepository, Task, TasksRepository
from storage.errors import InvalidValue, TaskConflict, UnknownTask
from tests.flows.conftest import quick_settings


@pytest.fixture
def runtime(database: Database, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime on each kind of database."""
    with Runtime(database, settings=quick_settings(tmp_path)) as opened, opened.as_current():
        yield opened


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the tasks for which a flow run was requested from Prefect."""
    requests: list[str] = []

    def request(task: Task) -> str:
        requests.append(task.id)
        return f"flow-run-{len(requests)}"

    monkeypatch.setattr(outbox, "request_flow_run", request)
    return requests


@pytest.fixture
def task_id(runtime: Runtime, define: Callable[..., Any]) -> str:
    """The id of a started task with two steps."""
    definition = define("two", {"type": "count", "priority": 95}, {"type": "stumble", "priority": 50}, scope="global")
    return flows.start_task(type=definition, tenant_id="user_0").task_id


def fail_next(runtime: Runtime) -> None:
    jobs = JobsRepository(runtime.database)
    job = jobs.claim_next("worker")
    assert job is not None
    jobs.fail(job.id, "broke", claim_token=job.claim_token)


def test_status_counts_the_jobs_of_each_step(runtime: Runtime, task_id: str) -> None:
    summary = flows.task_status(task_id)

    assert (summary.task.status, summary.task.step_index) == ("queued", 0)
    assert [(step.type, step.jobs) for step in summary.steps] == [("count", {"queued": 1})]


def test_a_canceled_task_says_so_with_its_reason_and_is_canceled_once(runtime: Runtime, task_id: str) -> None:
    canceled = flows.cancel_task(task_id, reason="no longer needed")
    again = flows.cancel_task(task_id, reason="another reason")

    assert (canceled.task.status, canceled.task.error_message) == ("canceled", "no longer needed")
    assert canceled.jobs == {"canceled": 1}
    assert again == canceled


def test_a_retry_queues_what_failed_and_asks_prefect_for_another_flow_run(
    runtime: Runtime, task_id: str, asked: list[str]
) -> None:
    fail_next(runtime)
    assert flows.task_status(task_id).task.status == "failed"

    retried = flows.retry_task(task_id)

    assert (retried.task.status, retried.jobs) == ("queued", {"queued": 1})
    assert asked == [task_id, task_id]
    assert retried.task.flow_run_id == "flow-run-2"


@pytest.mark.parametrize("from_step", [0, "count"])
def test_a_retry_may_begin_at_a_step(runtime: Runtime, task_id: str, from_step: int | str) -> None:
    flows.cancel_task(task_id)

    assert flows.retry_task(task_id, from_step=from_step).task.step_index == 0


@pytest.mark.parametrize(
    ("from_step", "complaint"), [("cuont", 'Did you mean "count"'), (7, "from 0 to 1"), (-1, "from 0 to 1")]
)
def test_a_retry_from_a_step_that_is_none_changes_nothing(
    runtime: Runtime, task_id: str, from_step: int | str, complaint: str
) -> None:
    before = flows.cancel_task(task_id)

    with pytest.raises(TaskConflict, match=complaint):
        flows.retry_task(task_id, from_step=from_step)

    assert flows.task_status(task_id) == before


def test_a_task_that_runs_is_not_retried(runtime: Runtime, task_id: str) -> None:
    with pytest.raises(TaskConflict, match="cancel it or wait"):
        flows.retry_task(task_id)


@pytest.mark.parametrize("call", [flows.task_status, flows.cancel_task, flows.retry_task])
def test_another_tenants_task_is_as_unknown_as_one_that_does_not_exist(
    runtime: Runtime, task_id: str, call: Callable[..., Any]
) -> None:
    before = flows.task_status(task_id, tenant_id="user_0")

    with pytest.raises(UnknownTask, match=f"task {task_id} does not exist"):
        call(task_id, tenant_id="other")
    with pytest.raises(UnknownTask, match="task nowhere does not exist"):
        call("nowhere")

    assert flows.task_status(task_id) == before


def test_all_calls_join_the_callers_transaction(runtime: Runtime, task_id: str, asked: list[str]) -> None:
    def steer(connection: Connection) -> None:
        flows.cancel_task(task_id, connection=connection)
        flows.retry_task(task_id, connection=connection)
        flows.hold("task", task_id, reason="look first", connection=connection)
        assert flows.task_status(task_id, connection=connection).jobs == {"queued": 1}

    before = flows.task_status(task_id)
    with runtime.database.engine.connect() as connection:
        steer(connection)
        connection.rollback()

    assert flows.task_status(task_id) == before
    assert flows.release("task", task_id) is False
    assert asked == [task_id]


@pytest.mark.parametrize("kind", ["task", "tenant", "lane"])
def test_what_is_held_starts_nothing_until_it_is_released(runtime: Runtime, task_id: str, kind: str) -> None:
    jobs = JobsRepository(runtime.database)
    name = {"task": task_id, "tenant": "user_0", "lane": "priority"}[kind]

    assert flows.hold(kind, name, reason="maintenance of the disk").reason == "maintenance of the disk"
    assert jobs.claim_next("worker", lane="priority") is None
    assert flows.release(kind, name) is True
    assert flows.release(kind, name) is False
    assert jobs.claim_next("worker", lane="priority") is not None


def test_only_what_exists_is_held(runtime: Runtime) -> None:
    with pytest.raises(UnknownTask):
        flows.hold("task", "nowhere")
    with pytest.raises(InvalidValue, match="Allowed: task, tenant, lane"):
        flows.hold("project", "1")


def test_coroutines_await_the_same_calls_while_their_loop_goes_on(runtime: Runtime, define: Callable[..., Any]) -> None:
    definition = define("awaited", {"type": "count", "priority": 95}, scope="global")

    async def program() -> tuple[str, str, str, bool]:
        started = await flows.astart_task(type=definition, tenant_id="user_0")
        before, _ = await asyncio.gather(flows.atask_status(started.task_id), flows.ahold("tenant", "user_0"))
        was_held = await flows.arelease("tenant", "user_0")
        canceled = await flows.acancel_task(started.task_id)
        retried = await flows.aretry_task(started.task_id)
        return before.task.status, canceled.task.status, retried.task.status, was_held

    assert asyncio.run(program()) == ("queued", "canceled", "queued", True)


def test_the_plain_calls_work_inside_a_running_loop(runtime: Runtime, define: Callable[..., Any]) -> None:
    definition = define("in_loop", {"type": "count", "priority": 95}, scope="global")

    async def program() -> str:
        started = flows.start_task(type=definition, tenant_id="user_0")
        flows.cancel_task(started.task_id)
        flows.retry_task(started.task_id)
        return flows.task_status(started.task_id).task.status

    assert asyncio.run(program()) == "queued"


def test_a_retried_task_has_no_flow_run_until_prefect_gave_it_one(
    runtime: Runtime, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "request_flow_run", lambda task: None)
    assert flows.cancel_task(task_id).task.flow_run_id == "flow-run-1"

    flows.retry_task(task_id)

    assert TasksRepository(runtime.database).get(task_id).flow_run_id is None


def test_a_task_whose_flow_cannot_be_made_is_not_written(
    runtime: Runtime, define: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.settings = runtime.settings.model_copy(update={"task_runner": "dask"})
    monkeypatch.setattr("flows.orchestration.dask_cluster.find_spec", lambda name: None)

    with pytest.raises(MissingDask):
        flows.run_task(type=define("one", {"type": "count"}, scope="global"), tenant_id="user_0", task_id="one")

    assert TasksRepository(runtime.database).get_by_id("one") is None
