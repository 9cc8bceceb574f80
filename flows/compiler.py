"""Definition in, Prefect flow out: named by the definition, with the typed parameters that its scope asks for."""

import uuid
from collections.abc import Callable
from typing import Annotated, Any

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import BaseModel, ConfigDict, Field

from flows.artifacts import await_publication, publish_plan
from flows.deployment_names import SCHEDULE_SOURCE
from flows.mapped_runs import task_runner_of
from flows.new_task import new_task
from flows.planning.plan import make_plan
from flows.runtime import Runtime
from flows.step import handler_of
from flows.supervision import watch_supervisor
from flows.task_flow import cancel_with_flow_run, resume_task
from flows.undoing.task_to_undo import UNDO, UNDO_STEP
from storage.errors import AlreadyRunning
from storage.photo_selection import PhotoSelection
from storage.projects import ProjectsRepository
from storage.step_jobs import DEFAULT_TENANT
from storage.tasks import TasksRepository
from task_definitions import Scope, TaskDefinition
from task_definitions.step_types import step_types


class Item(BaseModel):
    """One photo of a photo set."""

    model_config = ConfigDict(extra="forbid")

    photo_id: int | None = Field(default=None, ge=1, description="The photo's id.")
    filename: str | None = Field(default=None, description="Its base name; by itself it needs a project.")


TenantId = Annotated[str, Field(title="Tenant", description="Whose photos.", min_length=1, max_length=255)]
ProjectId = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1, max_length=300)],
    Field(title="Project", description="By its id, its name, or both as in Alps (#12)."),
]
Destination = Annotated[
    ProjectId | None,
    Field(title="Project", description="Where a move puts the photos, or where those lie that only a filename names."),
]
Items = Annotated[
    list[Item] | None,
    Field(title="Photos, one by one", description="Leave it empty where the photos are selected by what is known."),
]
Selection = Annotated[
    PhotoSelection | None,
    Field(title="Photos, selected", description="By what is known of them; all that is chosen must hold."),
]
Force = Annotated[bool, Field(title="Force", description="Do again what is done already, too.")]
Reason = Annotated[
    str | None,
    Field(title="Reason", description="Why, for those who read it later; kept with the task.", max_length=500),
]
Payload = Annotated[
    dict[str, Any] | None, Field(title="Payload", description="Handed to every job; handlers document what they read.")
]
Source = Annotated[str, Field(title="Source", description="Who asked for it, for example user or maintenance.")]
IsPlan = Annotated[bool, Field(title="Plan", description="Only show what it would do, in an artifact; change nothing.")]
TaskToUndo = Annotated[
    str | None, Field(title="Task to undo", description="The id of the task that is to be taken back.", min_length=1)
]
TaskId = Annotated[str | None, Field(title="Task id", description="Leave empty; names a task that was started before.")]


def compile_task(definition: TaskDefinition) -> Flow[..., Any]:
    """The Prefect flow of a definition.

    Its name is the definition's, its description the label with the steps, and its parameters follow from the scope:
    `project` needs a project, `photo_set` takes items or a selection, `global` neither. Each step is a Prefect task
    named by its type, tagged with its priority and lane, and mapped over the ids of its jobs.

    Raises:
        MissingHandler: a step's type has no handler in this installation.
        MissingDask: the settings ask for a Dask cluster, and the extra for it is not installed.
    """
    for step in definition.steps:
        handler_of(step.type)
    undoes = definition.scope is Scope.GLOBAL and any(step.type == UNDO_STEP for step in definition.steps)
    function = _undo_flow(definition) if undoes else _FUNCTIONS[definition.scope](definition)
    function.__name__ = function.__qualname__ = definition.name
    function.__doc__ = describe(definition)
    # A compiled flow is found again by its name in the module `flows.catalog`.
    function.__module__ = "flows.catalog"
    return Flow(
        fn=function,
        name=definition.name,
        description=describe(definition),
        flow_run_name=_flow_run_name,
        task_runner=task_runner_of(Runtime.current_settings()),
        persist_result=False,
        on_cancellation=[cancel_with_flow_run],
        validate_parameters=True,
    )


def describe(definition: TaskDefinition) -> str:
    """The label, what the definition is for, and its steps with their priorities, as Markdown."""
    known = step_types()
    lines = [f"{definition.label}", ""]
    if definition.description:
        lines += [definition.description, ""]
    for number, step in enumerate(definition.steps, start=1):
        summary = known[step.type].summary if step.type in known else ""
        lines.append(f"{number}. `{step.type}` (priority {step.priority}): {summary}")
    return "\n".join(lines)


def _run(
    definition: TaskDefinition,
    *,
    task_id: str | None,
    tenant_id: str,
    project_id: int | str | None = None,
    items: list[Item] | None = None,
    select: PhotoSelection | None = None,
    force: bool,
    reason: str | None,
    payload: dict[str, Any] | None,
    source: str,
    is_plan: bool,
) -> State[Any]:
    watch_supervisor(end_within_seconds=Runtime.current_settings().drain_seconds)
    runtime = Runtime.current()
    flow_run_id = flow_run.id
    task_id = task_id or flow_run_id or str(uuid.uuid4())
    if not is_plan and TasksRepository(runtime.database).get_by_id(task_id) is not None:
        return resume_task(task_id, runtime)
    if project_id is not None:
        project_id = ProjectsRepository(runtime.database).find(project_id, tenant_id=tenant_id)
    given: dict[str, Any] = {"force": True} if force else {}
    if reason:
        given["reason"] = reason
    new = new_task(
        definition,
        task_id=task_id,
        tenant_id=tenant_id,
        project_id=project_id,
        items=None if items is None else [item.model_dump(exclude_none=True) for item in items],
        selection=select,
        payload={**(payload or {}), **given} or payload,
        source=source,
        flow_run_id=flow_run_id,
        # What goes over everything would do the same work twice, whoever asked the second time.
        is_exclusive=source == SCHEDULE_SOURCE or definition.scope is Scope.GLOBAL,
    )
    if is_plan:
        plan = make_plan(runtime, new)
        publish_plan(plan)
        await_publication()
        return Completed(message=plan.message)
    try:
        TasksRepository(runtime.database).start(new)
    except AlreadyRunning as error:
        return Completed(name="Skipped", message=str(error))
    return resume_task(task_id, runtime)


def _project_flow(definition: TaskDefinition) -> Callable[..., State[Any]]:
    def run(
        project_id: ProjectId,
        tenant_id: TenantId = DEFAULT_TENANT,
        force: Force = False,
        reason: Reason = None,
        payload: Payload = None,
        source: Source = "user",
        task_id: TaskId = None,
        plan: IsPlan = False,
    ) -> Any:
        return _run(
            definition,
            task_id=task_id,
            tenant_id=tenant_id,
            project_id=project_id,
            force=force,
            reason=reason,
            payload=payload,
            source=source,
            is_plan=plan,
        )

    return run


def _photo_set_flow(definition: TaskDefinition) -> Callable[..., State[Any]]:
    def run(
        items: Items = None,
        select: Selection = None,
        project_id: Destination = None,
        tenant_id: TenantId = DEFAULT_TENANT,
        force: Force = False,
        reason: Reason = None,
        payload: Payload = None,
        source: Source = "user",
        task_id: TaskId = None,
        plan: IsPlan = False,
    ) -> Any:
        return _run(
            definition,
            task_id=task_id,
            tenant_id=tenant_id,
            project_id=project_id,
            items=items,
            select=select,
            force=force,
            reason=reason,
            payload=payload,
            source=source,
            is_plan=plan,
        )

    return run


def _global_flow(definition: TaskDefinition) -> Callable[..., State[Any]]:
    def run(
        tenant_id: TenantId = DEFAULT_TENANT,
        force: Force = False,
        reason: Reason = None,
        payload: Payload = None,
        source: Source = "user",
        task_id: TaskId = None,
        plan: IsPlan = False,
    ) -> Any:
        return _run(
            definition,
            task_id=task_id,
            tenant_id=tenant_id,
            force=force,
            reason=reason,
            payload=payload,
            source=source,
            is_plan=plan,
        )

    return run


def _undo_flow(definition: TaskDefinition) -> Callable[..., State[Any]]:
    def run(
        undo: TaskToUndo = None,
        tenant_id: TenantId = DEFAULT_TENANT,
        reason: Reason = None,
        payload: Payload = None,
        source: Source = "user",
        task_id: TaskId = None,
        plan: IsPlan = False,
    ) -> Any:
        return _run(
            definition,
            task_id=task_id,
            tenant_id=tenant_id,
            force=False,
            reason=reason,
            payload={**(payload or {}), UNDO: undo} if undo else payload,
            source=source,
            is_plan=plan,
        )

    return run


_FUNCTIONS: dict[Scope | None, Callable[[TaskDefinition], Callable[..., State[Any]]]] = {
    Scope.PROJECT: _project_flow,
    Scope.PHOTO_SET: _photo_set_flow,
    Scope.GLOBAL: _global_flow,
    # Without a scope of its own the definition takes what the caller gives: a project, or photos.
    None: _photo_set_flow,
}


def _flow_run_name() -> str:
    parameters = flow_run.parameters
    where = [str(parameters.get("tenant_id", DEFAULT_TENANT))]
    if parameters.get("project_id"):
        project = parameters["project_id"]
        where.append(f"project {project}" if isinstance(project, int) else str(project))
    return f"{flow_run.flow_name} ({', '.join(where)})"
