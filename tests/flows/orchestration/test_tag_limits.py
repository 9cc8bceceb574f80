"""Prefect's limits of tags: read ahead of the task runs, and obeyed where there are some."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx
import pytest
from prefect.client.orchestration import PrefectClient

from flows import run_task
from flows.orchestration import tag_limits
from flows.orchestration.tag_limits import TagLimits
from flows.process.runtime import Runtime
from storage import PhotosRepository, ProjectsRepository
from tests.prefect_api import PrefectApi

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("prefect")]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the limits that task runs asked Prefect's server for a slot of."""
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
    project = ProjectsRepository(runtime.database).create(project_name="Alps", project_folder="alps")
    names = [{"project_id": project.id, "filename": name} for name in "abc"]
    return [{"photo_id": photo_id} for photo_id in PhotosRepository(runtime.database).create_many(names)]


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


def test_a_server_that_is_away_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_: Any) -> NoReturn:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(tag_limits, "impatient_client", away)
    monkeypatch.setattr(tag_limits, "AHEAD_SECONDS", threading.TIMEOUT_MAX)

    with TagLimits() as limits:
        limits.ask_ahead([{"priority:95"}])
        limits.ask_ahead([{"priority:50"}, {"priority:95"}])

    assert frozenset({"tag:priority:95"}) not in (limits._unlimited or {})
