"""Builds the form of a deployment in Prefect's UI: the fields with their titles, descriptions and choices.

A form is the JSON schema of the flow's parameters, by which Prefect's server validates each new run of the deployment.
The choices do not restrict programs, which can still give ids and names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, get_args

from prefect import Flow
from prefect.utilities.callables import ParameterSchema

from flows.orchestration.flow_parameters import parameters_model
from storage.database.engine import Database
from storage.default_tenant import DEFAULT_TENANT
from storage.history.undo_entries import UNDO
from storage.photos.photo_selection import Derivative
from storage.photos.project_labels import project_label
from storage.photos.projects import ProjectsRepository
from storage.queue.lanes import LanesRepository
from storage.settings import Settings
from task_definitions import Scope, TaskDefinition
from task_definitions.step_types import takes_destination, takes_force

#: The largest number of choices in a list. If there are more, the user types a name or an id instead: the server sends
#: the form with every deployment, so a form must be small.
MAX_CHOICES = 300

#: Parameters for programs, which the form does not show.
_HIDDEN = ("source", "task_id", "items")

#: The order of the form's fields; parameters that are not named here come last.
_ORDER = (UNDO, "lane", "tenant_id", "select", "project_id", "force", "plan", "reason", "payload")

#: The JSON schema of an empty criterion, by the type of the criterion. If "Every photo" is chosen, all other criteria
#: must be empty.
_NOTHING: Mapping[str, dict[str, Any]] = {"boolean": {"const": False}, "string": {"type": "null"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The choices of the form's lists, from the database; a list is empty if it would be too long."""

    tenants: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    lanes: tuple[str, ...] = ()

    @classmethod
    def read(cls, database: Database) -> Choices:
        """Read the choices from a database, in four short queries."""
        projects = ProjectsRepository(database)
        limit = MAX_CHOICES + 1
        return cls(
            tenants=_if_few(projects.list_tenants(limit=limit)),
            projects=_if_few([project_label(project) for project in projects.list_labeled(limit=limit)]),
            tags=_if_few(projects.list_tags(limit=limit)),
            lanes=_if_few([lane.name for lane in LanesRepository(database).list()]),
        )

    @classmethod
    def of_settings(cls, settings: Settings) -> Choices:
        """Read the choices from the database that the settings name."""
        with closing(Database(settings.database_url.get_secret_value())) as database:
            return cls.read(database)


#: The choices of a form that is made without a database.
NO_CHOICES = Choices()


def form_of(flow: Flow[..., Any], choices: Choices, definition: TaskDefinition | None = None) -> ParameterSchema:
    """Return the form for the parameters of a flow, without the fields that have no effect for `definition`."""
    schema: dict[str, Any] = parameters_model(flow.fn).model_json_schema(ref_template="#/definitions/{model}")
    fields: dict[str, dict[str, Any]] = schema["properties"]
    models: dict[str, dict[str, Any]] = schema.get("$defs", {})
    required = schema.get("required", [])
    for name in _HIDDEN:
        fields.pop(name, None)
    if definition is not None:
        if not takes_force(definition):
            fields.pop("force", None)
        if definition.scope is Scope.PHOTO_SET:
            # The project is the destination of a move. In other definitions the field would only seem to select photos.
            if takes_destination(definition):
                required = [*required, "project_id"]
            else:
                fields.pop("project_id")
    selection = models.pop("PhotoSelection", None)
    for properties in (fields, *([] if selection is None else [selection["properties"]])):
        for field in properties.values():
            _without_empty_default(field)
    if "project_id" in required:
        kinds = fields["project_id"]["anyOf"]
        fields["project_id"]["anyOf"] = [kind for kind in kinds if kind.get("type") != "null"]
    required = [*required, *_offer_tenants(fields, choices)]
    _offer(fields, "project_id", choices.projects, {"type": "integer", "minimum": 1, "title": "By id"})
    _offer(fields, "lane", choices.lanes)
    if selection is not None:
        # The field accepts only an object. If it also accepted null, the form would show a switch between the two.
        fields["select"] = _selection_field(selection, choices) | {
            key: fields["select"][key] for key in ("title", "description")
        }
    ordered = sorted(fields, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    return ParameterSchema(
        title="Parameters",
        type="object",
        properties=_in_order(fields, ordered),
        required=[name for name in ordered if name in required],
        definitions=models,
    )


def _selection_field(selection: dict[str, Any], choices: Choices) -> dict[str, Any]:
    criteria: dict[str, dict[str, Any]] = selection["properties"]
    _offer_several(criteria, "project_ids", choices.projects, {"type": "integer", "minimum": 1})
    _offer_several(criteria, "tags", choices.tags, {"type": "string"})
    listed = criteria.pop("missing")
    switches = {
        f"missing_{kind}": {
            "type": "boolean",
            "title": f"Missing {kind}",
            "description": f"Photos without a {kind}, including those whose {kind} failed.",
        }
        for kind in get_args(Derivative)
    }
    every_photo = criteria["every_photo"]
    return {
        "type": "object",
        "properties": _in_order({**switches, **criteria}, [*switches, *criteria]),
        # `missing` is only for programs: a form shows properties, but no pattern properties.
        "patternProperties": {"^missing$": listed},
        "additionalProperties": False,
        "if": {"properties": {"every_photo": {"const": True}}, "required": ["every_photo"]},
        "then": {
            "properties": {
                name: _NOTHING.get(field.get("type", "array"), {"maxItems": 0})
                for name, field in {**switches, **criteria, "missing": listed}.items()
                if field is not every_photo
            }
        },
    }


def _in_order(fields: Mapping[str, dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    return {name: {**fields[name], "position": position} for position, name in enumerate(names)}


def _without_empty_default(field: dict[str, Any]) -> None:
    # With a default of null, the form would open with "None" chosen; with an empty list, it would send that list.
    kinds = [kind for kind in field.get("anyOf", []) if kind.get("type") != "null"]
    if any(kind.get("type") == "object" for kind in kinds):
        # A JSON field keeps its default. With a default, the form hides the field's editor until a user opens it.
        return
    if "default" in field and field["default"] in (None, [], False):
        del field["default"]
    if len(kinds) == 1 and kinds[0].get("type", "object") not in ("array", "object"):
        # Prefect's server accepts null for an optional field, even if the schema does not say so.
        field.update(kinds[0])
        del field["anyOf"]


def _offer_tenants(fields: dict[str, dict[str, Any]], choices: Choices) -> list[str]:
    """Offer the tenants as choices; return the names of the fields that become required."""
    if "tenant_id" not in fields or not choices.tenants:
        return []
    field = fields["tenant_id"]
    must_be_given = "default" in field and DEFAULT_TENANT not in choices.tenants
    if must_be_given:
        # The parameter's default is a tenant that does not exist here.
        del field["default"]
        if len(choices.tenants) == 1:
            field["default"] = choices.tenants[0]
    _offer(fields, "tenant_id", choices.tenants)
    return ["tenant_id"] if must_be_given else []


def _offer(
    fields: Mapping[str, dict[str, Any]], name: str, choices: tuple[str, ...], by_id: dict[str, Any] | None = None
) -> None:
    if name not in fields or not choices:
        return
    field = fields[name]
    text = {"type": "string", "title": "By name", "minLength": 1, "maxLength": 300}
    nothing = [kind for kind in field.get("anyOf", []) if kind.get("type") == "null"]
    for key in ("type", "minLength", "maxLength"):
        field.pop(key, None)
    listed = {"type": "string", "title": "From the list", "enum": list(choices)}
    field["anyOf"] = [listed, *([by_id] if by_id else []), text, *nothing]


def _offer_several(
    fields: Mapping[str, dict[str, Any]], name: str, choices: tuple[str, ...], otherwise: dict[str, Any]
) -> None:
    if name not in fields or not choices:
        return
    field = fields[name]
    field.pop("items", None)
    field.pop("type", None)
    field["anyOf"] = [
        {"type": "array", "title": "From the list", "items": {"type": "string", "enum": list(choices)}},
        {"type": "array", "title": "By id" if otherwise["type"] == "integer" else "By name", "items": otherwise},
    ]


def _if_few(found: Sequence[str]) -> tuple[str, ...]:
    return tuple(found) if len(found) <= MAX_CHOICES else ()
