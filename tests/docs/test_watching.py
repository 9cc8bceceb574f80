"""Log lines, metrics, alerts and drawings in the pages about watching are correct."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from deployments.graph.definition_graph import Activity, DefinitionGraph, graph_of_definition
from deployments.graph.terminal_graph import as_lines
from deployments.metrics.queue_collector import QueueCollector
from flows.telemetry.log_fields import FIELDS
from storage import Database
from task_definitions import load_definitions
from task_definitions.step_types import BUILTIN_STEP_TYPES

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / "how-to" / f"{name}.md").read_text() for name in ("observability", "draw-definitions")}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def test_the_log_line_has_the_keys_of_a_log_line() -> None:
    (line,) = blocks("observability", "json")

    assert {*FIELDS, "at", "level", "logger", "message", "process_id", "event"} == json.loads(line).keys()


def test_the_table_names_the_metrics_that_there_are_with_their_labels(postgresql_database: Database) -> None:
    registry = CollectorRegistry()
    registry.register(QueueCollector(postgresql_database))
    there = {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}
    there = {"photojobs_info" if name == "photojobs" else name for name in there}

    assert set(re.findall(r"^\| `(photojobs_\w+)`", PAGES["observability"], re.MULTILINE)) == there


def test_the_alerts_ask_for_metrics_that_there_are() -> None:
    alerts = next(yaml.safe_load(block) for block in blocks("observability", "yaml") if "alert:" in block)
    described = set(re.findall(r"^\| `(photojobs_\w+)`", PAGES["observability"], re.MULTILINE))

    for rule in alerts["groups"][0]["rules"]:
        assert set(re.findall(r"photojobs_\w+", rule["expr"])) <= described


def test_a_task_is_drawn_as_the_page_shows_it() -> None:
    graph = graph_of_definition(load_definitions()["process_photos"], BUILTIN_STEP_TYPES)
    activities = (
        Activity(state="completed", jobs={"completed": 3}, items={"done": 5208, "failed": 2}, seconds=41.2),
        Activity(state="running", jobs={"completed": 1, "running": 2}, items={"done": 2900, "pending": 2310}),
    )
    fields: dict[str, Any] = {name: getattr(graph, name) for name in DefinitionGraph.__slots__}
    fields["steps"] = tuple(
        type(step)(**{name: getattr(step, name) for name in step.__slots__} | {"activity": activity})
        for step, activity in zip(graph.steps, activities, strict=True)
    )
    drawn = DefinitionGraph(**fields | {"task": ("0b9f...", "running")})

    assert "\n".join(as_lines(drawn)) + "\n" == blocks("draw-definitions", "text")[0]
