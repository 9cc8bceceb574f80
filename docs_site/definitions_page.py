"""The pages of definitions: what one may say, the built-in ones with their steps, and the JSON Schema."""

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

Keys that nothing reads, unknown step types, values that are not allowed: each is an error that names the file, the
definition and the field, and says what is allowed; the definitions that are right stay usable. `photojobs definitions
lint` shows all errors at once. [The JSON Schema](schema.md) lets an editor complete and check the files.
"""
#: Keys that stand in a table of their own.
_APART = ("name", "steps")


def definitions_page() -> str:
    """What a definition and a step may say, then every built-in definition."""
    parts = [
        _INTRODUCTION,
        "## What a definition says\n",
        table(("key", "needed", "meaning"), _keys(TaskDefinition)),
        "\n## What a step says\n",
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
    scope = definition.scope or "project where a run has a project, else photo_set"
    seen = "for daily work" if definition.user_relevant else "upkeep behind the scenes"
    return f"Scope {scope}; {seen}.\n"


def _conditions(step: StepDefinition) -> str:
    told = []
    if step.run_if is not None:
        told.append(f"only if {code(step.run_if)}")
    if step.on_failure == "continue":
        told.append("goes on after failures")
    return ", ".join(told)


def _short(definition: TaskDefinition) -> dict[str, Any]:
    """The definition as one would write it: without what is so by default."""
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
