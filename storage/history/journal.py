"""The table `file_journal`: every move and removal of an original, written in the same transaction as the row change.

Entries of a task also contain rows and manifests as they were before the change, so that an undo can restore them.
`storage.upkeep.retention` decides when entries are removed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from storage.batches import batched, pages
from storage.database.tables import file_journal
from storage.records import Record

#: The key in `FileChange.row` for the id of a move of several files. All files of a photo without a row that moved
#: together have the same id.
MOVED_TOGETHER = "moved_together"


class FileAction(StrEnum):
    """The kind of a change of a file, folder or row.

    In a `followed` change, a user had moved or renamed the file by hand, and the task updated the rows. `restored` is a
    move out of the trash, and `archived_as_gone` the archiving of a project whose folder is missing.
    """

    TRASHED = "trashed"
    MOVED = "moved"
    FOLLOWED = "followed"
    RENAMED = "renamed"
    RENAMED_FOLDER = "renamed_folder"
    FOLLOWED_FOLDER = "followed_folder"
    REMOVED = "removed"
    RESTORED = "restored"
    REMOVED_ROW = "removed_row"
    ADDED_ROW = "added_row"
    CHANGED_ROW = "changed_row"
    WROTE_MANIFEST = "wrote_manifest"
    ARCHIVED_AS_GONE = "archived_as_gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One change to be journaled.

    Attributes:
        source: the file's old path, relative to the library's root.
        target: the file's new path, relative to the library's root; None if there is none, as after a removal or a
            change of a row.
        row: what an undo needs besides the paths; None if it needs nothing more. For a removed row, it is the whole
            row. For an added row, it has the row as `after`; if a step added a photo, only the columns of other
            programs. For a changed row, it has the columns that differ as `before` and `after`, and may have further
            keys. For a manifest, it has the old and the new text as `before` and `after`. For a file of a photo without
            a row, it has only the key `MOVED_TOGETHER`.
    """

    action: FileAction
    source: str
    target: str | None = None
    project_id: int | None = None
    photo_id: int | None = None
    size_bytes: int | None = None
    row: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry(Record):
    """A row of `file_journal`."""

    id: int
    tenant_id: str
    task_id: str | None
    job_id: int | None
    project_id: int | None
    photo_id: int | None
    action: str
    source: str
    target: str | None
    size_bytes: int | None
    row_json: Any
    created_at: datetime
    undone_at: datetime | None


def write_journal(
    connection: Connection,
    changes: Iterable[FileChange],
    *,
    tenant_id: str,
    task_id: str | None,
    job_id: int | None,
    now: datetime,
) -> int:
    """Write changes in order, inside the caller's transaction; return their number."""
    rows = [
        {
            "tenant_id": tenant_id,
            "task_id": task_id,
            "job_id": job_id,
            "project_id": change.project_id,
            "photo_id": change.photo_id,
            "action": str(change.action),
            "source": change.source,
            "target": change.target,
            "size_bytes": change.size_bytes,
            "row_json": change.row,
            "created_at": now,
        }
        for change in changes
    ]
    if rows:
        connection.execute(insert(file_journal), rows)
    return len(rows)


def latest_by_target(connection: Connection, targets: Sequence[str], *, project_id: int) -> dict[str, JournalEntry]:
    """Return the latest entry of the project for each of these targets; targets without an entry are left out."""
    found: dict[str, JournalEntry] = {}
    for batch in batched(targets):
        statement = select(file_journal).where(
            file_journal.c.project_id == project_id, file_journal.c.target.in_(batch)
        )
        for row in connection.execute(statement.order_by(file_journal.c.id)).mappings():
            found[row["target"]] = JournalEntry.from_row(row)
    return found


def iterate_trashed(
    connect: Callable[[], AbstractContextManager[Connection]], *, project_id: int, before: datetime, batch_size: int
) -> Iterator[list[JournalEntry]]:
    """Yield, in batches, the entries of files that were trashed before the time `before`.

    `connect` opens a connection for each batch. According to the journal, the files are still in the project's trash.
    """
    left = select(file_journal.c.source).where(
        file_journal.c.project_id == project_id,
        file_journal.c.action.in_((str(FileAction.REMOVED), str(FileAction.RESTORED))),
    )
    statement = select(file_journal).where(
        file_journal.c.project_id == project_id,
        file_journal.c.action == str(FileAction.TRASHED),
        file_journal.c.created_at < before,
        file_journal.c.undone_at.is_(None),
        file_journal.c.target.is_not(None),
        file_journal.c.target.not_in(left),
    )
    for rows in pages(connect, statement, file_journal.c.id, batch_size):
        yield [JournalEntry.from_row(row) for row in rows]


def last_entry(connection: Connection, *, project_id: int, action: FileAction) -> JournalEntry | None:
    """Return the project's latest entry with this action that was not undone, or None."""
    statement = (
        select(file_journal)
        .where(
            file_journal.c.project_id == project_id,
            file_journal.c.action == str(action),
            file_journal.c.undone_at.is_(None),
        )
        .order_by(file_journal.c.id.desc())
        .limit(1)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else JournalEntry.from_row(row)


def withdraw_entry(connection: Connection, entry_id: int) -> None:
    """Remove the entry of a change that was not made; the entry was written before the change."""
    connection.execute(delete(file_journal).where(file_journal.c.id == entry_id))


def mark_undone(connection: Connection, entry_ids: Iterable[int], *, now: datetime) -> None:
    """Mark entries as undone."""
    connection.execute(update(file_journal).where(file_journal.c.id.in_(list(entry_ids))).values(undone_at=now))
