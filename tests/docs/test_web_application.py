"""The answers of `examples/web_application.py`. `tests/deployments/serving/test_up.py` runs its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.web_application import app
from flows import Runtime
from storage import ProjectsRepository, TasksRepository
from storage.errors import DatabaseUnavailable
from storage.library.errors import UnsafePath
from task_definitions import PhotojobsError
from tests.docs.world import World, make_photographs, running

PROJECT = {"name": "Alps", "folder": "alps"}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    world = World(tmp_path)
    make_photographs(world)
    with running(world.home) as opened, opened.as_current():
        yield opened


@pytest.fixture
def ask(runtime: Runtime) -> Callable[..., httpx.Response]:
    """Send a request to the application, as the user of a tenant."""

    async def sent(method: str, path: str, *, tenant: str, **request: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return await client.request(method, path, headers={"X-Tenant": tenant}, **request)

    def ask(method: str, path: str, *, tenant: str = "user_0", **request: Any) -> httpx.Response:
        return asyncio.run(sent(method, path, tenant=tenant, **request))

    return ask


def test_a_project_and_its_task_are_written_together_or_not_at_all(
    ask: Callable[..., httpx.Response], runtime: Runtime
) -> None:
    added = ask("POST", "/projects", json=PROJECT)

    assert added.status_code == 202
    task = TasksRepository(runtime.database).get(added.json()["task_id"])
    assert task.project_id == added.json()["project_id"]
    assert ask("GET", f"/tasks/{task.id}").json()["status"] == "queued"


def test_without_its_task_no_project_is_written(
    ask: Callable[..., httpx.Response], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: Any) -> None:
        raise PhotojobsError("no task today")

    monkeypatch.setattr("examples.web_application.start_task", refused)

    assert ask("POST", "/projects", json=PROJECT).status_code == 500
    assert ProjectsRepository(runtime.database).list() == []


def test_clients_read_a_sentence_for_each_mistake(ask: Callable[..., httpx.Response]) -> None:
    added = ask("POST", "/projects", json=PROJECT).json()
    answers = [
        ask("POST", "/projects", json=PROJECT),
        ask("POST", "/projects", json=PROJECT | {"folder": "../alps"}),
        ask("POST", f"/projects/{added['project_id']}/upkeep", tenant="other"),
        ask("GET", f"/tasks/{added['task_id']}", tenant="other"),
        ask("POST", f"/tasks/{added['task_id']}/retry"),
    ]

    assert [(answer.status_code, answer.json()["detail"]) for answer in answers] == [
        (409, "The same project or task exists already."),
        (422, "A value of the request is not allowed."),
        (404, "There is no such project."),
        (404, "There is no such task."),
        (409, "The task is in a state that does not allow this."),
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DatabaseUnavailable("/srv/photos/photojobs.db cannot be opened"), 503),
        (UnsafePath("/srv/photos/library/user_0/alps is a symbolic link"), 500),
    ],
)
def test_no_answer_names_a_path_of_the_server(
    ask: Callable[..., httpx.Response],
    error: PhotojobsError,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failed(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("examples.web_application.atask_status", failed)
    answer = ask("GET", "/tasks/1")

    assert answer.status_code == status
    assert "/srv" not in answer.text
    assert str(error) in caplog.text
