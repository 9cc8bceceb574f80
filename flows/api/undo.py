"""Undoing tasks from programs: `plan_undo` says what can and cannot come back, `undo_task` brings it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import flows.api.start
from flows.planning.plan import Plan, plan_task
from flows.process.runtime import Runtime
from flows.starting.in_thread import in_thread
from flows.undoing.task_to_undo import NothingToUndo, task_to_undo
from storage.history.undo_entries import UNDO, count_undoable
from storage.queue.tasks import TasksRepository
from storage.reports.task_summary import StepSummary, TaskSummary

#: The built-in definition.
DEFINITION: Final = "undo"


def plan_undo(task_id: str, *, tenant_id: str | None = None) -> Plan:
    """What undoing a task would bring back, without a byte or a row being changed.

    What cannot come back, because its trash was emptied, its name is taken or it was changed since, stands in
    `plan.steps[0].left`, each by its name with the reason.

    Args:
        task_id: of the task, which must have ended.
        tenant_id: whose task it must be.

    Raises:
        NothingToUndo: there is no such task, it has not ended, or nothing of it can be undone.
    """
    return plan_task(**undo_arguments(task_id, tenant_id=tenant_id))


def undo_task(task_id: str, *, tenant_id: str | None = None, source: str = "user") -> TaskSummary:
    """Bring back what a task moved, removed, renamed or changed, as a task of its own, in this process.

    Files come back from where the task put them, rows with their ids and tags. Nothing is overwritten. Undo the undo
    to have everything as the task had left it. See `left_by` for what did not come back.

    Args:
        task_id: of the task, which must have ended.
        tenant_id: whose task it must be.
        source: who asked.

    Raises:
        NothingToUndo: there is no such task, it has not ended, or nothing of it can be undone.
    """
    return flows.api.start.run_task(**undo_arguments(task_id, tenant_id=tenant_id), source=source)


aplan_undo = in_thread(plan_undo)
aundo_task = in_thread(undo_task)


def undo_arguments(task_id: str, *, tenant_id: str | None = None) -> dict[str, Any]:
    """The arguments with which `start_task`, `run_task` and `plan_task` undo a task; raises as `undo_task` does."""
    database = Runtime.current().database
    known = TasksRepository(database).get_by_id(task_id)
    owner = tenant_id or (known.tenant_id if known is not None else "")
    payload = {UNDO: task_id}
    task_to_undo(payload, tenant_id=owner, source=database)
    with database.connect() as connection:
        counts = count_undoable(connection, task_id=task_id)
        if not counts:
            raise NothingToUndo(
                f"task {task_id} has nothing to undo: it changed nothing, was undone, or its journal is no longer kept."
            )
    return {"type": DEFINITION, "tenant_id": owner, "payload": payload}


def left_by(summary: TaskSummary) -> Mapping[str, str]:
    """What an undo left as it is, by name, with the reason."""
    steps: tuple[StepSummary, ...] = tuple(summary.steps)
    return {name: reason for step in steps if step.type == DEFINITION for name, reason in step.left.items()}
