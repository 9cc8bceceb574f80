"""Prefect's concurrency limits of tags are read before the task runs, and are respected."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import httpx
import pytest
from prefect.client.orchestration import PrefectClient

from flows import run_task, step
from flows.handlers.step_context import StepContext
from flows.orchestration import prefect_link, tag_limits
from flows.orchestration.prefect_link import PrefectLink
from flows.orchestration.tag_limits import TagLimits
from flows.process.runtime import Runtime
from storage import LanesRepository, TasksRepository
from tests.flows.conftest import add_photos, items_of
from tests.flows.conftest import stage as the_stage
from tests.prefect_api import PrefectApi
from tests.waiting import wait_until

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("prefect")]


@step("enter_first", unit="items", modifies_files=False)
def enter_first(ctx: StepContext) -> None:
    """The first chunk reports that it runs, and waits."""
    if ctx.job.chunk_index == 0:
        the_stage.entered["first"].set()
        while not the_stage.gates["g"].wait(0.01):
            ctx.checkpoint()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the limits for which task runs requested a slot from Prefect's server."""
    names: list[list[str]] = []
    original = PrefectClient.increment_concurrency_slots_with_lease

    async def ask(self: PrefectClient, **arguments: Any) -> httpx.Response:
        names.append(list(arguments["names"]))
        return await original(self, **arguments)

    monkeypatch.setattr(PrefectClient, "increment_concurrency_slots_with_lease", ask)
    return names


@contextmanager
def limit_of(name: str, *, api: str) -> Iterator[None]:
    with PrefectApi(api) as client:
        client.post("/v2/concurrency_limits/", json={"name": name, "limit": 1}).raise_for_status()
        try:
            yield
        finally:
            client.delete(f"/v2/concurrency_limits/{name}").raise_for_status()


@pytest.fixture
def items(runtime: Runtime) -> list[dict[str, Any]]:
    return items_of(*add_photos(runtime.database, "abc"))


def test_no_task_run_asks_for_a_slot_where_no_tag_has_a_limit(
    prefect_api: str, stage: Any, define: Any, items: list[dict[str, Any]], asked: list[list[str]]
) -> None:
    definition = define("free", {"type": "note", "priority": 95, "chunk_size": 1}, {"type": "count", "priority": 50})

    summary = run_task(type=definition, tenant_id="user_0", items=items)

    assert summary.task.status == "completed"
    assert len(stage.started) == 4
    assert asked == []


def test_a_limit_on_a_tag_is_obeyed(
    prefect_api: str, stage: Any, define: Any, items: list[dict[str, Any]], asked: list[list[str]]
) -> None:
    definition = define("limited", {"type": "note", "priority": 95, "chunk_size": 1}, {"type": "count", "priority": 50})

    with limit_of("tag:priority:95", api=prefect_api):
        summary = run_task(type=definition, tenant_id="user_0", items=items)

    assert summary.task.status == "completed"
    assert len(asked) >= 3
    assert all("tag:priority:95" in names for names in asked)


def test_a_limit_that_comes_while_jobs_wait_is_obeyed_by_these(
    prefect_api: str,
    runtime: Runtime,
    stage: Any,
    define: Any,
    items: list[dict[str, Any]],
    asked: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tag_limits, "LOOK_SECONDS", 0.05)
    LanesRepository(runtime.database).change("priority", slots=1)
    entered, gate = stage.entered.setdefault("first", threading.Event()), stage.gates.setdefault("g", threading.Event())
    looks: list[object] = []
    look = tag_limits._limited_names
    monkeypatch.setattr(tag_limits, "_limited_names", lambda client: (looks.append(found := look(client)), found)[1])

    def limit_and_go_on() -> None:
        assert entered.wait(60)
        with limit_of("tag:priority:95", api=prefect_api):
            wait_until(lambda: looks and looks[-1], what="the limit was seen")
            gate.set()
            wait_until(lambda: TasksRepository(runtime.database).list_newest()[0].is_final, what="all have run")

    with ThreadPoolExecutor(1) as pool:
        limiting = pool.submit(limit_and_go_on)
        definition = define("late", {"type": "enter_first", "priority": 95, "chunk_size": 1})
        summary = run_task(type=definition, tenant_id="user_0", items=items)
        limiting.result(60)

    assert summary.message == "3 jobs completed, 0 failed, 0 canceled"
    assert len(asked) >= 2
    with PrefectApi(prefect_api) as client:
        task_runs = client.ended_task_runs(summary.task.flow_run_id, 3)
        assert [run["state_name"] for run in task_runs.values()] == 3 * ["Completed"]


class _Away:
    """A client whose server does not answer."""

    def read_global_concurrency_limits(self, **_: int) -> NoReturn:
        raise httpx.ConnectError("refused")


def test_a_server_that_is_away_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_link, "impatient_client", lambda **_: nullcontext(_Away()))
    monkeypatch.setattr(tag_limits, "link", PrefectLink())
    monkeypatch.setattr(tag_limits, "ANSWER_SECONDS", threading.TIMEOUT_MAX)

    limits = TagLimits()
    try:
        assert not limits.apply_to({"priority:95"})
        assert not limits.apply_to({"priority:50"})
    finally:
        limits.close()
