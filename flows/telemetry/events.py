"""The events of tasks, jobs and items: what they contain, and the listeners that get them.

Events only inform; the state is in the database tables. The listener in `flows.orchestration.prefect_events` sends
events to Prefect.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from storage.lifecycle.job_items import ItemOutcome
from storage.records import Job, Task

logger = logging.getLogger("photojobs.events")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event.

    Attributes:
        name: the kind of event, for example `photojobs.job.completed`.
        subject: the id of the task or job in Prefect's form, for example `photojobs.job.12`.
        label: the name of the task or job for readers.
        related: the ids of related objects by role: `task`, `tenant` or `project`.
        payload: further details, as JSON values.
    """

    name: str
    subject: str
    label: str
    related: dict[str, str]
    payload: dict[str, Any] = field(default_factory=dict)


#: A function that is called for each event and must return quickly. Its errors are logged and not raised.
EventListener = Callable[[Event], None]


class Events:
    """The listeners of a process, and the methods that notify all listeners of an event."""

    def __init__(self) -> None:
        self._listeners: list[EventListener] = []

    def listen(self, listener: EventListener) -> None:
        """Register a function that is called for every later event. A second registration has no effect."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def task_running(self, task: Task) -> None:
        """Notify the listeners that a flow run, or a run without Prefect, has started to run a task."""
        self._emit_for_task(task, "running")

    def task_ended(self, task: Task, *, message: str) -> None:
        """Notify the listeners that a task has ended with the status in its row."""
        self._emit_for_task(task, task.status, message=message)

    def job_running(self, job: Job) -> None:
        """Notify the listeners that an executor starts a job."""
        self._emit_for_job(job, "running")

    def job_ended(self, job: Job) -> None:
        """Notify the listeners that an attempt at a job has ended.

        The event has the status in the job's row, or `retrying` if the job is queued again.
        """
        state = "retrying" if job.status == "queued" else job.status
        self._emit_for_job(job, state, error=job.error_message, counts=job.report.get("counts", {}))

    def items_recorded(self, job: Job, outcomes: Iterable[ItemOutcome]) -> None:
        """Notify the listeners that items have ended, by one event with the counts and the first failures."""
        known = list(outcomes)
        failed = [(outcome.item_id, outcome.message) for outcome in known if outcome.status == "failed"]
        self._emit(
            Event(
                name="photojobs.items.recorded",
                subject=f"photojobs.job.{job.id}",
                label=job.type,
                related=_related_to(job),
                payload={
                    "counts": dict(Counter(str(outcome.status) for outcome in known)),
                    "failed": [{"item_id": item_id, "message": message} for item_id, message in failed[:10]],
                },
            )
        )

    def _emit_for_task(self, task: Task, state: str, **payload: Any) -> None:
        related = {"tenant": task.tenant_id}
        if task.project_id is not None:
            related["project"] = str(task.project_id)
        self._emit(
            Event(
                name=f"photojobs.task.{state}",
                subject=f"photojobs.task.{task.id}",
                label=task.label,
                related=related,
                payload={"type": task.type, "scope": task.scope} | payload,
            )
        )

    def _emit_for_job(self, job: Job, state: str, **payload: Any) -> None:
        self._emit(
            Event(
                name=f"photojobs.job.{state}",
                subject=f"photojobs.job.{job.id}",
                label=job.type,
                related=_related_to(job),
                payload={"type": job.type, "priority": job.priority, "attempts": job.attempts} | payload,
            )
        )

    def _emit(self, event: Event) -> None:
        logger.debug("%s %s", event.name, event.subject)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                logger.exception(
                    "the event listener %r failed at the event %s of %s; jobs and other listeners go on. Correct "
                    "this listener.",
                    listener,
                    event.name,
                    event.subject,
                )


def _related_to(job: Job) -> dict[str, str]:
    related = {"tenant": job.tenant_id}
    if job.task_id is not None:
        related["task"] = job.task_id
    if job.project_id is not None:
        related["project"] = str(job.project_id)
    return related
