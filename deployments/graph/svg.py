"""Draws a graph as an SVG file for any browser: lanes side by side, steps from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from deployments.graph.definition_graph import SYMBOLS, DefinitionGraph, GraphStep
from task_definitions.wording import lasting, printable

#: The sizes of boxes, gaps and margins in pixels.
_MARGIN, _BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y, _HEAD = 24, 300, 76, 48, 40, 110

#: The largest number of characters on a line in a box; longer lines are shortened.
_LINE_CHARACTERS = 44
#: The width of a character of the title in pixels. It decides how many characters of a long title are shown.
_TITLE_PIXELS = 10

#: The smallest width of the picture in pixels; the id of a task fits into this width.
_MIN_WIDTH = 580

_STYLE = """
svg { --paper: #ffffff; --ink: #1f2933; --quiet: #5c6975; --line: #9aa5b1; --lane: #f4f6f8; --box: #ffffff;
  --completed: #2e7d32; --running: #1565c0; --failed: #c62828; --idle: #7b8794; background: var(--paper);
  font-family: system-ui, "Segoe UI", "Helvetica Neue", sans-serif; }
@media (prefers-color-scheme: dark) { svg { --paper: #15191e; --ink: #e6eaee; --quiet: #9aa5b1; --line: #5c6975;
  --lane: #1c2229; --box: #232a32; --completed: #7cc47f; --running: #7fb4f0; --failed: #f08a84; --idle: #8a96a3; } }
text { fill: var(--ink); font-size: 13px; } .title { font-size: 18px; font-weight: 600; }
.name { font-weight: 600; font-size: 14px; } .quiet { fill: var(--quiet); font-size: 12px; }
.lane { fill: var(--lane); } .box { fill: var(--box); stroke: var(--line); stroke-width: 1.5; }
.way { fill: none; stroke: var(--line); stroke-width: 1.5; } .head { fill: var(--line); }
.completed { stroke: var(--completed); } .running { stroke: var(--running); } .failed { stroke: var(--failed); }
.queued, .waiting, .skipped, .canceled { stroke: var(--idle); } .waiting, .skipped { stroke-dasharray: 5 4; }
text.completed { fill: var(--completed); } text.running { fill: var(--running); } text.failed { fill: var(--failed); }
text.queued, text.waiting, text.skipped, text.canceled { fill: var(--quiet); } text { stroke: none !important; }
"""


def as_svg(graph: DefinitionGraph) -> str:
    """Return a graph as SVG text; the picture follows the viewer's light or dark mode."""
    width = max(2 * _MARGIN + len(graph.lanes) * (_BOX_WIDTH + _GAP_X) - _GAP_X, _MIN_WIDTH)
    height = _HEAD + len(graph.steps) * (_BOX_HEIGHT + _GAP_Y) + _MARGIN
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "role": "img",
            "aria-labelledby": "title description",
        },
    )
    SubElement(root, "title", {"id": "title"}).text = printable(graph.title)
    SubElement(root, "desc", {"id": "description"}).text = "; ".join(_spoken(step) for step in graph.steps)
    SubElement(root, "style").text = _STYLE
    _text(root, _MARGIN, 32, graph.label, "title", most=(width - 2 * _MARGIN) // _TITLE_PIXELS)
    _text(root, _MARGIN, 52, graph.subtitle, "quiet", most=(width - 2 * _MARGIN) // 6)
    for column, lane in enumerate(graph.lanes):
        _draw_lane(root, lane, column, height)
    positions = [(graph.lanes.index(step.lane), row) for row, step in enumerate(graph.steps)]
    for (column, row), (next_column, _) in pairwise(positions):
        _draw_way(root, _middle(column), _bottom(row), _middle(next_column), _top(row + 1))
    for step, (column, row) in zip(graph.steps, positions, strict=True):
        _draw_step(root, step, _left(column), _top(row))
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _draw_lane(root: Element, lane: str, column: int, height: int) -> None:
    area = {"x": _left(column) - 12, "y": 66, "width": _BOX_WIDTH + 24, "height": height - 66 - 8, "rx": 10}
    SubElement(root, "rect", {"class": "lane"} | {name: str(value) for name, value in area.items()})
    _text(root, _left(column), 92, f"lane {lane}", "quiet")


def _draw_way(root: Element, x: int, y: int, to_x: int, to_y: int) -> None:
    half = (y + to_y) // 2
    way = f"M{x} {y} V{half} H{to_x} V{to_y - 7}"
    SubElement(root, "path", {"class": "way", "d": way})
    SubElement(root, "path", {"class": "head", "d": f"M{to_x - 5} {to_y - 8} h10 l-5 8 z"})


def _draw_step(root: Element, step: GraphStep, x: int, y: int) -> None:
    group = SubElement(root, "g")
    SubElement(group, "title").text = printable(step.summary or step.type)
    state = "" if step.activity is None else f" {step.activity.state}"
    # If a step has several jobs, sheets behind its box represent them.
    for offset in (8, 4, 0) if step.fans_out else (0,):
        box = {"x": x + offset, "y": y + offset, "width": _BOX_WIDTH, "height": _BOX_HEIGHT, "rx": 6}
        SubElement(group, "rect", {"class": f"box{state}"} | {name: str(value) for name, value in box.items()})
    number = "" if step.is_follow_up else f"{step.index}  "
    _text(group, x + 12, y + 22, f"{number}{step.type}", "name")
    _text(group, x + _BOX_WIDTH - 12, y + 22, str(step.priority), "quiet", anchor="end")
    for line, (words, style) in enumerate(_lines(step)):
        _text(group, x + 12, y + 43 + 19 * line, words, style)


def _lines(step: GraphStep) -> Iterator[tuple[str, str]]:
    notes = ", ".join(step.notes)
    if step.activity is None:
        yield step.fan_out, "quiet"
        yield notes, "quiet"
        return
    activity = step.activity
    took = "" if activity.seconds is None else f" · {lasting(activity.seconds)}"
    yield f"{SYMBOLS[activity.state]} {activity.state}{took}", activity.state
    yield activity.says or notes, "quiet"


def _spoken(step: GraphStep) -> str:
    state = "" if step.activity is None else f", {step.activity.state}, {step.activity.says}"
    return printable(
        f"step {step.index} {step.type}, priority {step.priority}, lane {step.lane}, {step.fan_out}{state}"
    )


def _text(
    parent: Element, x: int, y: int, words: str, style: str, *, anchor: str = "start", most: int = _LINE_CHARACTERS
) -> None:
    if words:
        cut = words if len(words) <= most else words[: most - 1] + "…"
        made = SubElement(parent, "text", {"class": style, "x": str(x), "y": str(y), "text-anchor": anchor})
        made.text = printable(cut)


def _left(column: int) -> int:
    return _MARGIN + column * (_BOX_WIDTH + _GAP_X)


def _middle(column: int) -> int:
    return _left(column) + _BOX_WIDTH // 2


def _top(row: int) -> int:
    return _HEAD + row * (_BOX_HEIGHT + _GAP_Y)


def _bottom(row: int) -> int:
    return _top(row) + _BOX_HEIGHT
