"""Following and steering tasks from programs: status, cancel, retry, hold and release.

Each call opens the database of the settings, or joins the transaction of the `connection` that it is given. With a
`tenant_id`, another tenant's task is as unknown as one that does not exist. All but what asks Prefect
(`retry_task` without a connection) is a handful of statements.
"""

from __future__ import annotations

from sqlalchemy import Connection

from flows.process.runtime import Runtime
from flows.starting.in_thread import in_thread
from flows.starting.outbox import ask_after_commit, ask_now
from storage.database.engine import Database
from storage.errors import InvalidValue, TaskConflict
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.queue.holds import Hold, HoldKind, HoldsRepository
from storage.queue.tasks import TasksRepository
from storage.records import Task
from storage.reports.task_summary import TaskSummary, summarise_task
from task_definitions.wording import did_you_mean, listed, shown


def task_status(task_id: str, *, tenant_id: str | None = None, connection: Connection | None = None) -> TaskSummary:
    """Where a task stands: its row, and its jobs and items counted step by step.

    Args:
        task_id: as `start_task` returned it.
        tenant_id: whose task it must be.
        connection: a transaction to read in.

    Raises:
        UnknownTask: there is no such task, or it is another tenant's.
    """
    source = _source(connection)
    TasksRepository(source).get(task_id, tenant_id=tenant_id)
    return summarise_task(source, task_id)


def cancel_task(
    task_id: str,
    *,
    reason: str | None = None,
    tenant_id: str | None = None,
    connection: Connection | None = None,
) -> TaskSummary:
    """End a task with all its queued and running jobs; a task that has ended stays as it is.

    What is done stays done. A handler at work stops at its next checkpoint, and a flow run that follows the task ends
    as Cancelled.

    Args:
        task_id: as `start_task` returned it.
        reason: what the rows of the task and its jobs say.
        tenant_id: whose task it must be.
        connection: a transaction to join; nothing is canceled where it does not commit.

    Raises:
        UnknownTask: there is no such task, or it is another tenant's.
    """
    source = _source(connection)
    tasks = TasksRepository(source)
    tasks.get(task_id, tenant_id=tenant_id)
    tasks.cancel(task_id, reason=reason)
    return summarise_task(source, task_id)


def retry_task(
    task_id: str,
    *,
    from_step: int | str | None = None,
    tenant_id: str | None = None,
    connection: Connection | None = None,
) -> TaskSummary:
    """Run again what failed or was canceled of a task that has ended; items that are done stay done.

    Like `start_task` it asks Prefect for a flow run, as well as it can; without one, `photojobs up` or a worker goes
    on with the task.

    Args:
        task_id: as `start_task` returned it.
        from_step: run everything again from this step on: its index from 0, or its type.
        tenant_id: whose task it must be.
        connection: a transaction to join; Prefect is asked when it commits.

    Raises:
        UnknownTask: there is no such task, or it is another tenant's.
        TaskConflict: the task has not ended, nothing of it failed, or it has no such step.
    """
    source = _source(connection)
    tasks = TasksRepository(source)
    task = tasks.get(task_id, tenant_id=tenant_id)
    task = tasks.retry(task_id, from_step=_step_index(task, from_step) if isinstance(from_step, str) else from_step)
    if connection is None:
        ask_now(tasks, task)
    else:
        ask_after_commit(connection, task)
    return summarise_task(source, task_id)


def hold(
    kind: HoldKind | str,
    name: str,
    *,
    reason: str | None = None,
    tenant_id: str | None = None,
    connection: Connection | None = None,
) -> Hold:
    """Keep the jobs of a task, a tenant or a lane from starting; what runs goes on, what is queued stays queued.

    Args:
        kind: `task`, `tenant` or `lane`.
        name: the task's id, the tenant's id or the lane's name.
        reason: what `photojobs status` shows.
        tenant_id: whose task it must be, or which tenant; a lane is every tenant's, and refused.
        connection: a transaction to join.

    Raises:
        InvalidValue: the kind is none of the three, a text cannot be stored, or it is not the tenant's to hold.
        UnknownTask: there is no such task, or it is another tenant's.
        UnknownLane: there is no such lane.
    """
    source = _source(connection)
    _check_holder(source, kind, name, tenant_id)
    return HoldsRepository(source).hold(kind, name, reason)


def release(
    kind: HoldKind | str, name: str, *, tenant_id: str | None = None, connection: Connection | None = None
) -> bool:
    """Let the jobs start again, but for those under another hold; False where there was no such hold.

    Args:
        kind: `task`, `tenant` or `lane`.
        name: the task's id, the tenant's id or the lane's name.
        tenant_id: as in `hold`.
        connection: a transaction to join.

    Raises:
        InvalidValue: the kind is none of `task`, `tenant` and `lane`, or it is not the tenant's to release.
        UnknownTask: with `tenant_id`: there is no such task, or it is another tenant's.
    """
    source = _source(connection)
    _check_holder(source, kind, name, tenant_id)
    return HoldsRepository(source).release(kind, name)


atask_status = in_thread(task_status)
acancel_task = in_thread(cancel_task)
aretry_task = in_thread(retry_task)
ahold = in_thread(hold)
arelease = in_thread(release)


def _source(connection: Connection | None) -> Database | Connection:
    return connection if connection is not None else Runtime.current().database


def _check_holder(source: Database | Connection, kind: HoldKind | str, name: str, tenant_id: str | None) -> None:
    if tenant_id is None:
        return
    if kind == HoldKind.TASK:
        TasksRepository(source).get(name, tenant_id=tenant_id)
    elif kind == HoldKind.LANE or (kind == HoldKind.TENANT and name != tenant_id):
        raise InvalidValue("name", f"{kind} {shown(name)} is not tenant {shown(tenant_id)}'s to hold or release")


def _step_index(task: Task, step: str) -> int:
    types = [step.type for step in PinnedDefinition.from_json(task.definition_json).steps]
    if step not in types:
        raise TaskConflict(
            f"{shown(step)} is not a step of task {task.id}.{did_you_mean(step, types)} "
            f"Its steps are {listed(types, last='and')}."
        )
    return types.index(step)
