"""The parameters of compiled flows: their types as forms show them, and the messages for invalid values.

`deployments.deploying.forms` decides which fields and choices a form offers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from flows.errors import FlowsError
from flows.undoing.task_to_undo import NothingToUndo
from storage.errors import InvalidValue, UnknownPhoto, UnknownProject, UnknownTag, UnknownTenant
from storage.history.undo_entries import UNDO
from storage.photos.photo_selection import PhotoSelection, ProjectReference
from task_definitions.errors import MissingProject, PhotojobsError
from task_definitions.wording import shown


class UnusableParameters(FlowsError):
    """Parameters of a flow run are not valid; the message names the fields of the form."""


class Item(BaseModel):
    """One photo of a photo set."""

    model_config = ConfigDict(extra="forbid")

    photo_id: int | None = Field(default=None, ge=1, description="The photo's id.")
    filename: str | None = Field(
        default=None, description="The photo's base name; without a photo id, give a project too."
    )


TenantId = Annotated[
    str, Field(title="Tenant", description="The tenant that owns the photos.", min_length=1, max_length=255)
]
ProjectId = Annotated[
    ProjectReference, Field(title="Project", description="The project's id, its name, or both, as in Alps (#12).")
]
Destination = Annotated[
    ProjectReference | None, Field(title="Into project", description="The project that receives the photos.")
]
Items = Annotated[
    list[Item] | None,
    Field(title="Photos, one by one", description="A list of photos in place of a selection. Programs use this field."),
]
Selection = Annotated[
    PhotoSelection | None,
    Field(title="Photos", description="Which photos to work on; a photo must meet every given criterion."),
]
Force = Annotated[bool, Field(title="Force", description="Repeat work that is already done.")]
Reason = Annotated[
    str | None,
    Field(title="Reason", description="Why you start the task. The reason is stored with the task.", max_length=500),
]
Payload = Annotated[
    dict[str, Any] | None,
    Field(
        title="Payload",
        description='Values for every job, as in {"force": true}. The description of each step type names its keys.',
    ),
]
Source = Annotated[
    str, Field(title="Source", description="Who or what started the task, for example user or maintenance.")
]
IsPlan = Annotated[
    bool, Field(title="Plan", description="Only show the planned changes, in an artifact. Nothing is changed.")
]
TaskToUndo = Annotated[str | None, Field(title="Task to undo", description="The id of the task to undo.", min_length=1)]
TaskId = Annotated[
    str | None,
    Field(title="Task id", description="Leave this field empty. Programs set it to continue the task with this id."),
]

#: The parameters that an error concerns, for errors that do not name one.
_PARAMETERS: tuple[tuple[type[PhotojobsError], tuple[str, ...]], ...] = (
    (UnknownTenant, ("tenant_id",)),
    (UnknownTag, ("select", "tags")),
    (UnknownPhoto, ("items",)),
    (MissingProject, ("project_id",)),
    (NothingToUndo, (UNDO,)),
)


def parameters_model(function: Callable[..., Any]) -> type[BaseModel]:
    """Return a pydantic model with a field for each parameter of a flow's function."""
    fields: Any = {
        name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
    }
    return create_model("Parameters", **fields)


def checked_parameters(model: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """Return the values of all parameters: the given values in the flow's types, and defaults for missing values.

    Raises:
        UnusableParameters: a value is not valid.
    """
    try:
        checked = model.model_validate(given)
    except ValidationError as error:
        # If a value may have several types, pydantic reports a problem for each type; the first is enough.
        problems = {problem["loc"][:1]: problem for problem in reversed(error.errors())}
        raise UnusableParameters(
            "; ".join(_sentence(model, problem["loc"], _with_input(problem)) for problem in reversed(problems.values()))
        ) from None
    return {name: getattr(checked, name) for name in model.model_fields}


def _with_input(problem: ErrorDetails) -> str:
    """Return pydantic's message about an invalid value, with the value or the unknown key."""
    if problem["type"] == "extra_forbidden":
        return f"{shown(problem['loc'][-1])} is not a known key; leave it out"
    has_own_words = problem["type"] in ("missing", "value_error")
    return problem["msg"] if has_own_words else f"{problem['msg']} (given: {shown(problem['input'])})"


def mistake(model: type[BaseModel], error: PhotojobsError, *, given: dict[str, Any]) -> str:
    """Return one sentence that names the field of the form and describes what is wrong with its value."""
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
    """Return the titles in the form for each part of `place`: a parameter and, in a selection, a criterion."""
    fields: dict[str, FieldInfo] = {}
    titles = []
    for part, known in zip(place, (model.model_fields, PhotoSelection.model_fields), strict=False):
        fields = known
        if part in fields:
            titles.append(str(fields[str(part)].title or part))
    return titles
