"""Cancels or pauses a task that this process runs.

The task's handlers in this process stop at their next checkpoint, without waiting for a heartbeat. `cancel_task_row`
in `storage.lifecycle.state_machine` decides what canceling a task does to its jobs, and `storage.queue.pauses` what a
pause does.
"""

from __future__ import annotations

from flows.process.runtime import Runtime
from storage.queue.pauses import pause_task
from storage.queue.tasks import TasksRepository
from storage.records import Task


def cancel_here(task_id: str, runtime: Runtime, *, reason: str) -> Task:
    """Cancel a task, and stop its handlers in this process."""
    task = TasksRepository(runtime.database).cancel(task_id, reason=reason)
    _stop_handlers(task_id, runtime)
    runtime.followed.look_now()
    return task


def pause_here(task_id: str, runtime: Runtime, *, is_to_end: bool) -> None:
    """Pause a task, and stop its handlers in this process; if `is_to_end`, also stop following the task."""
    pause_task(runtime.database, task_id)
    _stop_handlers(task_id, runtime)
    if is_to_end:
        runtime.stop_task(task_id)
    runtime.followed.look_now()


def _stop_handlers(task_id: str, runtime: Runtime) -> None:
    for claim in runtime.heartbeat.running():
        if claim.job.task_id == task_id:
            claim.lost.set()
