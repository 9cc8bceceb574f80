"""`photojobs steps`: list and show the step types that definitions can use."""

from __future__ import annotations

from cyclopts import App

from deployments.cli.options.errors import BadInput
from deployments.cli.options.parameters import Json
from deployments.cli.output.terminal import print_fields, print_json, print_table, warn
from flows.handlers.step import broken_plugins, handlers
from task_definitions.step_types import step_types
from task_definitions.wording import did_you_mean, shown

app = App(name="steps")


@app.command(name="list")
def list_steps(*, json: Json = False) -> None:
    """List all step types: built-in ones and those of installed packages."""
    handlers()
    for broken in broken_plugins().values():
        warn(str(broken))
    known = step_types()
    if json:
        print_json(list(known.values()))
        return
    rows = [(known[name].name, known[name].unit, known[name].summary) for name in sorted(known)]
    print_table(("type", "works on", "what it does"), rows)


@app.command(name="show")
def show_step(name: str, /, *, json: Json = False) -> None:
    """Show what a step type does.

    Args:
        name: The step type.
    """
    available = handlers()
    known = step_types()
    if name in broken_plugins() and name not in available:
        raise broken_plugins()[name]
    if name not in known:
        raise BadInput(
            f"{shown(name)} is not a step type.{did_you_mean(name, known)} "
            f"`photojobs steps list` shows all {len(known)}."
        )
    found = known[name]
    if json:
        print_json(found)
        return
    print_fields(
        {
            "type": found.name,
            "works on": found.unit,
            "what it does": found.summary,
            "more": found.description or None,
            "without items": "works on the photos marked for removal"
            if found.default_items == "pending_deletions"
            else None,
            "changes files": found.modifies_files,
            "handler": f"{available[name].__module__}.{available[name].__name__}"
            if name in available
            else "not installed here",
        }
    )
