"""What people see in Prefect's UI beside states: a bar for a long job, and a report for each step that has ended."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from flows.orchestration.prefect_events import await_events
from flows.orchestration.publishing import Publisher
from flows.planning.plan import Plan
from flows.planning.plan_markdown import plan_markdown
from flows.telemetry.step_markdown import step_markdown
from storage.database.engine import Database
from storage.records import Job, Task
from storage.reports.task_summary import summarise_step

#: A job gets a progress bar when it has run for so long; short ones would only fill the page.
LONG_JOB_SECONDS = 2.0

#: A bar is moved at most so often.
INTERVAL_SECONDS = 1.0

#: A flow run that ends waits so long for what is still to be shown.
FLUSH_SECONDS = 10.0

_publisher = Publisher(interval_seconds=INTERVAL_SECONDS)


class ProgressBar:
    """The progress artifact of one job, made when the job turns out to take long, and sent in the background."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._began_at = time.monotonic()
        self._artifact_id: UUID | None = None

    def show(self, done: int, total: int | None) -> None:
        """Show how far the job is; of calls within a second only the last one is seen."""
        if not total or time.monotonic() - self._began_at < LONG_JOB_SECONDS:
            return
        key = _key("progress", self._job.type, str(self._job.id))
        _publisher.publish(key, lambda: self._send(key, done, total))

    def _send(self, key: str, done: int, total: int) -> None:
        percent = min(100.0, 100.0 * done / total)
        description = f"{self._job.type}: {done} of {total}"
        if self._artifact_id is None:
            made: Any = create_progress_artifact(percent, key=key, description=description)
            self._artifact_id = made
        else:
            update_progress_artifact(self._artifact_id, percent, description=description)


def publish_step(database: Database, task: Task, step_index: int) -> None:
    """Publish what a step did as a Markdown artifact of the flow run; without Prefect's server nothing is published."""
    for summary in summarise_step(database, task.id, step_index):
        _publish_markdown(
            f"{task.id} {step_index} {summary.type} {summary.priority}",
            step_markdown(summary),
            key=_key(summary.type),
            description=f"{task.label}: {summary.type}",
        )


def publish_plan(plan: Plan) -> None:
    """Publish a plan as a Markdown artifact of the flow run; without Prefect's server its message must do."""
    _publish_markdown(
        f"plan {plan.type}", plan_markdown(plan), key=_key("plan", plan.type), description=f"Plan: {plan.label}"
    )


def await_publication() -> None:
    """Wait until all that was published has been sent, events too, but not for long, as the server may be away."""
    if _publisher.flush(FLUSH_SECONDS):
        await_events(FLUSH_SECONDS)


def _publish_markdown(kind: str, markdown: str, *, key: str, description: str) -> None:
    def send() -> None:
        create_markdown_artifact(markdown, key=key, description=description)

    _publisher.publish(kind, send)


def _key(*parts: str) -> str:
    # Prefect allows lower-case letters, digits and dashes.
    return "-".join(parts).replace("_", "-").lower()
