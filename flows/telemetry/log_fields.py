"""What a log line says of the job or the task that it is about: `logger.warning(…, extra=about_job(job))`."""

from __future__ import annotations

from typing import Any

from storage.records import Job, Task

#: In this order in every structured line; null where a line is about none.
FIELDS = ("tenant_id", "task_id", "job_id", "job_type")


def about_job(job: Job) -> dict[str, Any]:
    """The fields of a line about a job."""
    return {"tenant_id": job.tenant_id, "task_id": job.task_id, "job_id": job.id, "job_type": job.type}


def about_task(task: Task) -> dict[str, Any]:
    """The fields of a line about a task."""
    return {"tenant_id": task.tenant_id, "task_id": task.id}
