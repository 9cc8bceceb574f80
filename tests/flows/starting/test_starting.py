"""A task is started in a transaction of the caller; its flow run is requested only after the commit."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Cancelling, Scheduled

from flows.api.start import start_task
from flows.orchestration.compiler import compile_task
from flows.orchestration.task_flow import cancel_with_flow_run
from flows.process.runtime import Runtime
from flows.starting import outbox, prefect_requests
from storage import Task, TasksRepository
from storage.errors import DatabaseBusy, DatabaseUnavailable, DiskFull, InvalidValue


@pytest.fixture
def asked(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The requested flow runs, each with whether its task was committed at that moment."""
    requests: list[tuple[str, bool]] = []

    def request(task: Task) -> str:
        requests.append((task.id, TasksRepository(runtime.database).get_by_id(task.id) is not None))
        return "a-flow-run"

    monkeypatch.setattr(outbox, "request_flow_run", request)
    return requests


def wait_for_askers() -> None:
    for thread in threading.enumerate():
        if thread.name == "photojobs-ask-prefect":
            thread.join(30)


def test_prefect_is_asked_for_a_task_that_has_been_committed(
    runtime: Runtime, stage: Any, define: Any, asked: list[tuple[str, bool]]
) -> None:
    definition = define("joined", {"type": "count", "priority": 50}, scope="global")
    with runtime.database.begin() as connection:
        started = start_task(type=definition, tenant_id="user_0", connection=connection)
        assert asked == []

    wait_for_askers()
    assert asked == [(started.task_id, True)]
    assert TasksRepository(runtime.database).get(started.task_id).flow_run_id == "a-flow-run"


def test_prefect_is_not_asked_for_a_task_that_was_rolled_back(
    runtime: Runtime, stage: Any, define: Any, asked: list[tuple[str, bool]]
) -> None:
    definition = define("joined", {"type": "count", "priority": 50}, scope="global")
    with runtime.database.engine.connect() as connection:
        start_task(type=definition, tenant_id="user_0", connection=connection)
        connection.rollback()

    wait_for_askers()
    assert asked == []


def test_a_program_that_ends_after_its_commit_gets_no_traceback(
    runtime: Runtime, stage: Any, define: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def import_during_shutdown(_: Task) -> str:
        raise RuntimeError("can't register atexit after shutdown")

    monkeypatch.setattr(outbox, "request_flow_run", import_during_shutdown)
    definition = define("joined", {"type": "count", "priority": 50}, scope="global")
    with runtime.database.begin() as connection:
        start_task(type=definition, tenant_id="user_0", connection=connection)

    # An error that leaves the thread fails the test.
    wait_for_askers()
    assert "`photojobs up` or a worker runs the task" in caplog.text


def test_a_second_start_of_a_task_that_has_ended_asks_for_no_other_flow_run(
    runtime: Runtime, stage: Any, define: Any, asked: list[tuple[str, bool]]
) -> None:
    definition = define("once", {"type": "count", "priority": 50}, scope="global")
    started = start_task(type=definition, tenant_id="user_0", task_id="once")
    TasksRepository(runtime.database).cancel("once")
    assert start_task(type=definition, tenant_id="user_0", task_id="once") == started
    assert asked == [("once", True)]


@pytest.mark.parametrize("fault", [DatabaseBusy, DatabaseUnavailable, DiskFull])
def test_a_task_that_is_written_is_started_even_if_its_flow_run_cannot_be_noted(
    runtime: Runtime, stage: Any, define: Any, asked: Any, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    def fail(*_: Any) -> None:
        raise fault("not now")

    monkeypatch.setattr(TasksRepository, "link_flow_run", fail)
    definition = define("noted", {"type": "count", "priority": 50}, scope="global")

    started = start_task(type=definition, tenant_id="user_0")

    assert started.flow_run_id == "a-flow-run"
    assert TasksRepository(runtime.database).get(started.task_id).flow_run_id is None


@pytest.mark.parametrize(("url", "has_server"), [("", False), ("http://prefect:4200/api", True)])
def test_an_empty_url_names_no_server(monkeypatch: pytest.MonkeyPatch, url: str, has_server: bool) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    # Otherwise, Prefect's client would start a server for each request.
    assert prefect_requests.has_server() is has_server


@pytest.mark.parametrize(
    ("scope", "advice"), [("global", 'start a definition of scope "photo_set"'), (None, 'give scope "photo_set"')]
)
def test_the_advice_about_photos_of_another_scope_can_be_followed(
    runtime: Runtime, stage: Any, define: Any, scope: str | None, advice: str
) -> None:
    definition = define("one", {"type": "count"}, scope=scope)
    with pytest.raises(InvalidValue, match=f"leave this out, or {advice}"):
        start_task(type=definition, tenant_id="user_0", project_id=None if scope else 1, items=[{"photo_id": 1}])


@pytest.mark.parametrize("payload", [["force"], "force"])
def test_a_payload_that_is_no_object_is_refused_by_name(
    runtime: Runtime, stage: Any, define: Any, payload: Any
) -> None:
    with pytest.raises(InvalidValue, match="payload"):
        start_task(type=define("one", {"type": "count"}, scope="global"), tenant_id="user_0", payload=payload)


def test_a_retry_while_the_canceled_flow_run_still_ends_gets_a_flow_run_of_its_own(
    runtime: Runtime, stage: Any, define: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Any] = []

    class Client:
        def read_deployment_by_name(self, path: str) -> Any:
            return SimpleNamespace(id="deployment", tags=[])

        def create_flow_run_from_deployment(self, deployment_id: str, **options: Any) -> Any:
            state: Any = Scheduled() if runs else Cancelling()
            run = {"id": f"run-{len(runs)}", "deployment_id": deployment_id, "state": state}
            runs.append(SimpleNamespace(**run, parameters=options["parameters"]))
            return runs[-1]

    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    monkeypatch.setattr(prefect_requests, "impatient_client", lambda **_: nullcontext(Client()))
    definition = define("retried", {"type": "count", "priority": 50}, scope="global")
    task_id = start_task(type=definition, tenant_id="user_0").task_id
    tasks = TasksRepository(runtime.database)
    assert tasks.get(task_id).flow_run_id == "run-1"

    for run, status in ((runs[0], "queued"), (runs[1], "canceled")):
        cancel_with_flow_run(compile_task(definition), run, Cancelling())
        assert tasks.get(task_id).status == status
