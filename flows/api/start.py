"""Starts tasks: `start_task` writes a task and asks Prefect to run it; `run_task` runs the task in this process.

`flows.starting.outbox` decides when Prefect is asked. The functions of this module do not make the checks in
`flows.starting.start_targets`, which commands and flow runs make.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from flows.errors import RunBroken
from flows.process.runtime import Runtime
from flows.starting.in_thread import in_thread
from flows.starting.known_definitions import find_definition
from flows.starting.new_task import new_task
from flows.starting.outbox import ask_prefect
from storage.database.engine import Database
from storage.photos.photo_selection import PhotoSelection
from storage.queue.new_tasks import NewTask
from storage.queue.tasks import TasksRepository
from storage.reports.task_summary import TaskSummary, summarize_task
from task_definitions import TaskDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedTask:
    """A task that `start_task` has written, or found by its `task_id`.

    Attributes:
        job_ids: the ids of the jobs of its first step, in chunk order.
        total_chunks: the number of these jobs.
        flow_run_id: the id of the requested Prefect flow run; None if Prefect started none, or is asked after the
            commit of the caller. `photojobs up` or a worker also runs a task without a flow run.
    """

    task_id: str
    type: str
    job_ids: tuple[int, ...]
    total_chunks: int
    flow_run_id: str | None


def start_task(
    *,
    type: str | TaskDefinition,
    tenant_id: str,
    scope: str | None = None,
    project_id: int | None = None,
    items: Iterable[Mapping[str, Any]] | None = None,
    select: PhotoSelection | None = None,
    payload: Mapping[str, Any] | None = None,
    source: str = "user",
    task_id: str | None = None,
    connection: Connection | None = None,
) -> StartedTask:
    """Write a task with the jobs of its first step, then ask Prefect for a flow run.

    If Prefect cannot be reached, the task is still in the database, and `photojobs up` or `photojobs worker` runs it.
    The call raises no error after the task is written.

    Args:
        type: the name of a definition, or a definition.
        tenant_id: the tenant whose photos the task works on.
        scope: the scope of the task, if the definition names none. By default, it is `project` if a project is given,
            else `photo_set`.
        project_id: the project of a task with scope `project`, or the project that a task moves photos to.
        items: the photos of a task with scope `photo_set`: an iterable, of any length, of mappings with `photo_id` or
            `filename`.
        select: the selection of photos, as an alternative to `items`.
        payload: data that every job of the task receives.
        source: the program or person that asks for the task.
        task_id: an id that the caller chooses. A second call with the same id starts no second task.
        connection: a connection whose transaction the call joins. Prefect is asked after the commit; after a rollback,
            nothing is started.

    Raises:
        UnknownDefinition: there is no valid definition of that name.
        ScopeError: the scope or the project does not fit the definition.
        UnknownProject: the project does not exist for the tenant.
        UnknownPhoto: an item does not exist for the tenant.
        UnknownTask: a task with this `task_id` belongs to another tenant.
        MissingHandler: a step's type has no handler in this installation.
        NothingToUndo: the definition undoes a task, but the payload names no task.
        TaskConflict: the definition undoes a task that has not ended.
        InvalidValue: a value cannot be stored, or photos are missing or not allowed for the scope.
    """
    access: Database | Connection = connection if connection is not None else Runtime.current().database
    new = new_task(
        find_definition(type),
        task_id=task_id,
        tenant_id=tenant_id,
        scope=scope,
        project_id=project_id,
        items=items,
        selection=select,
        payload=payload,
        source=source,
    )
    repository = TasksRepository(access)
    written = repository.start_with_jobs(new)
    task, job_ids = written.task, written.job_ids
    return StartedTask(
        task_id=task.id,
        type=task.type,
        job_ids=job_ids,
        total_chunks=len(job_ids),
        flow_run_id=ask_prefect(repository, task, connection),
    )


def run_task(
    *,
    type: str | TaskDefinition,
    tenant_id: str,
    scope: str | None = None,
    project_id: int | None = None,
    items: Iterable[Mapping[str, Any]] | None = None,
    select: PhotoSelection | None = None,
    payload: Mapping[str, Any] | None = None,
    source: str = "user",
    task_id: str | None = None,
) -> TaskSummary:
    """Start a task like `start_task`, run its flow in this process, and return the summary of the task.

    Inside another flow, the task runs as a subflow. The summary is read from the database after the task has ended:
    `summary.task.status` is `completed`, `failed` or `canceled`. A failed or canceled task raises no error.

    Raises:
        RunBroken: the flow run ended before the task ended. `photojobs up` or a worker continues the task.
        PhotojobsError: any error of `start_task`; nothing was written.
    """
    new = new_task(
        find_definition(type),
        task_id=task_id,
        tenant_id=tenant_id,
        scope=scope,
        project_id=project_id,
        items=items,
        selection=select,
        payload=payload,
        source=source,
    )
    return run_new(new, Runtime.current())


def run_new(new: NewTask, runtime: Runtime) -> TaskSummary:
    """Start a task whose arguments `new_task` has checked, and run its flow; see `run_task`."""
    from flows.orchestration.compiler import compile_task

    flow = compile_task(new.definition.definition)
    # The task is written before the flow starts, so that Prefect gets only the task's id and not the list of items.
    task = TasksRepository(runtime.database).start(new)
    parameters: dict[str, Any] = {"tenant_id": new.tenant_id, "source": new.source, "task_id": task.id}
    if new.project_id is not None:
        parameters["project_id"] = new.project_id
    with runtime.as_current():
        state: Any = flow(**parameters, return_state=True)
    summary = summarize_task(runtime.database, task.id)
    if not summary.task.is_final:
        raise RunBroken(task.id, status=summary.task.status, state=f"{state.name}: {state.message or 'no message'}")
    return summary


astart_task = in_thread(start_task)
arun_task = in_thread(run_task)
