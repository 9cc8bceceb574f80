"""A task that was paused in Prefect: held, with nothing of it running, until it is resumed."""

from __future__ import annotations

from sqlalchemy import Connection

from storage.database.engine import Access, Database
from storage.database.tables import jobs
from storage.lifecycle.state_machine import give_back, lock_task
from storage.queue.holds import HoldKind, HoldsRepository

#: The reason of the hold; a hold with another reason is the user's own, and outlasts the pause.
PAUSED_IN_PREFECT = "paused in Prefect"


def pause_task(source: Database | Connection, task_id: str) -> None:
    """Hold a task and take its running jobs back, whichever process runs them; harmless if it has ended or is paused.

    The jobs are queued again at no cost of an attempt; an executor stops at its next checkpoint.
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
    """End the hold of a pause; a hold that a user placed stays."""
    with Access(source).write() as connection:
        if _hold_reason(connection, task_id) == PAUSED_IN_PREFECT:
            HoldsRepository(connection).release(HoldKind.TASK, task_id)


def _hold_reason(connection: Connection, task_id: str) -> str | None:
    """The reason of the task's hold, the empty text if it has none; None if there is no hold."""
    found = HoldsRepository(connection).get(HoldKind.TASK, task_id)
    return None if found is None else found.reason or ""
