"""Writes the result of a step as Markdown: how its jobs ended, the changes in each project, and the failures.

`flows.orchestration.artifacts` decides when it is shown in Prefect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from storage.reports.task_summary import StepSummary
from task_definitions.wording import quantity, tally

_WORD_JOINER = "\u2060"

#: How many examples of each result are shown. `storage.reports.task_summary` limits the examples that are kept.
SHOWN_EXAMPLES = 3


def step_markdown(summary: StepSummary) -> str:
    """Return the report of a step as Markdown, for an artifact or a file."""
    lines = [f"# {summary.type}", "", f"Priority {summary.priority}. {_counted(summary.jobs, 'job')}."]
    if summary.total_items:
        lines.append(f"{_counted(summary.items, 'item')}.")
    if summary.counts:
        lines += ["", "| result | count | examples |", "| --- | ---: | --- |"]
        for name, number in sorted(summary.counts.items()):
            first = ", ".join(cell(example) for example in summary.examples.get(name, ())[:SHOWN_EXAMPLES])
            lines.append(f"| {cell(name)} | {number} | {first} |")
    if summary.projects:
        names = sorted({name for counts in summary.projects.values() for name in counts})
        lines += ["", "## Projects", "", row(["project", *names]), row(["---", *["---:"] * len(names)])]
        lines += [
            row([cell(project), *(str(counts.get(name, "")) for name in names)])
            for project, counts in sorted(summary.projects.items())
        ]
    if summary.errors:
        lines += ["", "## Failures", "", *(f"- {cell(error)}" for error in summary.errors)]
    return "\n".join(lines) + "\n"


def step_line(summary: StepSummary) -> str:
    """Return the jobs, items and counts of a step on one line, for a log."""
    parts = [_counted(summary.jobs, "job")]
    if summary.total_items:
        parts.append(_counted(summary.items, "item"))
    if summary.counts:
        parts.append(tally(summary.counts))
    return f"{summary.type}: {'; '.join(parts)}"


def _counted(by_status: dict[str, int], noun: str) -> str:
    total = sum(by_status.values())
    parts = ", ".join(f"{number} {status}" for status, number in sorted(by_status.items()))
    return f"{quantity(total, noun)}: {parts}" if total else f"no {noun}s"


def row(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table. `cell` must have escaped each cell before."""
    return f"| {' | '.join(cells)} |"


def cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table. A character that cannot be printed becomes a question mark."""
    flat = "".join(character if character.isprintable() else "?" for character in text)
    flat = flat.replace("&", "&amp;")
    for special in "\\|`*_~$#<>[]":
        flat = flat.replace(special, f"\\{special}")
    # Markdown renderers turn bare addresses into links. An invisible character in the text prevents that.
    return re.sub(r"(?<=://)|(?<=www)(?=\.)|(?<=@)", _WORD_JOINER, flat, flags=re.IGNORECASE)
