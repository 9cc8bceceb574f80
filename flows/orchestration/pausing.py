"""Pausing a task from the process that runs it."""

from __future__ import annotations

from flows.process.runtime import Runtime
from storage.queue.pauses import pause_task


def pause_here(task_id: str, runtime: Runtime, *, is_to_end: bool) -> None:
    """Pause a task, and stop its handlers in this process at once, without waiting for a heartbeat.

    Args:
        task_id: the id of the task.
        runtime: the runtime of this process.
        is_to_end: whether this process is also to stop following the task.
    """
    pause_task(runtime.database, task_id)
    for claim in runtime.heartbeat.running():
        if claim.job.task_id == task_id:
            claim.lost.set()
    if is_to_end:
        runtime.stop_task(task_id)
    runtime.followed.look_now()
