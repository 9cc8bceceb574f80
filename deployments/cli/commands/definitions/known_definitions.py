"""`photojobs definitions`: list, show, check and compare definitions.

`task_definitions.loader` decides which files are read, and `task_definitions.validation` what is wrong in them.
"""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from deployments.cli.options.named_server import named_server_client
from deployments.cli.options.opening import opened_database
from deployments.cli.options.parameters import Json
from deployments.cli.output.terminal import (
    confirm,
    output,
    print_fields,
    print_json,
    print_table,
    remark,
    say,
    warn,
    write_file,
)
from deployments.deploying.scheduled_definitions import in_words
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.queue.tasks import TasksRepository
from storage.settings import Settings
from task_definitions import Definitions, Schedule, load_definitions
from task_definitions.difference import DefinitionDifference, compare_definitions
from task_definitions.step_types import step_types
from task_definitions.wording import quantity

app = App(name="definitions")
app.command(
    "deployments.cli.commands.definitions.new_definition:app",
    name="new",
    help="Write a new file with a commented definition that is ready to run.",
)
app.command(
    "deployments.cli.commands.definitions.definition_graph:app",
    name="graph",
    help="Draw the steps of a definition with their lanes, priorities and jobs, or a task with its progress.",
)


@app.command(name="list")
def list_definitions(*, json: Json = False) -> None:
    """List the built-in definitions and your own."""
    known = _known()
    if json:
        print_json([_document(known, name) for name in known])
        return
    rows = [
        (
            name,
            definition.label,
            definition.scope or "project or photo_set",
            len(definition.steps),
            _when(definition.schedule),
            known.sources[name],
        )
        for name, definition in known.items()
    ]
    print_table(
        ("name", "label", "scope", "steps", "schedule", "from"), rows, numbers=("steps",), spared=("from", "label")
    )


@app.command(name="show")
def show_definition(name: str, /, *, json: Json = False) -> None:
    """Show a definition with its steps.

    Args:
        name: The definition's name.
    """
    known = _known()
    definition = known.get_or_raise(name)
    if json:
        print_json(_document(known, name))
        return
    print_fields(
        {
            "name": definition.name,
            "label": definition.label,
            "scope": definition.scope or "project if a run names one, else photo_set",
            "schedule": _when(definition.schedule) or None,
            "user relevant": definition.user_relevant,
            "from": known.sources[name],
            "description": definition.description,
        }
    )
    output().print()
    types = step_types()
    rows = [
        (
            index,
            step.type,
            step.priority,
            step.on_failure,
            step.run_if,
            types[step.type].summary if step.type in types else "",
        )
        for index, step in enumerate(definition.steps)
    ]
    print_table(
        ("step", "type", "priority", "on failure", "only if", "what it does"), rows, numbers=("step", "priority")
    )


@app.command(name="lint")
def lint_definitions(path: Path | None = None, /, *, json: Json = False) -> None:
    """Check definition files, and list everything that is wrong with them.

    Args:
        path: The file or folder to check; by default the one that PHOTOJOBS_DEFINITIONS names.
    """
    source = path or Settings.load().definitions
    checked = load_definitions(source)
    own = [name for name, place in checked.sources.items() if not place.startswith("built-in")]
    if json:
        print_json({"path": source, "definitions": own})
    elif source is None:
        confirm(f"PHOTOJOBS_DEFINITIONS is not set. The {len(checked)} built-in definitions are valid.")
    else:
        confirm(f"{source}: {quantity(len(own), 'definition')}, no errors.")


@app.command(name="diff")
def diff_definitions(*, task: str | None = None, json: Json = False) -> None:
    """Show how the definitions of this machine differ from those on the Prefect server, field by field.

    Args:
        task: Compare with the definition that this task uses, instead of with the server's definitions; give the task's
            id, or the first characters of its id.
    """
    here = load_definitions(Settings.load().definitions)
    differences = _since_start(here, task) if task is not None else _since_deployed(here)
    if json:
        print_json(differences)
        return
    for difference in differences:
        say(f"{difference.name}: {difference.kind}")
        for field in difference.fields:
            say(f"  {field}")
    if not differences:
        say("no difference")


@app.command(name="schema")
def definitions_schema(*, output: Path | None = None) -> None:
    """Print the JSON Schema of definition files, which editors use to complete and check them.

    Args:
        output: The file to write; by default the schema is printed.
    """
    from task_definitions.json_schema import render

    if output is None:
        print(render(), end="")  # noqa: T201 - the document must not be wrapped.
        return
    write_file(output, render())
    remark(f"{output}: written")


def _since_start(here: Definitions, task_id: str) -> tuple[DefinitionDifference, ...]:
    with opened_database() as database:
        tasks = TasksRepository(database)
        pinned = PinnedDefinition.from_json(tasks.get(tasks.whole_id(task_id)).definition_json).definition
    name = pinned.name
    return compare_definitions({name: pinned}, {name: here[name]} if name in here else {})


def _since_deployed(here: Definitions) -> tuple[DefinitionDifference, ...]:
    with named_server_client() as client:
        from deployments.deploying.definitions_on_server import deployed_definitions

        deployed = deployed_definitions(client)
    for path in deployed.unreadable:
        warn(
            f"{path}: not compared, because the deployment's description no longer contains the definition. Run "
            "`photojobs deploy`, or restart `photojobs up`, to write the description again."
        )
    return compare_definitions(deployed.definitions, here)


def _known() -> Definitions:
    known = load_definitions(Settings.load().definitions, strict=False)
    for error in known.errors:
        warn(str(error))
    return known


def _document(known: Definitions, name: str) -> dict[str, object]:
    return {"name": name, **known[name].to_mapping()[name], "source": known.sources[name]}


def _when(schedule: Schedule | None) -> str:
    return "" if schedule is None else in_words(schedule)
