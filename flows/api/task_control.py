"""Functions that inspect and control tasks: status, cancel, retry, hold and release.

Each function uses the database of the settings, or joins the transaction of the given `connection`. If `tenant_id` is
given, a task of another tenant counts as unknown. Each call runs a few SQL statements; only `retry_task` without a
connection also waits for Prefect. `storage.lifecycle.state_machine` decides what canceling and retrying do to the jobs
of a task, and `storage.queue.holds` what a hold does.
"""

from sqlalchemy import Connection

from flows.process.runtime import Runtime
from flows.starting.in_thread import in_thread
from flows.starting.outbox import ask_prefect
from storage.database.engine import Database
from storage.errors import InvalidValue, TaskConflict
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.queue.holds import Hold, HoldKind, HoldsRepository
from storage.queue.tasks import TasksRepository
from storage.records import Task
from storage.reports.task_summary import TaskSummary, summarize_task
from task_definitions.wording import did_you_mean, listed, shown


def task_status(task_id: str, *, tenant_id: str | None = None, connection: Connection | None = None) -> TaskSummary:
    """Return the state of a task: its row, and the counts of jobs and items of each step.

    The call reads in the transaction of `connection`, if it is given.

    Raises:
        UnknownTask: the task does not exist, or belongs to another tenant.
    """
    source = _source(connection)
    TasksRepository(source).get(task_id, tenant_id=tenant_id)
    return summarize_task(source, task_id)


def cancel_task(
    task_id: str,
    *,
    reason: str | None = None,
    tenant_id: str | None = None,
    connection: Connection | None = None,
) -> TaskSummary:
    """Cancel a task with all its queued and running jobs. A task that has ended does not change.

    Finished work is kept. A running handler stops at its next checkpoint. The flow run of the task ends as Cancelled.
    The rows of the task and its jobs store the reason. The call joins the transaction of `connection`, if it is given;
    after a rollback, nothing is canceled.

    Raises:
        UnknownTask: the task does not exist, or belongs to another tenant.
    """
    source = _source(connection)
    tasks = TasksRepository(source)
    tasks.get(task_id, tenant_id=tenant_id)
    tasks.cancel(task_id, reason=reason)
    return summarize_task(source, task_id)


def retry_task(
    task_id: str,
    *,
    from_step: int | str | None = None,
    tenant_id: str | None = None,
    connection: Connection | None = None,
) -> TaskSummary:
    """Run the failed and canceled jobs of an ended task again. Items that are done are not repeated.

    If `from_step` is given, as the index of a step from 0 or as its type, all jobs from this step on run again, even if
    they completed.

    The function asks Prefect for a flow run, as `start_task` does. If Prefect cannot be reached, `photojobs up` or a
    worker continues the task. The call joins the transaction of `connection`, if it is given; Prefect is asked after
    the commit.

    Raises:
        UnknownTask: the task does not exist, or belongs to another tenant.
        TaskConflict: the task has not ended; it has no failed or canceled job, and no `from_step` is given; it has no
            step `from_step`; or rows of other programs depend on a job that would be replaced.
    """
    source = _source(connection)
    tasks = TasksRepository(source)
    task = tasks.get(task_id, tenant_id=tenant_id)
    task = tasks.retry(task_id, from_step=_step_index(task, from_step) if isinstance(from_step, str) else from_step)
    ask_prefect(tasks, task, connection)
    return summarize_task(source, task_id)


def hold(
    kind: HoldKind | str,
    name: str,
    *,
    reason: str | None = None,
    tenant_id: str | None = None,
    connection: Connection | None = None,
) -> Hold:
    """Keep the queued jobs of a task, a tenant or a lane from starting. Running jobs continue.

    `name` is the id of the task, the id of the tenant or the name of the lane. `photojobs status` shows the reason. If
    `tenant_id` is given, the call refuses other tenants, their tasks, and all lanes, because a lane serves all tenants.
    The call joins the transaction of `connection`, if it is given.

    Raises:
        InvalidValue: the kind is unknown, a text cannot be stored, or the tenant may not hold this task, tenant or
            lane.
        UnknownTask: the task does not exist, or belongs to another tenant.
        UnknownLane: the lane does not exist.
    """
    source = _source(connection)
    _check_holder(source, kind, name, tenant_id)
    return HoldsRepository(source).hold(kind, name, reason)


def release(
    kind: HoldKind | str, name: str, *, tenant_id: str | None = None, connection: Connection | None = None
) -> bool:
    """Remove a hold, and return whether it existed. The jobs that it kept from starting can start again.

    A job that another hold also applies to still waits. The arguments have the same meaning as in `hold`.

    Raises:
        InvalidValue: the kind is not `task`, `tenant` or `lane`, or the tenant may not release this hold.
        UnknownTask: `tenant_id` is given, and the task does not exist or belongs to another tenant.
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
        raise InvalidValue(
            "name",
            f"tenant {shown(tenant_id)} may hold or release only itself and its tasks, not {kind} {shown(name)}. Name "
            "this tenant or one of its tasks.",
        )


def _step_index(task: Task, step: str) -> int:
    types = [step.type for step in PinnedDefinition.from_json(task.definition_json).steps]
    if step not in types:
        raise TaskConflict(
            f"{shown(step)} is not a step of task {task.id}.{did_you_mean(step, types)} "
            f"Its steps are {listed(types, last='and')}."
        )
    return types.index(step)
