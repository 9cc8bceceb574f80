"""The fields of a log line that name its job or task: `logger.warning(…, extra=about_job(job))`."""

from __future__ import annotations

from typing import Any

from storage.records import Job, Task

#: Every structured line has these fields in this order. A field without a value is null.
FIELDS = ("tenant_id", "task_id", "job_id", "job_type")


def about_job(job: Job) -> dict[str, Any]:
    """Return the fields of a log line about a job."""
    return {"tenant_id": job.tenant_id, "task_id": job.task_id, "job_id": job.id, "job_type": job.type}


def about_task(task: Task) -> dict[str, Any]:
    """Return the fields of a log line about a task."""
    return {"tenant_id": task.tenant_id, "task_id": task.id}
