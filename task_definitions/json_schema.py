"""Makes the JSON Schema of definition files. Editors complete and check the files with it; the loader does not use it.

A schema cannot express that names are unique and that a cron text matches a time. Only the loader checks these rules.
"""

import json
from typing import Any

from task_definitions.cron import CRON_FORM, CRON_SHORTHANDS, MAX_CRON_CHARACTERS
from task_definitions.model import MAX_NAME_CHARACTERS, NAME_PATTERN, STEP_TYPE_PATTERN, TaskDefinition
from task_definitions.step_types import known_step_type_names, step_types

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ENTRIES = ("TaskDefinition", "StepDefinition", "Schedule", "Scope")


def definitions_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a definition file: one definition, or a mapping of names to definitions.

    The schema lists known step types by name. It allows others, because their package may be installed only on the
    machine that runs the definition.
    """
    generated = TaskDefinition.model_json_schema(mode="validation", ref_template="#/$defs/{model}")
    entries = generated.pop("$defs")
    entries["TaskDefinition"] = generated
    for name in _ENTRIES:
        _tidy(entries[name])
    step = entries["StepDefinition"]["properties"]
    step["params"]["additionalProperties"] = True
    other_types = {"type": "string", "pattern": STEP_TYPE_PATTERN, "maxLength": MAX_NAME_CHARACTERS}
    step["type"] = {"description": step["type"]["description"], "anyOf": [_known_step_types(), other_types]}
    exactly_one = [_has("cron", other_than="null"), _has("interval_seconds", other_than="null")]
    entries["Schedule"] = {"anyOf": [_cron_text(), {**entries["Schedule"], "oneOf": exactly_one}]}
    # In a file the definition's name is its key, or the name of the file.
    generated["required"].remove("name")
    return {
        "$schema": SCHEMA_DIALECT,
        "title": "photojobs definitions",
        "description": "One definition, or a mapping of names to definitions.",
        "if": {"type": "object", "anyOf": [_has(key, other_than="object") for key in generated["properties"]]},
        "then": {"$ref": "#/$defs/TaskDefinition"},
        "else": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": NAME_PATTERN, "maxLength": MAX_NAME_CHARACTERS},
            "additionalProperties": {"$ref": "#/$defs/TaskDefinition"},
        },
        "$defs": {name: entries[name] for name in _ENTRIES},
    }


def render() -> str:
    """Return `definitions_json_schema()` as indented JSON text; the same step types give the same text."""
    return json.dumps(definitions_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _known_step_types() -> dict[str, Any]:
    described = step_types()
    return {
        "oneOf": [
            {"const": name, "description": described[name].summary} if name in described else {"const": name}
            for name in sorted(known_step_type_names())
        ]
    }


def _cron_text() -> dict[str, Any]:
    return {
        "type": "string",
        "description": f"A cron text, read in UTC: {CRON_FORM}.",
        "maxLength": MAX_CRON_CHARACTERS,
        "anyOf": [{"enum": list(CRON_SHORTHANDS)}, {"pattern": r"^\s*\S+(\s+\S+){4}\s*$"}],
    }


def _has(key: str, *, other_than: str) -> dict[str, Any]:
    return {"required": [key], "properties": {key: {"not": {"type": other_than}}}}


def _tidy(schema: dict[str, Any]) -> None:
    # Only the first paragraph of a docstring is for users.
    schema["description"] = schema["description"].split("\n\n")[0]
    # pydantic gives each field a title ("Max Attempts"), which hides the real name in an editor.
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
