"""Stores counts of the library at the start of a task's first job and at the end of its last job, once each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flows.telemetry.log_fields import about_job
from storage.queue.tasks import TasksRepository
from storage.records import Job, Task
from storage.reports.library_figures import keep_figures
from storage.reports.task_summary import summarize_task
from task_definitions.errors import PhotojobsError

if TYPE_CHECKING:
    from flows.process.runtime import Runtime

logger = logging.getLogger("photojobs.tasks")


def note_start_of_task(job: Job, runtime: Runtime) -> None:
    """If this is the task's first job, store the task's start and counts of the library. Errors are only logged."""
    if job.task_id is None or job.step_index != 0 or (job.chunk_index or 0) > 0:
        return
    failed = "its start could not be stored"
    try:
        tasks = TasksRepository(runtime.database)
        task = tasks.get_by_id(job.task_id)
        if task is not None:
            if task.status == "queued" and job.started_at is not None:
                tasks.begin(task.id, since=job.started_at)
            failed = "the counts of the library at its start could not be stored"
            keep_figures(runtime.database, task, "before")
    except PhotojobsError as error:
        logger.warning("task %s: %s; no job is affected: %s", job.task_id, failed, error, extra=about_job(job))


def note_end_of_task(job: Job, runtime: Runtime) -> None:
    """If this job ended the task, store counts of the library and create the task's spans. Errors are only logged."""
    failed = "the counts of the library at its end could not be stored"
    try:
        task = task_ended_by(job, runtime)
        if task is not None:
            keep_figures(runtime.database, task, "after")
            failed = "its spans could not be created"
            if runtime.tracing.is_on:
                runtime.tracing.task_ended(summarize_task(runtime.database, task.id))
    except PhotojobsError as error:
        logger.warning("task %s: %s; no job is affected: %s", job.task_id, failed, error, extra=about_job(job))


def task_ended_by(job: Job, runtime: Runtime) -> Task | None:
    """Return the job's task if it ended with this job; None otherwise. At most one job ends a task.

    Raises:
        StorageError: the database could not be read.
        CorruptDefinition: the pinned definition cannot be read.
    """
    if job.task_id is None or job.finished_at is None or _something_follows(job, runtime):
        return None
    tasks = TasksRepository(runtime.database)
    return tasks.get_by_id(job.task_id) if tasks.has_ended_with(job) else None


def _something_follows(job: Job, runtime: Runtime) -> bool:
    # For most jobs, the definition shows that another step follows, so the database need not be read.
    steps = runtime.pinned_definition(str(job.task_id)).steps
    later = steps[(job.step_index or 0) + 1 :]
    return job.status == "completed" and any(step.definition.run_if is None for step in later)
