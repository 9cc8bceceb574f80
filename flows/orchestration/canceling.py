"""Canceling a task from the process that runs it."""

from __future__ import annotations

from flows.process.runtime import Runtime
from storage.queue.tasks import TasksRepository
from storage.records import Task


def cancel_here(task_id: str, runtime: Runtime, *, reason: str) -> Task:
    """Cancel a task, and stop its handlers in this process at once, without waiting for a heartbeat."""
    task = TasksRepository(runtime.database).cancel(task_id, reason=reason)
    for claim in runtime.heartbeat.running():
        if claim.job.task_id == task_id:
            claim.lost.set()
    runtime.followed.look_now()
    return task
