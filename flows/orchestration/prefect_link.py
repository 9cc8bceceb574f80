"""The link of a process to Prefect's server: one client and one thread for all requests in the background.

If the server is slow or unavailable, requests wait in the background, and no job waits for them. The states of task
runs are events, to which automations react. Prefect's own client passes each event through a queue, two threads and a
separate message, which would cost more than a small job. This module sends the events of a tenth of a second together,
in order.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from httpx import HTTPStatusError
from prefect.client.schemas.objects import FlowRun
from prefect.events.related import object_as_related_resource, tags_as_related_resources

from flows.orchestration.event_socket import EventSocket
from flows.process.retry_delay import backoff_seconds
from flows.starting.prefect_client import impatient_client, may_pass
from task_definitions.wording import quantity

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger("photojobs.prefect")

#: Events that occur within this time are sent together.
GATHER_SECONDS = 0.1

#: The most events that are sent together.
BATCH_SIZE = 200

#: From this number of events on, a websocket connection is opened for them. For fewer events, a request is quicker.
SOCKET_BATCH_SIZE = 50

#: The most events that are kept while the server is unavailable. Later events are dropped; no work depends on events.
MOST_KEPT = 20_000

#: The shortest time between two updates of one artifact, such as a job's progress bar. A flush does not wait for it.
ARTIFACT_SECONDS = 1.0

#: The thread of the link ends after it has had nothing to do for this long.
IDLE_SECONDS = 5.0

#: How long the link waits for one answer of the server.
ANSWER_SECONDS = 10.0

#: How long an ending process waits until everything is sent.
EXIT_SECONDS = 2.0

Resource = dict[str, str]

#: A function that makes requests to the server with the given client.
Call = Callable[["SyncPrefectClient"], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """An event that is to be sent, with the flow run in which it happened."""

    body: dict[str, Any]
    flow_run_id: uuid.UUID | None
    flow_run: FlowRun | None


@dataclass(slots=True, eq=False)
class _Question:
    """A repeated request to the server. `at` is the time of the next request, on the monotonic clock."""

    ask: Call
    every_seconds: float
    at: float


class PrefectLink:
    """Sends events and artifacts to the server, and polls it, in the background."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._flushes = 0
        self._events: list[_Sent] = []
        self._events_at = 0.0
        self._failures = 0
        self._lost = 0
        self._of_flow_run: dict[uuid.UUID, list[Resource]] = {}
        self._artifacts: dict[str, Call] = {}
        self._shown_at: dict[str, float] = {}
        self._is_showing = False
        self._questions: list[_Question] = []
        #: Only the thread of the link uses the socket.
        self._socket: EventSocket

    def send(self, body: dict[str, Any], flow_run: FlowRun | None, flow_run_id: uuid.UUID | None = None) -> None:
        """Send an event with this body. The flow run, its flow, deployment and work pool become related resources."""
        with self._changed:
            if len(self._events) >= MOST_KEPT:
                self._lost += 1
                return
            if not self._events:
                self._events_at = time.monotonic() + GATHER_SECONDS
            flow_run_id = flow_run.id if flow_run is not None else flow_run_id
            self._events.append(_Sent(body=body, flow_run_id=flow_run_id, flow_run=flow_run))
            if len(self._events) in (1, BATCH_SIZE):
                self._wake()

    def show(self, kind: str, show: Call) -> None:
        """Call `show` soon, in place of a waiting call of the same kind. A call that fails is logged and dropped."""
        with self._changed:
            self._artifacts[kind] = show
            self._wake()

    @contextmanager
    def asking(self, ask: Call, *, every_seconds: float, first_after_seconds: float = 0.0) -> Iterator[None]:
        """Call `ask` repeatedly while the block runs, until `ask` returns True. Errors of `ask` are logged."""
        question = _Question(ask, every_seconds, time.monotonic() + first_after_seconds)
        with self._changed:
            self._questions.append(question)
            self._wake()
        try:
            yield
        finally:
            with self._changed:
                if question in self._questions:
                    self._questions.remove(question)

    def flush(self, limit_seconds: float) -> bool:
        """Wait until all events and artifacts are sent. Return False if that takes longer than the limit.

        The method also waits for the end of the thread, unless a block of `asking` still needs the thread.
        """
        with self._changed:
            self._flushes += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(self._has_sent_all, limit_seconds)
            finally:
                self._flushes -= 1

    def _has_sent_all(self) -> bool:
        is_idle = not (self._events or self._artifacts or self._is_showing)
        return is_idle and (self._thread is None or bool(self._questions))

    def _wake(self) -> None:
        if self._thread is None:
            # The thread gets the context of the first caller, with Prefect's settings, such as the server's address.
            run = copy_context().run
            self._thread = threading.Thread(target=run, args=(self._run,), name="photojobs-prefect", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            try:
                with (
                    impatient_client(answer_seconds=ANSWER_SECONDS) as client,
                    EventSocket(answer_seconds=ANSWER_SECONDS) as self._socket,
                ):
                    while call is not None:
                        call(client)
                        call = self._next()
                    return
            except Exception as error:  # noqa: BLE001 - no client could be opened; no work depends on it.
                with self._changed:
                    self._artifacts.clear()
                    for question in self._questions:
                        question.at = time.monotonic() + question.every_seconds
                self._retry_or_drop(error)

    def _next(self) -> Call | None:
        """Wait for the next call. Return None after `IDLE_SECONDS` without a call; the thread must then end."""
        with self._changed:
            idle_at = time.monotonic() + IDLE_SECONDS
            while True:
                at, call = self._due()
                now = time.monotonic()
                if call is not None and at <= now:
                    return call
                if call is None and (self._flushes or now >= idle_at):
                    self._thread = None
                    self._of_flow_run.clear()
                    self._changed.notify_all()
                    return None
                self._changed.wait((idle_at if call is None else at) - now)

    def _due(self) -> tuple[float, Call | None]:
        """Return the next call and its time; the call is None if there is nothing to send or to ask."""
        due: list[tuple[float, Call]] = [(one.at, partial(self._ask, one)) for one in self._questions]
        if self._events:
            is_full = self._failures == 0 and (self._flushes or len(self._events) >= BATCH_SIZE)
            due.append((0.0 if is_full else self._events_at, self._send_batch))
        for kind in self._artifacts:
            shown_at = -math.inf if self._flushes else self._shown_at.get(kind, -math.inf)
            due.append((shown_at + ARTIFACT_SECONDS, partial(self._show, kind)))
        return min(due, key=lambda one: one[0]) if due else (0.0, None)

    def _ask(self, question: _Question, client: SyncPrefectClient) -> None:
        question.at = time.monotonic() + question.every_seconds
        try:
            is_over = question.ask(client) is True
        except Exception as error:  # noqa: BLE001 - the server or the database may come back.
            every = question.every_seconds
            logger.info(
                "a request to Prefect's server or to the database failed (%s); it is repeated in %g s",
                error,
                every,
            )
            return
        if is_over:
            with self._changed:
                if question in self._questions:
                    self._questions.remove(question)

    def _show(self, kind: str, client: SyncPrefectClient) -> None:
        with self._changed:
            show = self._artifacts.pop(kind)
            now = time.monotonic()
            self._shown_at = {known: at for known, at in self._shown_at.items() if at > now - ARTIFACT_SECONDS}
            self._shown_at[kind] = now
            self._is_showing = True
        try:
            show(client)
        except Exception as error:  # noqa: BLE001 - the server may be unavailable; no work depends on it.
            logger.info("the artifact %s could not be sent to Prefect; the work continues without it: %s", kind, error)
        finally:
            with self._changed:
                self._is_showing = False
                self._changed.notify_all()

    def _send_batch(self, client: SyncPrefectClient) -> None:
        with self._changed:
            batch = self._events[:BATCH_SIZE]
        try:
            self._send(client, batch)
        except Exception as error:  # noqa: BLE001 - whatever the error is, no work depends on the events.
            self._retry_or_drop(error)
            return
        with self._changed:
            self._failures = 0
            del self._events[: len(batch)]
            self._events_at = time.monotonic() + GATHER_SECONDS
            self._changed.notify_all()
            if self._lost:
                logger.warning(
                    "%s dropped, because Prefect's server was unavailable for too long; no job is affected",
                    quantity(self._lost, "event"),
                )
                self._lost = 0

    def _send(self, client: SyncPrefectClient, batch: list[_Sent]) -> None:
        try:
            self._post(client, batch)
        except HTTPStatusError as error:
            if may_pass(error):
                raise
            if len(batch) == 1:
                logger.warning(
                    "Prefect refused the event %s, which is dropped; no job is affected: %s",
                    batch[0].body["event"],
                    error,
                )
                return
            # If the server refuses one event, the others are still sent.
            for sent in batch:
                self._send(client, [sent])

    def _post(self, client: SyncPrefectClient, batch: list[_Sent]) -> None:
        events = [self._as_json(client, sent) for sent in batch]
        if (self._socket.is_open or len(events) >= SOCKET_BATCH_SIZE) and self._socket.send(events):
            return
        content = b"[" + b",".join(events) + b"]"
        client.request("POST", "/events", content=content, headers={"Content-Type": "application/json"})

    def _as_json(self, client: SyncPrefectClient, sent: _Sent) -> bytes:
        event = sent.body | {"related": self._related_to(client, sent)}
        # File names may contain bytes that are not valid text. These bytes are replaced.
        return json.dumps(event, ensure_ascii=False, default=str).encode(errors="replace")

    def _related_to(self, client: SyncPrefectClient, sent: _Sent) -> list[Resource]:
        """Return the related resources of an event and of its flow run, each resource once."""
        related: list[Resource] = sent.body["related"]
        named = {resource["prefect.resource.id"] for resource in related}
        return related + [
            resource for resource in self._of(client, sent) if resource["prefect.resource.id"] not in named
        ]

    def _of(self, client: SyncPrefectClient, sent: _Sent) -> list[Resource]:
        if sent.flow_run_id is None:
            return []
        known = self._of_flow_run.get(sent.flow_run_id)
        if known is None:
            try:
                known = _resources_of(client, sent.flow_run or client.read_flow_run(sent.flow_run_id))
            except Exception as error:
                if may_pass(error):
                    raise
                # The flow run or its deployment was deleted; the event is sent with fewer related resources.
                logger.info(
                    "the flow or deployment of flow run %s could not be read, so its events do not name them: %s",
                    sent.flow_run_id,
                    error,
                )
                known = [resource_of(f"prefect.flow-run.{sent.flow_run_id}", "flow-run")]
            self._of_flow_run[sent.flow_run_id] = known
        return known

    def _retry_or_drop(self, error: Exception) -> None:
        with self._changed:
            self._failures += 1
            if may_pass(error):
                logger.info("requests to Prefect's server failed (%s); this process tries again", error)
                wait_seconds = backoff_seconds(self._failures, first_seconds=0.25, longest_seconds=5.0)
                self._events_at = time.monotonic() + wait_seconds
            else:
                number = len(self._events[:BATCH_SIZE])
                dropped = quantity(number, "event") if number else "nothing"
                logger.warning("%s could not be sent to Prefect; no job is affected: %s", dropped, error)
                del self._events[:BATCH_SIZE]
                self._failures = 0
                self._changed.notify_all()


def resource_of(id_: str, role: str, name: str | None = None) -> Resource:
    """Return a related resource of an event, in Prefect's form."""
    resource = {"prefect.resource.id": id_, "prefect.resource.role": role}
    return resource if name is None else resource | {"prefect.resource.name": name}


def _resources_of(client: SyncPrefectClient, flow_run: FlowRun) -> list[Resource]:
    """Return a flow run, its flow, deployment, work queue and work pool, and their tags as Prefect resources."""
    found: list[tuple[str, Any]] = [("flow-run", flow_run), ("flow", client.read_flow(flow_run.flow_id))]
    if flow_run.deployment_id is not None:
        found.append(("deployment", client.read_deployment(flow_run.deployment_id)))
    if flow_run.work_queue_id is not None:
        found.append(("work-queue", client.read_work_queue(flow_run.work_queue_id)))
    if flow_run.work_pool_name is not None:
        found.append(("work-pool", client.read_work_pool(flow_run.work_pool_name)))
    tags = {tag for _, known in found for tag in getattr(known, "tags", ())}
    related = [object_as_related_resource(kind, kind, known) for kind, known in found]
    return [resource.model_dump() for resource in [*related, *tags_as_related_resources(tags)]]


#: The link of this process to Prefect's server, which all its flow runs share.
link = PrefectLink()
atexit.register(link.flush, EXIT_SECONDS)
