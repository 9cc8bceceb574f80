"""Undoes tasks: `plan_undo` returns the plan of an undo; `undo_task` runs the undo.

The setting `trash_ttl_seconds` limits for how long removed files can return. `storage.upkeep.retention` decides when
the journal of a task is removed.
"""

from collections.abc import Mapping
from typing import Any, Final

import flows.api.start
from flows.planning.plan import Plan, plan_task
from flows.process.runtime import Runtime
from flows.starting.in_thread import in_thread
from flows.undoing.task_to_undo import NothingToUndo, task_to_undo
from storage.history.undo_entries import UNDO, count_undoable
from storage.queue.tasks import TasksRepository
from storage.reports.task_summary import TaskSummary

#: The name of the built-in definition that undoes a task.
DEFINITION: Final = "undo"


def plan_undo(task_id: str, *, tenant_id: str | None = None) -> Plan:
    """Return the plan of an undo; change no file and no row.

    `plan.steps[0].left` has the names of the files and rows that cannot be restored, each with the reason: the trash
    was emptied, another file has the name, or the file or row was changed after the task.

    Args:
        task_id: the id of an ended task.
        tenant_id: the tenant that the task must belong to.

    Raises:
        NothingToUndo: the task does not exist for the tenant, has not ended, or has nothing to undo.
    """
    return plan_task(**undo_arguments(task_id, tenant_id=tenant_id))


def undo_task(task_id: str, *, tenant_id: str | None = None, source: str = "user") -> TaskSummary:
    """Undo the moves, removals, renames and changes of a task. The undo is a new task that runs in this process.

    Files return to their former places, and rows are restored with their ids and tags. Nothing is overwritten. An undo
    can itself be undone. `left_by` returns the files and rows that could not be restored.

    Args:
        task_id: the id of an ended task.
        tenant_id: the tenant that the task must belong to.
        source: the program or person that asks for the undo.

    Raises:
        NothingToUndo: the task does not exist for the tenant, has not ended, or has nothing to undo.
        RunBroken: the flow run of the undo ended before the undo; see `run_task`.
    """
    return flows.api.start.run_task(**undo_arguments(task_id, tenant_id=tenant_id), source=source)


aplan_undo = in_thread(plan_undo)
aundo_task = in_thread(undo_task)


def undo_arguments(task_id: str, *, tenant_id: str | None = None) -> dict[str, Any]:
    """Return the arguments with which `start_task`, `run_task` or `plan_task` undoes a task.

    Raises:
        NothingToUndo: the task does not exist for the tenant, has not ended, or has nothing to undo.
    """
    database = Runtime.current().database
    known = TasksRepository(database).get_by_id(task_id)
    owner = tenant_id or (known.tenant_id if known is not None else "")
    payload = {UNDO: task_id}
    task_to_undo(payload, tenant_id=owner, source=database)
    with database.connect() as connection:
        is_undoable = bool(count_undoable(connection, task_id=task_id))
    if not is_undoable:
        raise NothingToUndo(
            f"task {task_id} has nothing to undo: it changed nothing, is already undone, or its journal was pruned. "
            f"`photojobs tasks show {task_id}` shows what it did."
        )
    return {"type": DEFINITION, "tenant_id": owner, "payload": payload}


def left_by(summary: TaskSummary) -> Mapping[str, str]:
    """Return the names of the files and rows that an undo could not restore, each with the reason."""
    return {name: reason for step in summary.steps if step.type == DEFINITION for name, reason in step.left.items()}
