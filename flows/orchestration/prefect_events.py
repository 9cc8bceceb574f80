"""Sends our events to Prefect, so that automations can react: `photojobs.task.*`, `.job.*` and `.items.*`.

`flows.telemetry.events` decides which events there are and what they contain.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from prefect.context import FlowRunContext, TaskRunContext

from flows.orchestration.prefect_link import PrefectLink, link, resource_of
from flows.telemetry.events import Event


def emit_to_prefect(event: Event, by: PrefectLink = link) -> None:
    """Send an event to Prefect in the background, with its related resources and the run in which it happened."""
    related = [resource_of(f"photojobs.{role}.{id_}", role) for role, id_ in event.related.items()]
    in_flow, in_task = FlowRunContext.get(), TaskRunContext.get()
    flow_run = None if in_flow is None else in_flow.flow_run
    flow_run_id = None if flow_run is None else flow_run.id
    tags = set() if flow_run is None else set(flow_run.tags)
    if in_task is not None:
        task_run = in_task.task_run
        # In a Dask worker, only the task run is known, so the flow run is taken from the task run.
        flow_run_id = flow_run_id or task_run.flow_run_id
        tags.update(task_run.tags)
        related.append(resource_of(f"prefect.task-run.{task_run.id}", "task-run", task_run.name))
    body = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event.name,
        "resource": {"prefect.resource.id": event.subject, "prefect.resource.name": event.label},
        "related": related + [resource_of(f"prefect.tag.{tag}", "tag") for tag in sorted(tags)],
        "payload": event.payload,
    }
    by.send(body, flow_run, flow_run_id)
