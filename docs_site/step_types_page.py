"""Writes the page of step types from `task_definitions.step_types`."""

from __future__ import annotations

from html import escape

from docs_site.markdown import code, table
from task_definitions.loader import load_definitions
from task_definitions.step_types import BUILTIN_STEP_TYPES

_INTRODUCTION = """# Step types

The `type` of a step names one of these. Installed packages add more; see [a step of your own](../how-to/own-step.md).
`photojobs steps list` shows all step types of an installation.

A step works on **items**, **projects** or the **library**. Items are photos, in jobs of at most 2000. Projects are
the project of the task, the projects of its photos, or all active projects of the tenant. The library is the
tenant's whole folder. A step that changes files claims each project while the step works there. So no other such step
works on the project at the same time.

All steps except the `project_…` ones skip archived projects. Commands refuse a task that names an archived project
if none of its steps works on archived projects. Every step may be run twice: the second run finds nothing to do.
"""


def step_types_page() -> str:
    """Return the page with every built-in step type, what it works on, and the definitions that use it."""
    definitions = load_definitions()
    parts = [_INTRODUCTION]
    for found in BUILTIN_STEP_TYPES.values():
        using = [name for name, task in definitions.items() if any(step.type == found.name for step in task.steps)]
        rows = [
            ("works on", found.unit),
            ("changes files or their rows", "yes" if found.modifies_files else "no"),
        ]
        if found.takes_force:
            rows.append(("with `force` in the payload", "repeats what is done already"))
        if found.takes_destination:
            rows.append(("the task's project", "the destination of the photos; a task with a photo set must have it"))
        if found.takes_archived:
            rows.append(("archived projects", "works on them"))
        if found.default_items == "pending_deletions":
            rows.append(("without items", "the photos with a file on disk whose keep flag is 0"))
        if using:
            rows.append(("used by", ", ".join(f"[{name}](definitions.md#{name})" for name in using)))
        description = escape(found.description, quote=False)
        parts += [f"## {found.name}\n", f"{found.summary} {description}\n", table(("", ""), rows), ""]
    parts.append(f"All of them: {', '.join(code(name) for name in BUILTIN_STEP_TYPES)}.\n")
    return "\n".join(parts)
