"""Our events reach Prefect's server, in batches and in order, also where it is away for a while."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.exceptions import ObjectNotFound

from flows.orchestration import prefect_events
from flows.orchestration.prefect_events import PrefectEvents
from flows.telemetry.events import Event
from tests.prefect_api import PrefectApi
from tests.waiting import wait_until


def event(name: str, *, subject: str = "photojobs.job.1", related: dict[str, str] | None = None) -> Event:
    return Event(name=name, subject=subject, label="note", related=related or {"tenant": "user_0"})


class Server:
    """Stands for Prefect's client: takes what it is sent, but for what it is told to raise first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.batches: list[list[str]] = []

    @contextmanager
    def client(self, **_: Any) -> Iterator[Server]:
        yield self

    def request(self, method: str, path: str, *, content: bytes, **_: Any) -> None:
        assert (method, path) == ("POST", "/events")
        if self.errors:
            raise self.errors.pop(0)
        self.batches.append([one["event"] for one in json.loads(content)])

    @property
    def taken(self) -> list[str]:
        return [name for batch in self.batches for name in batch]


def with_status(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://server/api/events")
    return httpx.HTTPStatusError(str(status), request=request, response=httpx.Response(status, request=request))


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    def connect(*errors: Exception) -> Server:
        server = Server(*errors)
        monkeypatch.setattr(prefect_events, "impatient_client", server.client)
        return server

    return connect


@pytest.mark.parametrize("error", [httpx.ConnectError("away"), httpx.ReadTimeout("slow"), with_status(503)])
def test_a_server_that_is_away_for_a_while_is_told_everything_afterwards(connect: Any, error: Exception) -> None:
    server, events = connect(error, error), PrefectEvents()

    for number in range(3):
        events.emit(event(f"photojobs.job.{number}"))

    wait_until(lambda: len(server.taken) == 3, what="the server has taken them")
    assert server.taken == [f"photojobs.job.{number}" for number in range(3)]
    assert events.flush(10)


def test_events_that_come_together_are_sent_together(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_events, "GATHER_SECONDS", 3600.0)
    monkeypatch.setattr(prefect_events, "BATCH_SIZE", 4)
    server, events = connect(), PrefectEvents()

    for number in range(10):
        events.emit(event(str(number)))

    assert events.flush(10)
    assert server.batches == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"]]


def test_an_event_that_the_server_refuses_costs_no_other_one(
    connect: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prefect_events, "GATHER_SECONDS", 3600.0)
    # The batch, and then the first of it by itself.
    server, events = connect(with_status(422), with_status(422)), PrefectEvents()

    for name in ("bad", "good", "better"):
        events.emit(event(name))

    assert events.flush(10)
    assert server.batches == [["good"], ["better"]]
    assert "does not take the event bad" in caplog.text


def test_what_no_repetition_helps_against_keeps_nobody_waiting(connect: Any, caplog: pytest.LogCaptureFixture) -> None:
    server, events = connect(RuntimeError("broken")), PrefectEvents()
    events.emit(event("lost"))
    assert events.flush(10)
    events.emit(event("sent"))

    assert events.flush(10)
    assert server.taken == ["sent"]
    assert "1 events could not be told to Prefect: broken" in caplog.text


def test_an_event_whose_flow_run_is_gone_is_sent_all_the_same_with_the_others(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, events = connect(), PrefectEvents()
    gone = SimpleNamespace(id=uuid4(), tags=[], name="gone")

    async def resources_of() -> list[dict[str, str]]:
        raise ObjectNotFound(Exception("404"))

    monkeypatch.setattr(prefect_events, "_resources_of_flow_run", resources_of)
    events.emit(event("photojobs.job.first"))
    with monkeypatch.context() as within:
        within.setattr(prefect_events.FlowRunContext, "get", lambda: SimpleNamespace(flow_run=gone))
        events.emit(event("photojobs.job.gone"))
    events.emit(event("photojobs.job.last"))

    wait_until(lambda: len(server.taken) == 3, what="the server has taken them")


def test_a_client_that_cannot_even_be_made_is_not_asked_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[dict[str, Any]] = []

    def fail(**arguments: Any) -> Any:
        asked.append(arguments)
        raise ValueError("no such server")

    monkeypatch.setattr(prefect_events, "impatient_client", fail)
    events = PrefectEvents()
    events.emit(event("lost"))

    assert events.flush(10)
    assert len(asked) == 1
    assert "no such server" in caplog.text


def test_a_server_that_is_away_for_too_long_is_not_told_everything(
    connect: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prefect_events, "MOST_KEPT", 2)
    server, events = connect(*[httpx.ConnectError("away")] * 2), PrefectEvents()

    with caplog.at_level(logging.WARNING):
        for number in range(5):
            events.emit(event(str(number)))
        wait_until(lambda: server.taken, what="the server has taken what was kept")

        assert events.flush(10)
    assert server.taken == ["0", "1"]
    assert "3 events were not told to Prefect" in caplog.text


def test_a_file_name_that_is_no_text_is_told_as_far_as_it_is(connect: Any) -> None:
    server, events = connect(), PrefectEvents()

    events.emit(event("odd\udcff.jpg"))

    assert events.flush(10)
    assert server.taken == ["odd?.jpg"]


@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
def test_a_real_server_takes_what_is_right_and_refuses_what_is_not(prefect_api: str) -> None:
    events = PrefectEvents()
    subject = "photojobs.job.told-to-a-real-server"
    events.emit(event("photojobs.job.running", subject=subject))
    events.emit(event("photojobs.job.refused", subject=subject, related={"": "a resource needs a role"}))
    events.emit(event("photojobs.job.completed", subject=subject))

    assert events.flush(30)
    body = {"filter": {"any_resource": {"id": [subject]}}}
    with PrefectApi(prefect_api) as client:

        def found() -> list[str]:
            answer = client.post("/events/filter", json=body).raise_for_status().json()
            return sorted(one["event"] for one in answer["events"])

        wait_until(lambda: len(found()) == 2, what="the server has recorded them")
        assert found() == ["photojobs.job.completed", "photojobs.job.running"]
