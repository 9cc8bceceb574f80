"""The compiler of definitions: it makes a Prefect flow with the definition's name and the parameters of its scope.

`_run` decides which flow runs refuse to start beside another task of their kind. `storage.queue.new_tasks` decides what
counts as another task of the same kind. A start by a command or by `start_task` is never refused for this
reason. `flows.orchestration.flow_parameters` checks the values of parameters.
"""

import uuid
from collections.abc import Callable
from functools import lru_cache
from inspect import Parameter, Signature
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner

from flows.handlers.step import handler_of
from flows.orchestration.artifacts import await_publication, publish_plan
from flows.orchestration.dask_cluster import dask_task_runner
from flows.orchestration.flow_parameters import (
    Destination,
    Force,
    IsPlan,
    Items,
    Payload,
    ProjectId,
    Reason,
    Selection,
    Source,
    TaskId,
    TaskToUndo,
    TenantId,
    checked_parameters,
    mistake,
    parameters_model,
)
from flows.orchestration.job_task_runner import JobTaskRunner
from flows.orchestration.supervision import watch_supervisor
from flows.orchestration.task_flow import cancel_with_flow_run, resume_task
from flows.planning.plan import make_plan
from flows.process.database_retry import retry_while_unavailable
from flows.process.runtime import Runtime
from flows.starting.deployment_names import CATALOG, SCHEDULE_SOURCE, flow_run_name
from flows.starting.new_task import new_task
from flows.starting.start_targets import check_tenant
from storage.default_tenant import DEFAULT_TENANT
from storage.errors import AlreadyRunning, InvalidValue
from storage.history.undo_entries import UNDO, UNDO_STEP
from storage.photos.projects import ProjectsRepository
from storage.queue.tasks import TasksRepository
from task_definitions import Scope, TaskDefinition
from task_definitions.errors import PhotojobsError
from task_definitions.step_types import step_types

#: The parameters of every compiled flow, except that the flow of an undo has no `force`.
_EVERYWHERE: dict[str, tuple[Any, Any]] = {
    "tenant_id": (TenantId, DEFAULT_TENANT),
    "force": (Force, False),
    "reason": (Reason, None),
    "payload": (Payload, None),
    "source": (Source, "user"),
    "task_id": (TaskId, None),
    "plan": (IsPlan, False),
}
_PHOTO_SET: dict[str, tuple[Any, Any]] = {
    "items": (Items, None),
    "select": (Selection, None),
    "project_id": (Destination, None),
}

#: The further parameters of each scope. They come before the parameters of every flow.
_OF_SCOPE: dict[Scope | None, dict[str, tuple[Any, Any]]] = {
    Scope.PROJECT: {"project_id": (ProjectId, Parameter.empty)},
    Scope.PHOTO_SET: _PHOTO_SET,
    Scope.GLOBAL: {},
    # A definition without a scope accepts a project or photos.
    None: _PHOTO_SET,
}


def compile_task(definition: TaskDefinition) -> Flow[..., Any]:
    """Return the Prefect flow of a definition.

    The flow has the name of the definition; its description is the label with the steps. Its parameters depend on the
    scope: `project` needs a project, `photo_set` takes items or a selection, `global` takes neither. Each step is a
    Prefect task, mapped over job ids. The Prefect task has the name of the step's type, and the step's priority and
    lane as tags.

    Raises:
        MissingHandler: a step's type has no handler in this installation.
        MissingDask: the settings ask for a Dask cluster, and the extra for it is not installed.
    """
    for step in definition.steps:
        handler_of(step.type)
    settings = Runtime.current_settings()
    if settings.task_runner == "dask":
        return _new_flow(definition, dask_task_runner(settings))
    return _flow_in_threads(definition)


@lru_cache(maxsize=64)
def _flow_in_threads(definition: TaskDefinition) -> Flow[..., Any]:
    # The flow is cached, because making a flow takes as long as all of Prefect's work for one run of it.
    return _new_flow(definition, JobTaskRunner())


def _new_flow(definition: TaskDefinition, task_runner: TaskRunner[PrefectFuture[Any]]) -> Flow[..., Any]:
    function = _flow_function(definition)
    function.__name__ = function.__qualname__ = definition.name
    function.__doc__ = describe(definition)
    # Prefect finds a compiled flow again by its name in the module `flows.catalog`.
    function.__module__ = CATALOG
    return Flow(
        fn=function,
        name=definition.name,
        description=describe(definition),
        flow_run_name=_flow_run_name,
        task_runner=task_runner,
        persist_result=False,
        on_cancellation=[cancel_with_flow_run],
        # `_flow_function` validates the parameters, and reports mistakes in one sentence, so Prefect need not validate
        # them.
        validate_parameters=False,
    )


def describe(definition: TaskDefinition) -> str:
    """Return the label, the description and the steps of a definition, with their priorities, as Markdown."""
    known = step_types()
    lines = [f"{definition.label}", ""]
    if definition.description:
        lines += [definition.description, ""]
    for number, step in enumerate(definition.steps, start=1):
        summary = known[step.type].summary if step.type in known else ""
        lines.append(f"{number}. `{step.type}` (priority {step.priority}): {summary}")
    return "\n".join(lines)


def _flow_function(definition: TaskDefinition) -> Callable[..., State[Any]]:
    parameters = {**_OF_SCOPE[definition.scope], **_EVERYWHERE}
    if definition.scope is Scope.GLOBAL and any(step.type == UNDO_STEP for step in definition.steps):
        parameters = {UNDO: (TaskToUndo, None), **parameters}
        del parameters["force"]
    signature = Signature(
        [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation, default=default)
            for name, (annotation, default) in parameters.items()
        ]
    )

    def run(*arguments: Any, **named: Any) -> Any:
        given = signature.bind(*arguments, **named).arguments
        settings = Runtime.current_settings()
        watch_supervisor(end_within_seconds=settings.drain_seconds)
        try:
            checked = checked_parameters(model, given)
            # The database may be unavailable at the time of a scheduled run, for example because it is restarted.
            runtime = retry_while_unavailable(Runtime.current, give_up_seconds=settings.stale_seconds)
            return _run(definition, checked, runtime)
        except PhotojobsError as error:
            # The user of the form gets one sentence; a traceback would not help.
            return Failed(message=mistake(model, error, given=given))

    # Prefect and its forms read the signature.
    run.__signature__ = signature  # type: ignore[attr-defined]
    model = parameters_model(run)
    return run


def _run(definition: TaskDefinition, given: dict[str, Any], runtime: Runtime) -> State[Any]:
    flow_run_id = flow_run.id
    tenant_id, is_plan = given["tenant_id"], given["plan"]
    task_id = given["task_id"] or flow_run_id or str(uuid.uuid4())
    tasks = TasksRepository(runtime.database)
    if not is_plan and tasks.get_by_id(task_id) is not None:
        return resume_task(tasks.get(task_id, tenant_id=tenant_id).id, runtime)
    project_id = given.get("project_id")
    if project_id is not None:
        project_id = ProjectsRepository(runtime.database).find(project_id, tenant_id=tenant_id)
    items, select = given.get("items"), given.get("select")
    is_for_photos = definition.scope is Scope.PHOTO_SET or (definition.scope is None and project_id is None)
    is_chosen = select is not None and (select.every_photo or bool(select.criteria))
    if (select is not None or (is_for_photos and items is None)) and not is_chosen:
        # A form whose switches were turned on and off again sends an empty selection, which must not mean all photos.
        raise InvalidValue("select", 'no photo is chosen; to take all photos, turn on "Every photo"')
    payload = {
        **(given["payload"] or {}),
        **({"force": True} if given.get("force") else {}),
        **({"reason": given["reason"]} if given["reason"] else {}),
        **({UNDO: given[UNDO]} if given.get(UNDO) else {}),
    }
    new = new_task(
        definition,
        task_id=task_id,
        tenant_id=tenant_id,
        project_id=project_id,
        items=None if items is None else [item.model_dump(exclude_none=True) for item in items],
        selection=select,
        payload=payload or given["payload"],
        source=given["source"],
        flow_run_id=flow_run_id,
        # Two scheduled or global tasks of the same definition would do the same work twice at the same time.
        is_exclusive=given["source"] == SCHEDULE_SOURCE or definition.scope is Scope.GLOBAL,
    )
    check_tenant(new, runtime.database)
    if is_plan:
        plan = make_plan(runtime, new)
        publish_plan(plan)
        await_publication()
        return Completed(message=plan.message)
    try:
        tasks.start(new)
    except AlreadyRunning as error:
        return Completed(name="Skipped", message=str(error))
    return resume_task(task_id, runtime)


def _flow_run_name() -> str:
    return flow_run_name(str(flow_run.flow_name), flow_run.parameters)
