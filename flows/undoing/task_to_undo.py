"""Finds the task that an undo names, and checks that it has ended.

`_check_undone` in `storage.queue.new_tasks` makes the same check when the undo starts. `flows.api.undo` also
refuses a task that changed nothing, or whose changes are already undone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from flows.errors import PermanentStepError
from storage.database.engine import Database
from storage.history.undo_entries import UNDO
from storage.queue.tasks import TasksRepository
from storage.records import Task


class NothingToUndo(PermanentStepError):
    """The payload names no task, or the task does not exist for the tenant, has not ended, or has nothing to undo."""


def named_task(payload: Mapping[str, Any]) -> str:
    """Return the id of the task that the payload of an undo names.

    Raises:
        NothingToUndo: the payload names no task.
    """
    task_id = payload.get(UNDO)
    if not isinstance(task_id, str) or not task_id:
        raise NothingToUndo('no task to undo is given. Give the id of a task, in the payload as {"undo": "<task id>"}.')
    return task_id


def task_to_undo(payload: Mapping[str, Any], *, tenant_id: str, source: Database | Connection) -> Task:
    """Return the task that the payload of an undo names.

    Raises:
        NothingToUndo: the payload names no task, or a task that cannot be undone.
    """
    task_id = named_task(payload)
    task = TasksRepository(source).get_by_id(task_id)
    if task is None or task.tenant_id != tenant_id:
        raise NothingToUndo(
            f"task {task_id} does not exist for tenant {tenant_id}. `photojobs tasks list` lists the tasks."
        )
    if not task.is_final:
        raise NothingToUndo(f"task {task_id} is {task.status}. Cancel it or wait for its end, then undo it.")
    return task
