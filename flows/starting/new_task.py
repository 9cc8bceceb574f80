"""Makes a `NewTask` from the arguments of a start and checks them against the definition. It writes nothing.

`storage.queue.new_tasks` writes the task. It refuses projects and photos that do not exist, and an exclusive task while
another task of the same kind is unfinished. `flows.orchestration.compiler` decides which tasks are exclusive.
"""

import uuid
from collections.abc import Mapping
from typing import Any

from flows.handlers.job_targets import LeftOut
from flows.handlers.step import handler_of
from flows.undoing.task_to_undo import named_task
from storage.errors import InvalidValue
from storage.history.undo_entries import UNDO_STEP
from storage.lifecycle.job_rows import checked_payload
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.photos.photo_selection import PhotoSelection
from storage.queue.new_tasks import NewTask
from task_definitions import Scope, TaskDefinition, detect_scope
from task_definitions.errors import MissingProject
from task_definitions.step_types import step_types, takes_destination


def new_task(
    definition: TaskDefinition,
    *,
    task_id: str | None = None,
    tenant_id: str,
    scope: str | None = None,
    project_id: int | None = None,
    items: Any = None,
    selection: PhotoSelection | None = None,
    payload: Mapping[str, Any] | None = None,
    source: str = "user",
    flow_run_id: str | None = None,
    is_exclusive: bool = False,
) -> NewTask:
    """Check the arguments, and return the task with its scope and the definition as it is now.

    Without a `task_id`, the task gets a new id.

    Raises:
        UnknownScope: the given scope is not a scope.
        ScopeMismatch: the given scope differs from the scope of the definition.
        MissingProject: the scope, or a step that moves photos into a project, needs a project, and none is given.
        UnexpectedProject: the scope is `global`, and a project is given.
        InvalidValue: items are given for a scope without items, or are missing for a photo set; a project is given
            with a selection, although no step moves photos into it; or the payload or its `leave_out` is not valid.
        MissingHandler: a step's type has no handler in this installation.
        NothingToUndo: the definition undoes a task, but the payload does not name the task.
    """
    payload = None if payload is None else checked_payload(payload)
    LeftOut.of_payload(payload or {})
    for step in definition.steps:
        handler_of(step.type)
        if step.type == UNDO_STEP:
            named_task(payload or {})
    effective = detect_scope(scope=scope, project_id=project_id, definition_scope=definition.scope)
    if effective is not Scope.PHOTO_SET and (items is not None or selection is not None):
        advice = "give" if definition.scope is None else "start a definition of"
        problem = f'a task of scope "{effective}" takes no photos; leave this out, or {advice} scope "photo_set"'
        raise InvalidValue("items" if items is not None else "select", problem)
    if effective is Scope.PHOTO_SET:
        _check_photo_set(definition, project_id=project_id, items=items, selection=selection)
    return NewTask(
        id=task_id or str(uuid.uuid4()),
        tenant_id=tenant_id,
        definition=PinnedDefinition.pin(definition, step_types()),
        scope=effective,
        project_id=project_id,
        items=items,
        selection=selection,
        payload=payload,
        source=source,
        flow_run_id=flow_run_id,
        is_exclusive=is_exclusive,
    )


def _check_photo_set(
    definition: TaskDefinition, *, project_id: int | None, items: Any, selection: PhotoSelection | None
) -> None:
    if items is None and selection is None:
        raise InvalidValue("items", "a task for a photo set needs photos: give items or a selection")
    if takes_destination(definition):
        if project_id is None:
            raise MissingProject(f"project_id: {definition.name} moves photos; give the project that receives them.")
    elif selection is not None and project_id is not None:
        raise InvalidValue(
            "project_id", "has no effect on a selection of photos; give the project as a criterion of the selection"
        )
