"""Draws a graph as lines of text, for terminals and pipes."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.graph.definition_graph import SYMBOLS, DefinitionGraph, GraphStep
from task_definitions.wording import lasting, printable

#: The symbols that connect a step with the step before it. The first is for a step with one job, the second for a step
#: with many jobs side by side.
_ONE_JOB, _FAN_OUT = "├───○", "├─≡≡●"


def as_lines(graph: DefinitionGraph) -> Iterator[str]:
    """Yield the lines of a graph; names, priorities and lanes are aligned in columns."""
    yield printable(graph.title)
    yield "│"
    widths = (
        max((len(step.type) for step in graph.steps), default=0),
        max((len(step.lane) for step in graph.steps), default=0),
    )
    for step in graph.steps:
        yield _step_line(step, *widths)
        yield from (f"│      {'  ' * (step.activity is not None)}  {printable(note)}" for note in step.notes)
    yield "■"


def _step_line(step: GraphStep, type_width: int, lane_width: int) -> str:
    mark = _FAN_OUT if step.fans_out else _ONE_JOB
    symbol = "" if step.activity is None else f"{SYMBOLS[step.activity.state]} "
    number = "+" if step.is_follow_up else str(step.index)
    place = f"{number:>2} {step.type:<{type_width}}  {step.priority:>3}  {step.lane:<{lane_width}}"
    return printable(f"{mark} {symbol}{place}  {_did(step)}").rstrip()


def _did(step: GraphStep) -> str:
    activity = step.activity
    if activity is None:
        return step.fan_out
    says = ", ".join(part for part in (activity.state, activity.says) if part)
    return says if activity.seconds is None else f"{says}, {lasting(activity.seconds)}"
