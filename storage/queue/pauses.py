"""Pauses a task while its flow run is paused in Prefect: the task is on hold, and none of its jobs runs.

`flows.orchestration.cancellation_watch` notices a pause in Prefect, and `resume_task` in
`flows.orchestration.task_flow` ends it.
"""

from __future__ import annotations

from sqlalchemy import Connection

from storage.database.engine import Access, Database
from storage.database.tables import jobs
from storage.lifecycle.state_machine import give_back, lock_task
from storage.queue.holds import HoldKind, HoldsRepository

#: The reason of a hold that a pause places. A hold with another reason was placed by a user, and stays after the pause.
PAUSED_IN_PREFECT = "paused in Prefect"


def pause_task(source: Database | Connection, task_id: str) -> None:
    """Put a task on hold and queue its running jobs again; do nothing if the task has ended.

    No attempt is counted. In any process, the handlers of the jobs stop at the first call of `ctx.checkpoint` after a
    heartbeat has found that the jobs no longer run.
    """
    access = Access(source)
    with access.write() as connection:
        task = lock_task(connection, task_id)
        if task is None or task.is_final:
            return
        give_back(connection, jobs.c.task_id == task_id, now=access.clock(), count_attempt=False)
        if _hold_reason(connection, task_id) is None:
            HoldsRepository(connection).hold(HoldKind.TASK, task_id, PAUSED_IN_PREFECT)


def resume_paused_task(source: Database | Connection, task_id: str) -> None:
    """Release the hold that a pause placed; a hold that a user placed stays."""
    with Access(source).write() as connection:
        if _hold_reason(connection, task_id) == PAUSED_IN_PREFECT:
            HoldsRepository(connection).release(HoldKind.TASK, task_id)


def _hold_reason(connection: Connection, task_id: str) -> str | None:
    """Return the reason of the hold on the task: an empty text if it has no reason, None if there is no hold."""
    found = HoldsRepository(connection).get(HoldKind.TASK, task_id)
    return None if found is None else found.reason or ""
