"""Our events as Prefect events, so that automations can act on them: `photojobs.task.*`, `.job.*`, `.items.*`.

Prefect's own way takes each event through a queue, two threads and a message of its own; two for every job would be
most of what a small job costs. Here a thread sends them together, as they come within a moment, and keeps them while
Prefect's server is away.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import threading
import uuid
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from httpx import HTTPStatusError
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events.related import related_resources_from_run_context

from flows.process.retry_delay import backoff_seconds
from flows.starting.prefect_client import impatient_client, may_pass
from flows.telemetry.events import Event

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger("photojobs.prefect_events")

#: Events of so long are sent together.
GATHER_SECONDS = 0.1

#: At most so many are sent together.
BATCH_SIZE = 200

#: So many are kept while Prefect's server is away; those that come later are lost, since no work depends on them.
MOST_KEPT = 20_000

#: The thread ends when nothing was to be sent for so long.
IDLE_SECONDS = 5.0

#: For so long a single answer is waited for.
ANSWER_SECONDS = 10.0

#: A process that ends waits so long for what is still to be sent.
EXIT_SECONDS = 2.0

_Resource = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """An event on its way, with the run in which it happened."""

    body: dict[str, Any]
    flow_run_id: uuid.UUID | None
    context: Context


def emit_to_prefect(event: Event) -> None:
    """Send an event to Prefect in the background, with what it concerns and the run in which it happened."""
    _of_process.emit(event)


def await_events(limit_seconds: float) -> bool:
    """Wait until the events of this process have been sent; False where that takes longer."""
    return _of_process.flush(limit_seconds)


class PrefectEvents:
    """Sends events in the background, in order."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Sent] = []
        self._thread: threading.Thread | None = None
        self._is_ending = False
        self._lost = 0
        self._of_flow_run: dict[uuid.UUID, list[_Resource]] = {}

    def emit(self, event: Event) -> None:
        """Send an event, with what it concerns and the run in which it happened as related resources."""
        related = [_resource(f"photojobs.{role}.{id_}", role) for role, id_ in event.related.items()]
        in_flow, in_task = FlowRunContext.get(), TaskRunContext.get()
        flow_run = None if in_flow is None else in_flow.flow_run
        tags = set() if flow_run is None else set(flow_run.tags)
        flow_run_id = None if flow_run is None else flow_run.id
        if in_task is not None:
            task_run = in_task.task_run
            # In a process of a Dask cluster, there is no more than the task run.
            flow_run_id = flow_run_id or task_run.flow_run_id
            tags.update(task_run.tags)
            related.append(_resource(f"prefect.task-run.{task_run.id}", "task-run", task_run.name))
        body = {
            "id": str(uuid.uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": event.name,
            "resource": {"prefect.resource.id": event.subject, "prefect.resource.name": event.label},
            "related": related + [_resource(f"prefect.tag.{tag}", "tag") for tag in sorted(tags)],
            "payload": event.payload,
        }
        self._keep(_Sent(body=body, flow_run_id=flow_run_id, context=copy_context()))

    def flush(self, limit_seconds: float) -> bool:
        """Wait until everything was sent, and the thread has ended; False where that takes longer."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._thread is None, limit_seconds)
            finally:
                self._is_ending = False

    def _keep(self, sent: _Sent) -> None:
        with self._changed:
            if len(self._waiting) >= MOST_KEPT:
                self._lost += 1
                return
            self._waiting.append(sent)
            if self._thread is None:
                # In the context of the first: that is where Prefect's settings are, its server's address among them.
                run = partial(sent.context.copy().run, self._run)
                self._thread = threading.Thread(target=run, name="photojobs-prefect-events", daemon=True)
                self._thread.start()
            elif len(self._waiting) == 1:
                self._changed.notify_all()

    def _run(self) -> None:
        failures = 0
        while not self._has_ended():
            try:
                with impatient_client(answer_seconds=ANSWER_SECONDS) as client:
                    while batch := self._next():
                        self._send(client, batch)
                        self._forget(batch)
                        failures = 0
            except Exception as error:  # noqa: BLE001 - whatever keeps Prefect from taking them, the truth is in SQL.
                failures += 1
                self._put_up_with(error, failures)

    def _next(self) -> list[_Sent]:
        """Wait for events and a moment longer; none where none came for a while."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_ending, IDLE_SECONDS)
            if self._waiting:
                self._changed.wait_for(lambda: self._is_ending or len(self._waiting) >= BATCH_SIZE, GATHER_SECONDS)
            return self._waiting[:BATCH_SIZE]

    def _has_ended(self) -> bool:
        """Whether nothing is left to be sent; then the next event starts another thread."""
        with self._changed:
            if self._waiting:
                return False
            self._thread = None
            self._of_flow_run.clear()
            self._changed.notify_all()
            return True

    def _send(self, client: SyncPrefectClient, batch: list[_Sent]) -> None:
        try:
            self._post(client, batch)
        except HTTPStatusError as error:
            if may_pass(error):
                raise
            if len(batch) == 1:
                logger.warning("Prefect does not take the event %s: %s", batch[0].body["event"], error)
                return
            # One that it does not take must not cost the others.
            for sent in batch:
                self._send(client, [sent])

    def _post(self, client: SyncPrefectClient, batch: list[_Sent]) -> None:
        events = [sent.body | {"related": sent.body["related"] + self._resources_of(sent)} for sent in batch]
        # File names may hold what is no text.
        content = json.dumps(events, ensure_ascii=False, default=str).encode(errors="replace")
        client.request("POST", "/events", content=content, headers={"Content-Type": "application/json"})

    def _resources_of(self, sent: _Sent) -> list[_Resource]:
        """The flow run of an event, with its flow, deployment and work pool, as Prefect names them."""
        if sent.flow_run_id is None:
            return []
        known = self._of_flow_run.get(sent.flow_run_id)
        if known is None:
            try:
                known = sent.context.run(asyncio.run, _resources_of_flow_run())
            except Exception as error:
                if may_pass(error):
                    raise
                # Of a flow run or deployment that was deleted meanwhile: the event says less, and is sent all the same.
                logger.info("what the flow run %s belongs to is not known: %s", sent.flow_run_id, error)
                known = [_resource(f"prefect.flow-run.{sent.flow_run_id}", "flow-run")]
            self._of_flow_run[sent.flow_run_id] = known
        return known

    def _forget(self, batch: list[_Sent]) -> None:
        with self._changed:
            del self._waiting[: len(batch)]
            if self._lost:
                logger.warning("%d events were not told to Prefect, whose server was away for too long", self._lost)
                self._lost = 0

    def _put_up_with(self, error: Exception, failures: int) -> None:
        with self._changed:
            if may_pass(error):
                logger.info("telling Prefect again of what happened: %s", error)
                self._changed.wait(backoff_seconds(failures, first_seconds=0.25, longest_seconds=5.0))
            else:
                logger.warning("%d events could not be told to Prefect: %s", len(self._waiting[:BATCH_SIZE]), error)
                del self._waiting[:BATCH_SIZE]


def _resource(id_: str, role: str, name: str | None = None) -> _Resource:
    resource = {"prefect.resource.id": id_, "prefect.resource.role": role}
    return resource if name is None else resource | {"prefect.resource.name": name}


async def _resources_of_flow_run() -> list[_Resource]:
    async with get_client() as client:
        found = await related_resources_from_run_context(client)
    # Its task run and tags are those of one event alone.
    return [resource.model_dump() for resource in found if resource.role not in ("task-run", "tag")]


_of_process = PrefectEvents()
atexit.register(await_events, EXIT_SECONDS)
