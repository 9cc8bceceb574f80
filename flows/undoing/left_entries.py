"""Reports the journal entries that an undo leaves as they are, by the names that their files and rows had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from flows.errors import named
from flows.handlers.step_context import StepContext
from storage.history.journal import JournalEntry
from storage.library.naming.names import printable
from storage.library.paths import TRASH_FOLDER
from storage.library.trash import parse_trash_name


def report_left(ctx: StepContext, entries: Sequence[JournalEntry], reason: str) -> None:
    """Report that entries cannot be undone, under the name of their photo, project or file."""
    leave(ctx, name_of(entries), reason)


def leave(ctx: StepContext, name: str, reason: str) -> None:
    """Report that the named file or row cannot be undone, and why."""
    ctx.report.count("cannot be restored", example=named(name, reason))
    ctx.report.leave(name, reason)


def name_of(entries: Sequence[JournalEntry]) -> str:
    """Return the path of the entries' photo, project or file as it was before the task."""
    path = PurePosixPath(entries[-1].source)
    parsed = parse_trash_name(path.name)
    if parsed is not None and parsed.original_name and TRASH_FOLDER in path.parts:
        path = path.with_name(parsed.original_name)
    return printable(path.as_posix())
