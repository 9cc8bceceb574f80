"""Prints the output of commands: tables for people, plain columns for pipes, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from deployments.cli.options.errors import BadInput, UnwritableFile
from deployments.cli.output.loudness import is_quiet
from storage.database.clock import format_timestamp
from task_definitions.wording import lasting, printable

#: The width of a table that is written to a file or a pipe: such a table is never folded.
UNFOLDED_COLUMNS = 10_000

#: The number of spaces between two columns.
GAP_COLUMNS = 2

#: The suffixes of files that commands write. A file with another suffix may be a photograph, or belong to one.
REPLACED_SUFFIXES = frozenset(
    {"", ".html", ".htm", ".svg", ".mmd", ".mermaid", ".txt", ".md", ".json", ".yaml", ".yml"}
)

#: A cell with several words and more characters than this is a long text, which a narrow terminal folds to this width.
PROSE_COLUMNS = 24


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # Rich would end the process; `run_command_line` handles this error.
        raise


@cache
def output() -> Console:
    """Return the console for results, which prints to stdout. Rich chooses colors, by the terminal and `NO_COLOR`."""
    width = None if sys.stdout.isatty() else UNFOLDED_COLUMNS
    return _Console(highlight=False, width=width)


@cache
def messages() -> Console:
    """Return the console for progress and remarks, which prints to stderr."""
    return _Console(highlight=False, stderr=True, soft_wrap=not sys.stderr.isatty())


def say(text: str) -> None:
    """Print a line of the result."""
    output().print(Text(harmless(text)), soft_wrap=True)


def confirm(text: str) -> None:
    """Print a line about what the command did; print nothing with --quiet."""
    if not is_quiet():
        say(text)


def remark(text: str) -> None:
    """Print a line of progress or advice on stderr; print nothing with --quiet."""
    if not is_quiet():
        messages().print(Text(harmless(text)), soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on stderr; the command continues."""
    messages().print(Text(harmless(f"photojobs: {text}")), soft_wrap=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A table of plain values; None becomes an empty cell. The name of the first column is also the table's title.

    Attributes:
        columns: the names of the columns.
        rows: the rows, each with a value for each column.
        numbers: the columns that are aligned to the right.
        spared: the columns that are left out on a narrow terminal, in the order in which they are left out.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numbers: Sequence[str] = ()
    spared: Sequence[str] = ()


def table(section: Section) -> RenderableType:
    """Return a table that fits into the terminal.

    If the table is too wide for the terminal, long texts are folded, and columns are left out until the table fits:
    first the empty columns, then those in `section.spared`. If that is not enough, each row becomes a paragraph with
    named values, because an id must not be broken in two.
    """
    shown_columns = {name: [_cell(row[index]) for row in section.rows] for index, name in enumerate(section.columns)}
    if output().is_terminal:
        empty = [name for name, cells in shown_columns.items() if not any(cells)]
        for left_out in (*empty, *(name for name in section.spared if name not in empty)):
            if _least_width(shown_columns) <= output().width:
                break
            del shown_columns[left_out]
        if _least_width(shown_columns) > output().width:
            names = list(shown_columns)
            return Group(*(_paragraph(names, row) for row in zip(*shown_columns.values(), strict=True)))
    made = Table(
        box=None, pad_edge=False, header_style="bold" if output().is_terminal else "", padding=(0, GAP_COLUMNS, 0, 0)
    )
    for name, cells in shown_columns.items():
        justify: Literal["left", "right"] = "right" if name in section.numbers else "left"
        made.add_column(name, justify=justify, overflow="fold", no_wrap=not _is_prose(cells))
    for row in zip(*shown_columns.values(), strict=True):
        made.add_row(*map(Text, row))
    return made


def _is_prose(cells: Sequence[str]) -> bool:
    return any(" " in cell and len(cell) > PROSE_COLUMNS for cell in cells)


def _least_width(columns: Mapping[str, Sequence[str]]) -> int:
    """Return the width of the narrowest table in which only long texts are folded."""
    width = 0
    for name, cells in columns.items():
        natural = max(map(cell_len, (name, *cells)))
        width += GAP_COLUMNS + (min(natural, PROSE_COLUMNS) if _is_prose(cells) else natural)
    return width


def _cell(value: Any) -> str:
    # Tables show moments to the minute; `tasks show` and `jobs show` show them to the second.
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else shown(value)


def _paragraph(columns: Sequence[str], row: Sequence[str]) -> Text:
    parts = [Text.assemble((f"{name} ", "dim"), cell) for name, cell in zip(columns, row, strict=True) if cell]
    return Text.assemble(Text("  ").join(parts), "\n")


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers: Sequence[str] = (), spared: Sequence[str] = ()
) -> None:
    """Print a table; see `Section`."""
    print_section(Section(columns, rows, numbers, spared))


def print_section(section: Section) -> None:
    """Print a table; in a file it has no spaces at the ends of lines."""
    made = table(section)
    if output().is_terminal:
        output().print(made)
        return
    with output().capture() as captured:
        output().print(made)
    output().out("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names with their values, one on each line; None values are left out. A terminal folds long values."""
    known = {name: shown(value) for name, value in fields.items() if value is not None}
    if output().is_terminal:
        grid = Table.grid(padding=(0, GAP_COLUMNS, 0, 0))
        grid.add_column(no_wrap=True)
        for name, text in known.items():
            grid.add_row(Text(name), Text(text, overflow="fold"))
        output().print(grid)
        return
    width = max(map(len, known), default=0)
    for name, text in known.items():
        say(f"{name.ljust(width)}  {text}")


def print_json(value: Any) -> None:
    """Print a JSON document: records become objects, and moments become ISO 8601 texts in UTC."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=plain)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        # A file name may have bytes that are not Unicode, or the terminal may have another encoding.
        text = json.dumps(value, indent=2, default=plain)
    sys.stdout.write(text + "\n")


def print_outcome(text: str, document: Any, *, json: bool) -> None:
    """Print what the command did: a line, or with `json` a JSON document."""
    if json:
        print_json(document)
    else:
        confirm(text)


def write_file(file: Path, text: str) -> None:
    """Write a result to a file. An existing file is replaced if its suffix is in `REPLACED_SUFFIXES`.

    Raises:
        BadInput: the existing file has another suffix.
        UnwritableFile: the file cannot be written.
    """
    if file.is_file() and file.resolve().suffix.lower() not in REPLACED_SUFFIXES:
        raise BadInput(
            f"{file} exists, and is not replaced, because files with the suffix "
            f"{file.resolve().suffix} are not results of this command. Name another file."
        )
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UnwritableFile(file, error) from None


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


def harmless(text: str) -> str:
    """Return a text with its line breaks, but with all other control characters escaped: names may contain them."""
    return "\n".join(map(printable, text.split("\n")))


def duration(seconds: float | None) -> str:
    """Return a duration as a text for people."""
    return "" if seconds is None else lasting(seconds)


def plain(value: Any) -> Any:
    """Return a value in a form that `json.dumps` can write; see `print_json`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return format_timestamp(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
