"""States, logs and events reach Prefect's server in batches and in order, also after an outage."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn
from uuid import uuid4

import httpx
import pytest
from prefect.exceptions import ObjectNotFound

from flows.orchestration import prefect_events, prefect_link
from flows.orchestration.prefect_events import emit_to_prefect
from flows.orchestration.prefect_link import PrefectLink
from flows.telemetry.events import Event
from tests.prefect_api import PrefectApi
from tests.waiting import wait_until


def event(name: str, *, subject: str = "photojobs.job.1", related: dict[str, str] | None = None) -> Event:
    return Event(name=name, subject=subject, label="note", related=related or {"tenant": "user_0"})


class Server:
    """A simulated client of Prefect: stores what it gets, after it has raised the given errors."""

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

    def read_flow(self, _id: object) -> NoReturn:
        raise ObjectNotFound(Exception("404"))

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
        monkeypatch.setattr(prefect_link, "impatient_client", server.client)
        return server

    return connect


@pytest.mark.parametrize("error", [httpx.ConnectError("away"), httpx.ReadTimeout("slow"), with_status(503)])
def test_a_server_that_is_away_for_a_while_is_told_everything_afterwards(connect: Any, error: Exception) -> None:
    server, events = connect(error, error), PrefectLink()

    for number in range(3):
        emit_to_prefect(event(f"photojobs.job.{number}"), by=events)

    wait_until(lambda: len(server.taken) == 3, what="the server has taken them")
    assert server.taken == [f"photojobs.job.{number}" for number in range(3)]
    assert events.flush(10)


def test_events_that_come_together_are_sent_together(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_link, "GATHER_SECONDS", 3600.0)
    monkeypatch.setattr(prefect_link, "BATCH_SIZE", 4)
    server, events = connect(), PrefectLink()

    for number in range(10):
        emit_to_prefect(event(str(number)), by=events)

    assert events.flush(10)
    assert server.batches == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"]]


def test_an_event_that_the_server_refuses_costs_no_other_one(
    connect: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prefect_link, "GATHER_SECONDS", 3600.0)
    # The whole batch is sent first, and then its first entry alone.
    server, events = connect(with_status(422), with_status(422)), PrefectLink()

    for name in ("bad", "good", "better"):
        emit_to_prefect(event(name), by=events)

    assert events.flush(10)
    assert server.batches == [["good"], ["better"]]
    assert "Prefect refused the event bad, which is dropped; no job is affected" in caplog.text


def test_what_no_repetition_helps_against_keeps_nobody_waiting(connect: Any, caplog: pytest.LogCaptureFixture) -> None:
    server, events = connect(RuntimeError("broken")), PrefectLink()
    emit_to_prefect(event("lost"), by=events)
    assert events.flush(10)
    emit_to_prefect(event("sent"), by=events)

    assert events.flush(10)
    assert server.taken == ["sent"]
    assert "1 event could not be sent to Prefect; no job is affected: broken" in caplog.text


def test_an_event_whose_flow_run_is_gone_is_sent_all_the_same_with_the_others(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, events = connect(), PrefectLink()
    gone = SimpleNamespace(id=uuid4(), flow_id=uuid4(), tags=[], name="gone")
    emit_to_prefect(event("photojobs.job.first"), by=events)
    with monkeypatch.context() as within:
        within.setattr(prefect_events.FlowRunContext, "get", lambda: SimpleNamespace(flow_run=gone))
        emit_to_prefect(event("photojobs.job.gone"), by=events)
    emit_to_prefect(event("photojobs.job.last"), by=events)

    wait_until(lambda: len(server.taken) == 3, what="the server has taken them")


def test_a_client_that_cannot_even_be_made_is_not_asked_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[dict[str, Any]] = []

    def fail(**arguments: Any) -> Any:
        asked.append(arguments)
        raise ValueError("no such server")

    monkeypatch.setattr(prefect_link, "impatient_client", fail)
    events = PrefectLink()
    emit_to_prefect(event("lost"), by=events)

    assert events.flush(10)
    assert len(asked) == 1
    assert "no such server" in caplog.text


def test_a_server_that_is_away_for_too_long_is_not_told_everything(
    connect: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prefect_link, "MOST_KEPT", 2)
    server, events = connect(*[httpx.ConnectError("away")] * 2), PrefectLink()

    with caplog.at_level(logging.WARNING):
        for number in range(5):
            emit_to_prefect(event(str(number)), by=events)
        wait_until(lambda: server.taken, what="the server has taken what was kept")

        assert events.flush(10)
    assert server.taken == ["0", "1"]
    assert "3 events dropped, because Prefect's server was unavailable for too long; no job is affected" in caplog.text


def test_a_file_name_that_is_no_text_is_told_as_far_as_it_is(connect: Any) -> None:
    server, events = connect(), PrefectLink()

    emit_to_prefect(event("odd\udcff.jpg"), by=events)

    assert events.flush(10)
    assert server.taken == ["odd?.jpg"]


def test_a_server_that_does_not_answer_holds_nobody_up_and_then_gets_the_latest(connect: Any) -> None:
    begun, answers = threading.Event(), threading.Event()
    sent: list[int] = []

    def send(message: int) -> None:
        begun.set()
        assert answers.wait(60)
        sent.append(message)

    connect()
    link = PrefectLink()
    link.show("bar", lambda _: send(1))
    assert begun.wait(60)
    link.show("bar", lambda _: send(2))
    link.show("bar", lambda _: send(3))
    link.show("report", lambda _: send(100))
    assert not link.flush(0.01)
    answers.set()

    assert link.flush(60)
    assert sorted(sent) == [1, 3, 100]


def test_a_picture_that_cannot_be_sent_is_dropped_and_the_next_one_is_sent(connect: Any) -> None:
    sent: list[str] = []

    def fail(_: object) -> None:
        raise ConnectionError("away")

    connect()
    link = PrefectLink()
    link.show("bar", fail)
    link.show("report", lambda _: sent.append("report"))

    assert link.flush(60)
    assert sent == ["report"]


def test_artifacts_of_one_kind_keep_their_distance_and_delay_no_other(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_link, "ARTIFACT_SECONDS", 3600.0)
    sent: list[str] = []
    connect()
    link = PrefectLink()
    link.show("bar", lambda _: sent.append("first"))
    wait_until(lambda: sent, what="the first was sent")

    link.show("bar", lambda _: sent.append("second"))
    link.show("report", lambda _: sent.append("report"))

    wait_until(lambda: len(sent) == 2, what="the other was sent")
    assert sent == ["first", "report"]
    # At the end of a run, there is no pause between two batches.
    assert link.flush(60)
    assert sent == ["first", "report", "second"]


def test_a_question_is_asked_until_its_answer_is_known_whatever_else_fails(connect: Any) -> None:
    asked: list[int] = []
    server, link = connect(*[httpx.ConnectError("away")] * 3), PrefectLink()

    def ask(_: object) -> bool:
        asked.append(len(asked))
        if len(asked) == 1:
            raise httpx.ConnectError("away")
        return len(asked) == 3

    with link.asking(ask, every_seconds=0.01):
        emit_to_prefect(event("told"), by=link)
        wait_until(lambda: len(asked) == 3, what="it was answered")
        wait_until(lambda: server.taken, what="the event was taken")
    assert link.flush(60)
    assert len(asked) == 3


@pytest.mark.prefect
@pytest.mark.xdist_group("prefect")
def test_a_real_server_takes_what_is_right_and_refuses_what_is_not(prefect_api: str) -> None:
    events = PrefectLink()
    subject = "photojobs.job.told-to-a-real-server"
    emit_to_prefect(event("photojobs.job.running", subject=subject), by=events)
    emit_to_prefect(event("photojobs.job.refused", subject=subject, related={"": "a resource needs a role"}), by=events)
    emit_to_prefect(event("photojobs.job.completed", subject=subject), by=events)

    assert events.flush(30)
    body = {"filter": {"any_resource": {"id": [subject]}}}
    with PrefectApi(prefect_api) as client:

        def found() -> list[str]:
            answer = client.post("/events/filter", json=body).raise_for_status().json()
            return sorted(one["event"] for one in answer["events"])

        wait_until(lambda: len(found()) == 2, what="the server has recorded them")
        assert found() == ["photojobs.job.completed", "photojobs.job.running"]
