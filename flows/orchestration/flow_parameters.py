"""The parameters of compiled flows: their types as forms show them, and what is said of values that do not fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from flows.errors import FlowsError
from flows.undoing.task_to_undo import NothingToUndo
from storage.errors import InvalidValue, UnknownPhoto, UnknownProject, UnknownTag, UnknownTenant
from storage.history.undo_entries import UNDO
from storage.photos.photo_selection import PhotoSelection, ProjectReference
from task_definitions.errors import MissingProject, PhotojobsError


class UnusableParameters(FlowsError):
    """Parameters of a flow run have values that do not fit; the message names the form's fields."""


class Item(BaseModel):
    """One photo of a photo set."""

    model_config = ConfigDict(extra="forbid")

    photo_id: int | None = Field(default=None, ge=1, description="The photo's id.")
    filename: str | None = Field(default=None, description="Its base name; by itself it needs a project.")


TenantId = Annotated[str, Field(title="Tenant", description="Whose photos.", min_length=1, max_length=255)]
ProjectId = Annotated[
    ProjectReference, Field(title="Project", description="By its id, its name, or both as in Alps (#12).")
]
Destination = Annotated[
    ProjectReference | None, Field(title="Into project", description="The project that the photos are put into.")
]
Items = Annotated[
    list[Item] | None, Field(title="Photos, one by one", description="In place of a selection; for programs.")
]
Selection = Annotated[
    PhotoSelection | None, Field(title="Photos", description="Which photos; every criterion that is given must hold.")
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

#: The parameters that a mistake is about, where the error itself does not name one.
_PARAMETERS: tuple[tuple[type[PhotojobsError], tuple[str, ...]], ...] = (
    (UnknownTenant, ("tenant_id",)),
    (UnknownTag, ("select", "tags")),
    (UnknownPhoto, ("items",)),
    (MissingProject, ("project_id",)),
    (NothingToUndo, (UNDO,)),
)


def parameters_model(function: Callable[..., Any]) -> type[BaseModel]:
    """A model of a flow's function, with a field for each of its parameters."""
    fields: Any = {
        name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
    }
    return create_model("Parameters", **fields)


def checked_parameters(model: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """The given values as the flow's types, those that are not given as their defaults.

    Raises:
        UnusableParameters: a value does not fit.
    """
    try:
        checked = model.model_validate(given)
    except ValidationError as error:
        # Of a value that may be of several types, each type has its own complaint; the first says enough.
        problems = {problem["loc"][:1]: problem for problem in reversed(error.errors())}
        raise UnusableParameters(
            "; ".join(_sentence(model, problem["loc"], problem["msg"]) for problem in reversed(problems.values()))
        ) from None
    return {name: getattr(checked, name) for name in model.model_fields}


def mistake(model: type[BaseModel], error: PhotojobsError, *, given: dict[str, Any]) -> str:
    """What was wrong with the parameters of a flow run, in one sentence that names the form's field."""
    if isinstance(error, UnusableParameters):
        return str(error)
    if isinstance(error, InvalidValue) and error.name in model.model_fields:
        return _sentence(model, (error.name,), error.problem)
    if isinstance(error, UnknownProject):
        return _sentence(model, ("project_id",) if given.get("project_id") else ("select", "project_ids"), str(error))
    place = next((place for kind, place in _PARAMETERS if isinstance(error, kind)), ())
    return _sentence(model, place, str(error))


def _sentence(model: type[BaseModel], place: tuple[int | str, ...], problem: str) -> str:
    text = problem.removeprefix("Value error, ").removeprefix(f"{place[0] if place else ''}: ")
    titles = _titles(model, place)
    for name, field in PhotoSelection.model_fields.items():
        if "_" in name:
            text = text.replace(name, str(field.title))
    return ": ".join([", ".join(titles), text]) if titles else text


def _titles(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The titles that a form has above the field at a place: of the parameter, and of the criterion in it."""
    fields: dict[str, FieldInfo] = {}
    titles = []
    for part, known in zip(place, (model.model_fields, PhotoSelection.model_fields), strict=False):
        fields = known
        if part in fields:
            titles.append(str(fields[str(part)].title or part))
    return titles
