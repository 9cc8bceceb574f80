"""`photojobs definitions graph`: draw a definition or a task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from cyclopts import App

from deployments.cli.options.errors import BadInput
from deployments.cli.options.opening import opened_database
from deployments.cli.options.parameters import Json, refuse_beside
from deployments.cli.output.terminal import output as console
from deployments.cli.output.terminal import print_json, remark, write_file
from deployments.graph.definition_graph import DefinitionGraph, graph_of_definition, graph_of_task
from deployments.graph.mermaid import as_mermaid
from deployments.graph.svg import as_svg
from deployments.graph.terminal_graph import as_lines
from storage.queue.lanes import LanesRepository
from storage.queue.tasks import TasksRepository
from storage.reports.task_summary import summarize_task
from storage.settings import Settings
from task_definitions import load_definitions
from task_definitions.step_types import step_types

Form = Literal["text", "mermaid", "svg"]

#: The form of a drawing for each suffix of a file name.
FORMS_BY_SUFFIX: dict[str, Form] = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".txt": "text"}

_RENDERERS: dict[Form, Callable[[DefinitionGraph], str]] = {
    "text": lambda graph: "\n".join(as_lines(graph)) + "\n",
    "mermaid": as_mermaid,
    "svg": as_svg,
}

app = App(name="graph")


@app.default
def draw(
    name: str | None = None,
    /,
    *,
    task: str | None = None,
    form: Form | None = None,
    output: Path | None = None,
    json: Json = False,
) -> None:
    """Draw the steps of a definition with their lanes, priorities and jobs, or a task with its progress.

    Args:
        name: The definition; `photojobs definitions list` shows all.
        task: Draw this task instead of a definition; give the task's id, or the first characters of its id.
        form: The form of the drawing; by default the form that fits the suffix of --output, else text.
        output: The file to write; an existing file is replaced if its suffix is that of a text, such as .svg.
    """
    if (name is None) == (task is None):
        raise BadInput(
            "definitions graph: give the NAME of a definition, or a task with --task, but not both. "
            "`photojobs definitions list` lists the definitions."
        )
    if json:
        refuse_beside("--json", {"--output": output, "--form": form})
    graph = _of_task(task) if task is not None else _of_definition(name or "")
    if json:
        print_json(graph)
        return
    chosen = form or (FORMS_BY_SUFFIX.get(output.suffix.lower(), "text") if output is not None else "text")
    drawn = _RENDERERS[chosen](graph)
    if output is None:
        console().out(drawn, end="")
    else:
        write_file(output, drawn)
        remark(f"{output}: written")


def _of_definition(name: str) -> DefinitionGraph:
    definition = load_definitions(Settings.load().definitions, strict=False).get_or_raise(name)
    # A definition can be drawn before a database exists, so the picture shows the lanes that a new database has.
    return graph_of_definition(definition, step_types())


def _of_task(task_id: str) -> DefinitionGraph:
    with opened_database() as database:
        summary = summarize_task(database, TasksRepository(database).whole_id(task_id))
        return graph_of_task(summary, step_types(), lanes=LanesRepository(database).list())
