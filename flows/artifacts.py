"""What people see in Prefect's UI beside states: a bar for a long job, and a report for each step that has ended."""

from __future__ import annotations

import logging
import time
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from flows.planning.plan import Plan
from flows.planning.plan_markdown import plan_markdown
from flows.step_markdown import step_markdown
from storage.database import Database
from storage.records import Job, Task
from storage.task_summary import summarise_step

logger = logging.getLogger("photojobs.artifacts")

#: A job gets a progress bar when it has run for so long; short ones would only fill the page.
LONG_JOB_SECONDS = 2.0


class ProgressBar:
    """The progress artifact of one job, made when the job turns out to take long; its errors are logged, not raised."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._began_at = time.monotonic()
        self._artifact_id: UUID | None = None

    def show(self, done: int, total: int | None) -> None:
        """Show how far the job is; called at most once a second."""
        if not total or time.monotonic() - self._began_at < LONG_JOB_SECONDS:
            return
        percent = min(100.0, 100.0 * done / total)
        try:
            if self._artifact_id is None:
                made: Any = create_progress_artifact(
                    percent,
                    key=_key("progress", self._job.type, str(self._job.id)),
                    description=f"{self._job.type}: {done} of {total}",
                )
                self._artifact_id = made
            else:
                update_progress_artifact(self._artifact_id, percent, description=f"{self._job.type}: {done} of {total}")
        except Exception as error:  # noqa: BLE001 - Prefect's server may be away; the work goes on.
            logger.info("no progress in Prefect: %s", error)


def publish_step(database: Database, task: Task, step_index: int) -> None:
    """Publish what a step did as a Markdown artifact of the flow run; without Prefect's server nothing is published."""
    for summary in summarise_step(database, task.id, step_index):
        try:
            create_markdown_artifact(
                step_markdown(summary),
                key=_key(summary.type),
                description=f"{task.label}: {summary.type}",
            )
        except Exception as error:  # noqa: BLE001 - Prefect's server may be away; the result is in SQL.
            logger.info("no report in Prefect: %s", error)


def publish_plan(plan: Plan) -> None:
    """Publish a plan as a Markdown artifact of the flow run; without Prefect's server its message must do."""
    try:
        create_markdown_artifact(plan_markdown(plan), key=_key("plan", plan.type), description=f"Plan: {plan.label}")
    except Exception as error:  # noqa: BLE001 - Prefect's server may be away.
        logger.info("no plan in Prefect: %s", error)


def _key(*parts: str) -> str:
    # Prefect allows lower-case letters, digits and dashes.
    return "-".join(parts).replace("_", "-").lower()
