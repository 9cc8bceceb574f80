"""A definition and a task are drawn with lanes, priorities, fan-outs and states; names may contain any characters."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from deployments.graph.definition_graph import DefinitionGraph, graph_of_definition, graph_of_task
from deployments.graph.mermaid import as_mermaid
from deployments.graph.svg import as_svg
from deployments.graph.terminal_graph import as_lines
from storage import Database, JobsRepository, LanesRepository, Task
from storage.reports.task_summary import summarize_task
from task_definitions import TaskDefinition, load_definitions
from task_definitions.step_types import BUILTIN_STEP_TYPES

SVG = "{http://www.w3.org/2000/svg}"


def graph_of(name: str) -> DefinitionGraph:
    return graph_of_definition(load_definitions()[name], BUILTIN_STEP_TYPES)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_builtin_definition_is_drawn_in_every_form_with_all_its_steps() -> None:
    for name, definition in load_definitions().items():
        graph = graph_of(name)
        for drawn in ("\n".join(as_lines(graph)), as_mermaid(graph), " ".join(texts(as_svg(graph)))):
            positions = [drawn.index(step.type) for step in definition.steps]
            assert positions == sorted(positions)


def test_a_step_shows_its_lane_its_priority_and_how_many_photos_a_job_of_it_takes() -> None:
    first, second = graph_of("process_photos").steps

    assert (first.lane, first.priority, first.fan_out) == ("priority", 90, "a job for each 2000 photos")
    assert (second.lane, second.priority) == ("normal", 75)
    assert graph_of("process_photos").lanes == ("priority", "normal")
    assert replace(first, chunk_size=1).fan_out == "a job for each photo"
    line = next(line for line in as_lines(graph_of("process_photos")) if "generate_derivatives" in line)
    assert re.fullmatch(r"├─≡≡● +1 generate_derivatives +75 +normal +a job for each 2000 photos", line)


def test_what_decides_whether_a_step_runs_is_an_arrow_around_it() -> None:
    lines = as_mermaid(graph_of("image_move")).splitlines()

    assert '    step1 -->|"if need_generate_derivatives"| step2' in lines
    assert '    step1 -. "else" .-> finish' in lines
    assert '    step0 -. "failed" .-> finish' in as_mermaid(graph_of("project_delete")).splitlines()
    assert '"failed"' not in as_mermaid(graph_of("maintenance_global"))


@pytest.mark.parametrize("label", ['<script>alert("x")</script>', 'a & b ]]> "]) --> evil', "tab\u202eped\u0007"])
def test_a_label_is_shown_and_never_read_as_part_of_the_picture(label: str) -> None:
    definition = TaskDefinition.model_construct(
        name="odd", label=label, scope=None, steps=load_definitions()["trash_only"].steps, schedule=None
    )
    graph = graph_of_definition(definition, BUILTIN_STEP_TYPES)

    root = ElementTree.fromstring(as_svg(graph))
    assert not [element for element in root.iter() if element.tag.endswith(("script", "foreignObject", "image"))]
    title = next(line for line in as_mermaid(graph).splitlines() if line.startswith("    start"))
    assert re.fullmatch(r'    start\(\["[^"<>&\[\]]*"\]\)', title)
    assert all(line.isprintable() for line in as_lines(graph))


def test_a_task_is_drawn_with_states_counts_and_follow_ups(
    database: Database,
    make_task: Callable[..., Task],
    make_photos: Callable[..., Any],
    make_project: Callable[..., Any],
) -> None:
    photo_ids = make_photos(make_project(), 3)
    task = make_task(
        {"unit": "items", "chunk_size": 2, "priority": 95, "on_failure": "continue"}, "projects", photo_ids=photo_ids
    )
    jobs = JobsRepository(database)
    first, _ = (job for job in jobs.list_by_tenant("tenant"))
    jobs.fail(first.id, "no")

    graph = graph_of_task(summarize_task(database, task.id), {}, lanes=LanesRepository(database).list())

    fanned, waiting = graph.steps
    assert (fanned.fans_out, fanned.activity.state, fanned.activity.jobs) == (
        True,
        "running",
        {"failed": 1, "queued": 1},
    )
    assert waiting.activity.state == "waiting"
    assert "1/2 jobs (1 failed)" not in "".join(as_lines(graph))
    assert "0/2 jobs (1 failed), 0/3 items" in "".join(as_lines(graph))
    assert graph.task == (task.id, "queued")


def test_the_command_draws_to_the_terminal_and_to_a_file_by_its_ending(command: Callable[..., Any], place: Any) -> None:
    assert command("definitions", "graph", "process_photos").out.startswith("Process Photos")
    assert command("definitions", "graph", "process_photos", "--json").document["steps"][0]["type"] == "metadata"
    for file, start in (("p.svg", "<svg"), ("p.mmd", "flowchart TD"), ("p.txt", "Process Photos")):
        assert command("definitions", "graph", "process_photos", "--output", file).code == 0
        assert (place.folder / file).read_text().startswith(start)


def test_a_started_task_is_drawn_by_its_id(command: Callable[..., Any], place_database: Database) -> None:
    task_id = command("start", "maintenance_global").out.strip()

    drawn = command("definitions", "graph", "--task", task_id)

    assert task_id in drawn.out.splitlines()[0]
    assert "queued, 0/1 job" in drawn.out
    assert command("definitions", "graph", "--task", task_id, "maintenance").code == 2
