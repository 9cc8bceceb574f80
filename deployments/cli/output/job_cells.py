"""Formats jobs and tasks for tables: the cells of both, and the table of tasks."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from deployments.cli.output.terminal import Section, duration
from storage.records import Job, Task

#: How many characters of an id a table shows.
SHORT_ID_CHARACTERS = 8

#: How many characters of an error or a reason a table shows.
MESSAGE_CHARACTERS = 120


def progress_of(job: Job) -> str:
    """Return the progress of a job as `done/total`.

    If the total is not known, the result is only the number of finished items, or empty if no item is finished.
    """
    if job.progress_total is None:
        return str(job.progress_done or "")
    return f"{job.progress_done or 0}/{job.progress_total}"


def short_id(task_id: str | None) -> str | None:
    """Return the first characters of a task's id, which commands accept in its place.

    An id that is not a UUID is not shortened. For None, the result is None.
    """
    try:
        uuid.UUID(task_id or "")
    except ValueError:
        return task_id
    return (task_id or "")[:SHORT_ID_CHARACTERS]


def took(ended: Job | Task) -> str:
    """Return the time from start to end as a text; empty if the job or task has not started or not ended."""
    if ended.started_at is None or ended.finished_at is None:
        return ""
    return duration((ended.finished_at - ended.started_at).total_seconds())


def beginning(message: str | None) -> str:
    """Return the first line with a text in a message, shortened for a cell; empty if there is no such line."""
    line = next(iter((message or "").strip().splitlines()), "")
    return line if len(line) <= MESSAGE_CHARACTERS else f"{line[:MESSAGE_CHARACTERS]}…"


def task_section(tasks: Sequence[Task]) -> Section:
    """Return the table of tasks."""
    return Section(
        ("task", "definition", "status", "tenant", "project", "source", "created", "took"),
        [
            (
                short_id(task.id),
                task.type,
                task.status,
                task.tenant_id,
                task.project_id,
                task.source,
                task.created_at,
                took(task),
            )
            for task in tasks
        ],
        numbers=("project", "took"),
        spared=("source", "tenant", "project"),
    )
