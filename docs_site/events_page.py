"""Writes the page of events from the events that `flows.telemetry.events` sends for sample rows."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from docs_site.markdown import code, table
from flows.telemetry.events import Event, Events
from storage.lifecycle.job_items import ItemOutcome
from storage.records import ItemStatus, Job, JobStatus, Task

_INTRODUCTION = """# Events

The logger `photojobs.events` logs each event at the level DEBUG. The listeners of a process get each event
(`runtime.events.listen`). If a flow run is at work, Prefect gets the event, too, so that Prefect's automations can act
on it. An event is sent after its transaction, and may be lost if the process dies; the tables are always right.

The resource of an event is its task or job, `photojobs.task.ID` or `photojobs.job.ID`. Related resources are
`photojobs.tenant.ID`, `photojobs.task.ID` and `photojobs.project.ID`; the column *related* has their roles.
"""
_MOMENT = datetime(2025, 10, 1, 12, tzinfo=UTC)


def events_page() -> str:
    """Return the page with every event, its resources and its payload."""
    told: list[tuple[Event, str]] = []
    events = Events()
    said = ""
    events.listen(lambda event: told.append((event, said)))
    running, said = _row(Task, status=JobStatus.RUNNING, project_id=3), "A flow run begins with a task."
    events.task_running(running)
    for status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED):
        said = f"A task has ended: it is {status}."
        events.task_ended(_row(Task, status=status, project_id=3), message="")
    job, said = _row(Job, status=JobStatus.RUNNING, project_id=3, task_id="ID"), "An executor begins with a job."
    events.job_running(job)
    for status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.QUEUED):
        said = f"A job has ended: it is {status}."
        if status is JobStatus.QUEUED:
            said = "An attempt at a job has failed, and there will be another."
        events.job_ended(_row(Job, status=status, project_id=3, task_id="ID"))
    said = "A batch of a job's items has ended. The payload has the number of items by status, and the first failures."
    outcome = ItemOutcome(item_id=1, status=ItemStatus.FAILED, message="it is cut off")
    events.items_recorded(job, [outcome])
    rows = [
        (code(event.name), said, ", ".join(sorted(event.related)), ", ".join(map(code, event.payload)))
        for event, said in told
    ]
    return "\n".join((_INTRODUCTION, table(("event", "when", "related", "payload"), rows), ""))


def _row(record: type[Any], **values: Any) -> Any:
    """Return a record with sample values in every field that is not given."""
    plain = {"str": "ID", "int": 1, "datetime": _MOMENT, "Any": {}}
    return record(**{field.name: plain.get(str(field.type).split(" ")[0]) for field in fields(record)} | values)
