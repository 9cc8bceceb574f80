"""Writes a graph as Mermaid text, which GitHub, GitLab and many editors draw."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.graph.definition_graph import SYMBOLS, DefinitionGraph, GraphStep
from task_definitions.wording import lasting

#: The colors of each state and lane, which are readable on light and dark pages.
_STYLES = {
    "completed": "fill:#d7ecd9,stroke:#2e7d32,color:#10300f",
    "running": "fill:#d6e6fa,stroke:#1565c0,color:#0b2545",
    "queued": "fill:#eceff1,stroke:#607d8b,color:#263238",
    "failed": "fill:#f8d7d5,stroke:#c62828,color:#3b0a08",
    "canceled": "fill:#eeeeee,stroke:#757575,color:#333333",
    "waiting": "fill:#fafafa,stroke:#9e9e9e,color:#555555,stroke-dasharray:4 3",
    "skipped": "fill:#fafafa,stroke:#bdbdbd,color:#777777,stroke-dasharray:4 3",
    "priority": "fill:#fff3d6,stroke:#b26a00,color:#3d2600",
    "other": "fill:#e3ecf7,stroke:#3d6a99,color:#12283f",
}


def as_mermaid(graph: DefinitionGraph) -> str:
    """Return a graph as a Mermaid flowchart; a step that can have several jobs is a box with double sides."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: DefinitionGraph) -> Iterator[str]:
    yield "flowchart TD"
    yield f'    start(["{_escaped(graph.title)}"])'
    for step in graph.steps:
        opening, closing = ("[[", "]]") if step.fans_out else ("[", "]")
        label = "<br/>".join(_escaped(line) for line in _label(step))
        yield f'    step{_name(graph, step)}{opening}"{label}"{closing}:::{_style(step)}'
    yield '    finish(["end"])'
    names = ["start", *(f"step{_name(graph, step)}" for step in graph.steps), "finish"]
    for step, before, name in zip(graph.steps, names, names[1:], strict=False):
        said = "" if step.run_if is None else f'|"{_escaped(f"if {step.run_if}")}"|'
        yield f"    {before} -->{said} {name}"
    yield f"    {names[-2]} --> finish"
    for position, step in enumerate(graph.steps):
        if step.stops_on_failure:
            yield f'    {names[position + 1]} -. "failed" .-> finish'
        if step.run_if is not None:
            yield f'    {names[position]} -. "else" .-> {names[position + 2]}'
    for style in dict.fromkeys(_style(step) for step in graph.steps):
        yield f"    classDef {style} {_STYLES[style]}"


def _label(step: GraphStep) -> Iterator[str]:
    yield step.type
    yield f"priority {step.priority}, lane {step.lane}"
    yield step.fan_out if not step.is_follow_up else "follow-up"
    activity = step.activity
    if activity is not None:
        took = "" if activity.seconds is None else f", {lasting(activity.seconds)}"
        says = f": {activity.says}" if activity.says else ""
        yield f"{SYMBOLS[activity.state]} {activity.state}{says}{took}"


def _name(graph: DefinitionGraph, step: GraphStep) -> int:
    # The name is the position in the graph, because follow-up jobs of several types have the same `step.index`.
    return graph.steps.index(step)


def _style(step: GraphStep) -> str:
    if step.activity is not None:
        return step.activity.state
    return "priority" if step.lane == "priority" else "other"


def _escaped(text: str) -> str:
    """Return `text` with entity codes in place of all characters that have a meaning in Mermaid or HTML."""
    return "".join(c if c.isalnum() or c in " _,.:()/…✓▶✗⊘·" else f"#{ord(c)};" for c in text)
