"""Starting tasks from programs: `start_task` writes a task and asks Prefect to run it, `run_task` runs it here."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from flows.errors import RunBroken
from flows.process.runtime import Runtime
from flows.starting.in_thread import in_thread
from flows.starting.known_definitions import find_definition
from flows.starting.new_task import new_task
from flows.starting.outbox import ask_after_commit, ask_now
from storage.database.engine import Database
from storage.photos.photo_selection import PhotoSelection
from storage.queue.tasks import TasksRepository
from storage.reports.task_summary import TaskSummary, summarise_task
from task_definitions import TaskDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedTask:
    """A task that has been written and will run.

    Attributes:
        job_ids: the jobs of its first step, in chunk order.
        total_chunks: how many there are.
        flow_run_id: the Prefect flow run that was asked for; None where Prefect could not be asked, so that
            `photojobs up` or a worker takes the task up.
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
    """Write a task with the jobs of its first step, and only then ask Prefect for a flow run.

    If Prefect is away nothing is lost: the task is in the database, and `photojobs up` or `photojobs worker` runs it.
    Once the task is written, nothing raises any more.

    Args:
        type: the name of a definition, or a definition.
        tenant_id: whose photos.
        scope: only where the definition has none of its own.
        project_id: for scope `project`; the destination of a move.
        items: the photos of a `photo_set`, mappings with `photo_id` or `filename`; any iterable of any length.
        select: in place of `items`: which photos.
        payload: handed to every job.
        source: who asked.
        task_id: an id of the caller's; a task of that id is not started twice.
        connection: a transaction to join; Prefect is asked when it commits, and nothing happens when it does not.

    Raises:
        UnknownDefinition: there is no definition of that name.
        ScopeError: scope and project do not fit the definition.
        UnknownProject: the project does not exist for the tenant.
        UnknownPhoto: an item does not exist for the tenant.
        InvalidValue: a value cannot be stored.
    """
    definition = find_definition(type)
    access: Database | Connection = connection if connection is not None else Runtime.current().database
    new = new_task(
        definition,
        task_id=task_id or str(uuid.uuid4()),
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
    flow_run_id = None
    if connection is None:
        flow_run_id = ask_now(repository, task)
    else:
        ask_after_commit(connection, task)
    return StartedTask(
        task_id=task.id,
        type=task.type,
        job_ids=job_ids,
        total_chunks=len(job_ids),
        flow_run_id=flow_run_id,
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
    """Start a task as `start_task` does, run its flow in this process, and return what it did.

    Called inside another flow, it is a subflow of it. The summary is read from the tables after the task has ended:
    `summary.task.status` is `completed`, `failed` or `canceled`, and none of them raises.

    Raises:
        RunBroken: the flow run ended before the task did; the task goes on under `photojobs up` or a worker.
        PhotojobsError: what `start_task` raises, before anything is written.
    """
    from flows.orchestration.compiler import compile_task

    definition = find_definition(type)
    runtime = Runtime.current()
    new = new_task(
        definition,
        task_id=task_id or str(uuid.uuid4()),
        tenant_id=tenant_id,
        scope=scope,
        project_id=project_id,
        items=items,
        selection=select,
        payload=payload,
        source=source,
    )
    # Written first: a list of items never travels through Prefect.
    task = TasksRepository(runtime.database).start(new)
    flow = compile_task(definition)
    parameters: dict[str, Any] = {"tenant_id": tenant_id, "source": source, "task_id": task.id}
    if project_id is not None:
        parameters["project_id"] = project_id
    with runtime.as_current():
        state: Any = flow(**parameters, return_state=True)
    summary = summarise_task(runtime.database, task.id)
    if not summary.task.is_final:
        raise RunBroken(task.id, status=summary.task.status, state=f"{state.name}: {state.message or 'no message'}")
    return summary


astart_task = in_thread(start_task)
arun_task = in_thread(run_task)
