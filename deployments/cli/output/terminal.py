"""Prints the output of commands: tables for people, plain columns for pipes, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from deployments.cli.output.loudness import is_quiet
from storage.database.clock import format_timestamp
from task_definitions.wording import lasting, printable

#: The width of a table that is written to a file or a pipe: such a table is never folded.
UNFOLDED_COLUMNS = 10_000

#: The number of spaces between two columns.
GAP_COLUMNS = 2

#: A cell with several words and more characters than this is prose, which a narrow terminal folds to this width.
PROSE_COLUMNS = 24


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # Rich would end the process; `run_command_line` handles this error.
        raise


@cache
def output() -> Console:
    """Return the console for results, which prints to stdout."""
    width = None if sys.stdout.isatty() else UNFOLDED_COLUMNS
    return _Console(highlight=False, width=width)


@cache
def messages() -> Console:
    """Return the console for progress and remarks, which prints to stderr."""
    return _Console(highlight=False, stderr=True, soft_wrap=not sys.stderr.isatty())


def say(text: str) -> None:
    """Print a line of the result."""
    output().print(Text(text), soft_wrap=True)


def confirm(text: str) -> None:
    """Print a line about what the command did; print nothing with --quiet."""
    if not is_quiet():
        say(text)


def remark(text: str) -> None:
    """Print a line of progress or advice on stderr; print nothing with --quiet."""
    if not is_quiet():
        messages().print(Text(text), soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on stderr; the command continues."""
    messages().print(Text(f"photojobs: {text}"), soft_wrap=True)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str] = (), spared: Sequence[str] = ()
) -> RenderableType:
    """Return a table of plain values; None becomes an empty cell.

    To fit the table into a terminal, prose is folded, and empty columns and the columns of `spared` are left out. If
    that is not enough, each row becomes a paragraph with named values, because an id must not be broken in two.

    Args:
        columns: the names of the columns.
        rows: the rows, each with a value for each column.
        numbers: the columns that are aligned to the right.
        spared: the columns that are left out on a narrow terminal, in the order in which they are left out.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    if output().is_terminal:
        empty = [name for index, name in enumerate(columns) if not any(row[index] for row in cells)]
        for left_out in (*empty, *(name for name in spared if name not in empty)):
            if _least_width(columns, cells) <= output().width:
                break
            index = list(columns).index(left_out)
            columns = [*columns[:index], *columns[index + 1 :]]
            cells = [[*row[:index], *row[index + 1 :]] for row in cells]
        if _least_width(columns, cells) > output().width:
            return Group(*(_paragraph(columns, row) for row in cells))
    made = Table(
        box=None, pad_edge=False, header_style="bold" if output().is_terminal else "", padding=(0, GAP_COLUMNS, 0, 0)
    )
    for column, (_, is_prose) in zip(columns, _shapes(columns, cells), strict=True):
        made.add_column(
            column,
            justify="right" if column in numbers else "left",
            overflow="fold",
            no_wrap=not is_prose,
        )
    for row in cells:
        made.add_row(*map(Text, row))
    return made


def _shapes(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[tuple[int, bool]]:
    """Return the natural width of each column, and whether the column contains prose."""
    prose = [
        any(" " in row[index] and len(row[index]) > PROSE_COLUMNS for row in cells) for index in range(len(columns))
    ]
    return list(zip(_widths(columns, cells), prose, strict=True))


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(name), *(cell_len(row[index]) for row in cells), 0) for index, name in enumerate(columns)]


def _least_width(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    least = [min(each, PROSE_COLUMNS) if is_prose else each for each, is_prose in _shapes(columns, cells)]
    return sum(least) + GAP_COLUMNS * len(least)


def _cell(value: Any) -> str:
    # Tables show minutes; the page of a single task or job shows seconds.
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else shown(value)


def _paragraph(columns: Sequence[str], row: Sequence[str]) -> Text:
    parts = [Text.assemble((f"{name} ", "dim"), cell) for name, cell in zip(columns, row, strict=True) if cell]
    return Text.assemble(Text("  ").join(parts), "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str] = (), spared: Sequence[str] = ()
) -> None:
    """Print a table of plain values; see `table`."""
    made = table(columns, rows, numbers=numbers, spared=spared)
    if output().is_terminal:
        output().print(made)
        return
    with output().capture() as captured:
        output().print(made)
    # A file needs no spaces after the last cell.
    output().out("\n".join(line.rstrip() for line in captured.get().splitlines()))


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One of several tables on a page; the name of its first column is its title."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numbers: Sequence[str] = ()
    spared: Sequence[str] = ()


def section_table(section: Section) -> RenderableType:
    """Return the table of a section."""
    return table(section.columns, section.rows, numbers=section.numbers, spared=section.spared)


def print_sections(sections: Iterable[Section]) -> None:
    """Print tables, with a blank line before each."""
    for section in sections:
        output().print()
        print_table(section.columns, section.rows, numbers=section.numbers, spared=section.spared)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names with their values, one on each line; None values are left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        say(f"{name.ljust(width)}  {shown(value)}")


def print_json(value: Any) -> None:
    """Print a JSON document: records are objects, moments ISO 8601 in UTC."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=plain) + "\n")


def shown(value: Any) -> str:
    """Return a value as a text for people, always on one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict | list):
        return printable(json.dumps(value, ensure_ascii=False, default=plain))
    return printable(str(value))


def duration(seconds: float | None) -> str:
    """Return a duration as a text for people."""
    return "" if seconds is None else lasting(seconds)


def plain(value: Any) -> Any:
    """Return a value in a form that `json.dumps` can write: records are objects, moments ISO 8601 in UTC."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return format_timestamp(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
