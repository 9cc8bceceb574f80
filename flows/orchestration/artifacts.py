"""Artifacts in Prefect's UI: a progress bar for a long job, a report for each ended step, and plans.

`flows.telemetry.step_markdown` decides what the report of a step shows.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext, TaskRunContext

from flows.orchestration.prefect_link import link
from flows.planning.plan import Plan
from flows.planning.plan_markdown import plan_markdown
from flows.telemetry.step_markdown import step_markdown
from storage.database.engine import Database
from storage.records import Job, Task
from storage.reports.task_summary import summarize_step

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: A job gets a progress bar after it has run for this long. Bars of short jobs would only fill the page.
LONG_JOB_SECONDS = 2.0

#: The longest time for which an ending flow run waits until its artifacts and events are sent.
FLUSH_SECONDS = 10.0


class _Artifact:
    """An artifact of the caller's flow run or task run. Prefect's own functions would open a client for each call."""

    def __init__(self, type: str, key: str) -> None:
        self._type = type
        self._key = key
        self._id: UUID | None = None
        in_flow, in_task = FlowRunContext.get(), TaskRunContext.get()
        self._flow_run: FlowRun | None = None if in_flow is None else in_flow.flow_run
        self._runs = {
            "flow_run_id": None if self._flow_run is None else str(self._flow_run.id),
            "task_run_id": None if in_task is None else str(in_task.task_run.id),
        }

    def show(self, kind: str, data: object, description: str) -> None:
        """Send the data soon. It replaces unsent data of the same kind."""
        link.show(kind, lambda client: self._send(client, data, description))

    def _send(self, client: SyncPrefectClient, data: object, description: str) -> None:
        content: dict[str, Any] = {"data": data, "description": description}
        if self._id is None:
            made = {"type": self._type, "key": self._key}
            self._id = UUID(client.request("POST", "/artifacts/", json=content | made | self._runs).json()["id"])
            self._emit("created", made | {"description": description})
        else:
            client.request("PATCH", "/artifacts/{id}", json=content, path_params={"id": self._id})
            self._emit("updated", content)

    def _emit(self, change: str, payload: dict[str, Any]) -> None:
        """Send the same event that Prefect's own client sends."""
        body = {
            "id": str(uuid.uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": f"prefect.artifact.{change}",
            "resource": {"prefect.resource.id": f"prefect.artifact.{self._id}", "prefect.resource.name": self._key},
            "related": [],
            "payload": payload,
        }
        link.send(body, self._flow_run)


class ProgressBar:
    """The progress artifact of one job. It is created after `LONG_JOB_SECONDS` and sent in the background."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._began_at = time.monotonic()
        self._artifact: _Artifact | None = None

    def show(self, done: int, total: int | None) -> None:
        """Show the progress of the job, at most once a second; nothing if the total is unknown or 0."""
        if not total or time.monotonic() - self._began_at < LONG_JOB_SECONDS:
            return
        key = _key("progress", self._job.type, str(self._job.id))
        self._artifact = self._artifact or _Artifact("progress", key)
        percent = min(100.0, 100.0 * done / total)
        self._artifact.show(key, percent, f"{self._job.type}: {done} of {total}")


def publish_step(database: Database, task: Task, step_index: int) -> None:
    """Publish the report of a step as a Markdown artifact of the flow run, if Prefect's server is available."""
    for summary in summarize_step(database, task.id, step_index):
        _Artifact("markdown", _key(summary.type)).show(
            f"{task.id} {step_index} {summary.type} {summary.priority}",
            step_markdown(summary),
            f"{task.label}: {summary.type}",
        )


def publish_plan(plan: Plan) -> None:
    """Publish a plan as a Markdown artifact of the flow run, if Prefect's server is available."""
    _Artifact("markdown", _key("plan", plan.type)).show(f"plan {plan.type}", plan_markdown(plan), f"Plan: {plan.label}")


def await_publication() -> None:
    """Wait until all artifacts and events are sent, at most `FLUSH_SECONDS`, because the server may be unavailable."""
    link.flush(FLUSH_SECONDS)


def _key(*parts: str) -> str:
    # In the keys of artifacts, Prefect allows only lower-case letters, digits and dashes.
    return "-".join(parts).replace("_", "-").lower()
