"""The form of a deployment in Prefect's UI: titles, descriptions, and what there is to choose from.

It is the JSON schema of the flow's parameters, and Prefect's server holds every new flow run against it. A choice is
never the only way: programs give ids and names as before.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import Flow
from prefect.utilities.callables import ParameterSchema
from pydantic import create_model

from storage.database import Database
from storage.lanes import LanesRepository
from storage.project_labels import project_label
from storage.projects import ProjectsRepository
from storage.settings import Settings
from storage.step_jobs import DEFAULT_TENANT
from task_definitions import TaskDefinition
from task_definitions.step_types import step_types

#: A longer list helps nobody, and the server sends the form with every deployment; the id is typed then.
MAX_CHOICES = 300

#: For programs; in the form they would only be in the way.
_HIDDEN = ("source", "task_id")

#: The order in which people think; parameters that are not named here come last.
_ORDER = ("tenant_id", "project_id", "select", "items", "force", "plan", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What exists in the database, as the form's lists show it; empty where there is nothing or too much."""

    tenants: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    lanes: tuple[str, ...] = ()

    @classmethod
    def read(cls, database: Database) -> Choices:
        """Read them, in four short queries."""
        projects = ProjectsRepository(database)
        limit = MAX_CHOICES + 1
        return cls(
            tenants=_if_few(projects.list_tenants(limit=limit)),
            projects=_if_few([project_label(project) for project in projects.list_labelled(limit=limit)]),
            tags=_if_few(projects.list_tags(limit=limit)),
            lanes=_if_few([lane.name for lane in LanesRepository(database).list()]),
        )

    @classmethod
    def of_settings(cls, settings: Settings) -> Choices:
        """Those of the database that the settings name, read now."""
        database = Database(settings.database_url.get_secret_value())
        try:
            return cls.read(database)
        finally:
            database.close()


#: Where nothing is known of the database.
NO_CHOICES = Choices()


def form_of(flow: Flow[..., Any], choices: Choices, definition: TaskDefinition | None = None) -> ParameterSchema:
    """The parameters of a flow as a form; `definition` says what of it would have no effect and is left out."""
    schema = _schema(flow)
    fields: dict[str, dict[str, Any]] = schema["properties"]
    for name in _HIDDEN:
        fields.pop(name, None)
    if definition is not None and not any(_takes_force(step.type) for step in definition.steps):
        fields.pop("force", None)
    for models in (fields, *(model["properties"] for model in schema.get("$defs", {}).values())):
        for field in models.values():
            _without_empty_default(field)
    _offer_tenants(fields, choices, schema)
    _offer(fields, "project_id", choices.projects, {"type": "integer", "minimum": 1, "title": "By id"}, "By name")
    _offer(fields, "lane", choices.lanes, None, "By name")
    selection = schema.get("$defs", {}).get("PhotoSelection", {"properties": {}})
    selection["title"] = "Select"
    _offer_several(selection["properties"], "project_ids", choices.projects, {"type": "integer"})
    _offer_several(selection["properties"], "tags", choices.tags, {"type": "string"})
    ordered = sorted(fields, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    for position, name in enumerate(ordered):
        fields[name]["position"] = position
    return ParameterSchema(
        title="Parameters",
        type="object",
        properties={name: fields[name] for name in ordered},
        required=[name for name in ordered if name in schema.get("required", [])],
        definitions=schema.get("$defs", {}),
    )


def _schema(flow: Flow[..., Any]) -> dict[str, Any]:
    # Made anew from the annotations: Prefect keeps neither their titles nor their descriptions.
    fields: Any = {
        name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(flow.fn, eval_str=True).parameters.items()
    }
    schema: dict[str, Any] = create_model("Parameters", **fields).model_json_schema(
        ref_template="#/definitions/{model}"
    )
    return schema


def _without_empty_default(field: dict[str, Any]) -> None:
    # A default of nothing makes the form open with "None" chosen, or send empty lists as if they had been chosen.
    kinds = [kind for kind in field.get("anyOf", []) if kind.get("type") != "null"]
    if any(kind.get("type") == "object" for kind in kinds):
        # Only JSON can be typed there; who does not need it shall not see its editor.
        return
    if "default" in field and field["default"] in (None, [], False):
        del field["default"]
    if len(kinds) == 1 and kinds[0].get("type", "object") not in ("array", "object"):
        # Prefect's server takes null for a field that need not be given, without being told.
        field.update(kinds[0])
        del field["anyOf"]


def _offer_tenants(fields: dict[str, dict[str, Any]], choices: Choices, schema: dict[str, Any]) -> None:
    if "tenant_id" not in fields or not choices.tenants:
        return
    field = fields["tenant_id"]
    if "default" in field and DEFAULT_TENANT not in choices.tenants:
        # Nobody is called by the default name here: a run for it would do nothing, and look well.
        del field["default"]
        if len(choices.tenants) == 1:
            field["default"] = choices.tenants[0]
        schema["required"] = [*schema.get("required", []), "tenant_id"]
    _offer(fields, "tenant_id", choices.tenants, None, "By name")


def _offer(
    fields: Mapping[str, dict[str, Any]],
    name: str,
    choices: tuple[str, ...],
    by_id: dict[str, Any] | None,
    by_name: str,
) -> None:
    if name not in fields or not choices:
        return
    field = fields[name]
    text = {"type": "string", "title": by_name, "minLength": 1, "maxLength": 300}
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


def _takes_force(type: str) -> bool:
    known = step_types().get(type)
    return known is not None and known.takes_force


def _if_few(found: Sequence[str]) -> tuple[str, ...]:
    return tuple(found) if len(found) <= MAX_CHOICES else ()
