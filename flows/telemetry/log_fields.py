"""The fields of a log line that name its job or task: `logger.warning(…, extra=about_job(job))`.

A line without such fields gets the fields of the job that its thread runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from storage.records import Job, Task

#: Every structured line has these fields in this order. A field without a value is null.
FIELDS = ("tenant_id", "task_id", "job_id", "job_type")

_at_work: ContextVar[Job | None] = ContextVar("photojobs_job_at_work", default=None)


def about_job(job: Job) -> dict[str, Any]:
    """Return the fields of a log line about a job."""
    return {"tenant_id": job.tenant_id, "task_id": job.task_id, "job_id": job.id, "job_type": job.type}


def about_task(task: Task) -> dict[str, Any]:
    """Return the fields of a log line about a task."""
    return {"tenant_id": task.tenant_id, "task_id": task.id}


def about_job_at_work() -> dict[str, Any]:
    """Return the fields of the job that the current thread runs; empty if it runs no job."""
    job = _at_work.get()
    return {} if job is None else about_job(job)


@contextmanager
def at_work_on(job: Job) -> Iterator[None]:
    """Name a job in the log lines of the current thread while the block runs."""
    token = _at_work.set(job)
    try:
        yield
    finally:
        _at_work.reset(token)
