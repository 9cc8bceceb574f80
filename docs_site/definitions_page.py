"""Writes the page of definitions: the keys of a definition and of a step, and the built-in definitions."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from docs_site.markdown import code, table
from task_definitions.loader import load_definitions
from task_definitions.model import StepDefinition, TaskDefinition
from task_definitions.step_types import BUILTIN_STEP_TYPES

_INTRODUCTION = """# Definitions

A definition file is YAML or JSON with one definition, or with a mapping of names to definitions. The setting
`definitions` names the file, or a folder of such files. The built-in definitions below are always there.

An unknown key, an unknown step type or a value that is not allowed is an error. The message names the file, the
definition and the field, and says what is allowed. Definitions without an error stay usable. `photojobs definitions
lint` shows all errors at once. With [the JSON Schema](schema.md) an editor completes and checks the files.
"""
#: Keys that have a table of their own.
_APART = ("name", "steps")


def definitions_page() -> str:
    """Return the page: the keys of a definition and of a step, and then every built-in definition."""
    parts = [
        _INTRODUCTION,
        "## Keys of a definition\n",
        table(("key", "needed", "meaning"), _keys(TaskDefinition)),
        "\n## Keys of a step\n",
        table(("key", "needed", "meaning"), _keys(StepDefinition)),
        "",
    ]
    for name, definition in load_definitions().items():
        parts += [f"## {name}\n", f"**{definition.label}.** {definition.description or ''}\n", _facts(definition), ""]
        rows = [
            (
                str(index),
                f"[{step.type}](steps.md#{step.type})",
                str(step.priority),
                "priority" if step.priority >= 90 else "normal",
                _conditions(step),
                BUILTIN_STEP_TYPES[step.type].summary,
            )
            for index, step in enumerate(definition.steps)
        ]
        parts += [table(("", "step", "priority", "lane", "", "what it does"), rows), ""]
        parts += ["```yaml", yaml.safe_dump(_short(definition), sort_keys=False, width=110).rstrip(), "```", ""]
    return "\n".join(parts)


def _keys(model: type[BaseModel]) -> list[tuple[str, str, str]]:
    return [
        (code(name), "yes" if field.is_required() and name != "name" else "", field.description or "")
        for name, field in model.model_fields.items()
    ]


def _facts(definition: TaskDefinition) -> str:
    scope = definition.scope or "project if a run has a project, else photo_set"
    seen = "for daily work" if definition.user_relevant else "maintenance in the background"
    return f"Scope {scope}; {seen}.\n"


def _conditions(step: StepDefinition) -> str:
    conditions = []
    if step.run_if is not None:
        conditions.append(f"only if {code(step.run_if)}")
    if step.on_failure == "continue":
        conditions.append("goes on after failures")
    return ", ".join(conditions)


def _short(definition: TaskDefinition) -> dict[str, Any]:
    """Return a definition as a user would write it, without default values."""
    ((name, body),) = definition.to_mapping().items()
    defaults = {key: field.default for key, field in StepDefinition.model_fields.items()}
    steps = [
        {
            key: value
            for key, value in step.items()
            if value != defaults.get(key) and not (key == "params" and not value)
        }
        for step in body["steps"]
    ]
    return {name: {**body, "steps": steps}}
