"""Reads the journal of a task for an undo, from the newest entry to the oldest, in groups of related entries."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from storage.database.tables import file_journal
from storage.history.journal import MOVED_TOGETHER, FileAction, JournalEntry

#: The step type that undoes a task.
UNDO_STEP = "undo"

#: The key in the payload of an undo task for the id of the task to undo.
UNDO = "undo"

#: The number of entries that are read at a time.
PAGE_SIZE = 2_000

#: The maximum difference between the ids of a photo's entries from one job, because one transaction writes all of them.
_REACH = 10_000

#: The maximum difference between the ids of the entries of a photo without a row. They are written one after the other.
_REACH_TOGETHER = 1_000

#: The actions of an entry that concerns a whole project, if the entry names no photo.
_OF_PROJECT = frozenset(
    {
        FileAction.ADDED_ROW,
        FileAction.CHANGED_ROW,
        FileAction.REMOVED_ROW,
        FileAction.RENAMED_FOLDER,
        FileAction.FOLLOWED_FOLDER,
        FileAction.ARCHIVED_AS_GONE,
    }
)


@dataclass(frozen=True, slots=True)
class EntryGroup:
    """Entries that are undone together or not at all, the newest first.

    Attributes:
        photo_id: the photo that the entries concern; None if they concern a project, a folder or a single file.
        is_of_project: whether the entries concern a project's row and folder.
    """

    photo_id: int | None
    project_id: int | None
    is_of_project: bool
    entries: list[JournalEntry] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """The ids of the entries."""
        return [entry.id for entry in self.entries]

    def project_ids(self) -> set[int]:
        """Return the ids of all projects in the entries."""
        found = {entry.project_id for entry in self.entries}
        for entry in self.entries:
            row = entry.row_json if isinstance(entry.row_json, dict) else {}
            for side in ("before", "after"):
                if isinstance(row.get(side), dict):
                    found.add(row[side].get("project_id"))
        return {project_id for project_id in found if project_id is not None}


def iterate_groups(source: Any, *, task_id: str) -> Iterator[list[EntryGroup]]:
    """Yield the entries of a task that were not undone, as pages of groups, the newest first.

    `source` is a `Database`. No connection stays open between pages.
    """
    before_id: int | None = None
    seen: set[int] = set()
    while True:
        with source.connect() as connection:
            page = _page(connection, task_id, before_id)
            if not page:
                return
            before_id = page[-1].id
            fresh = [entry for entry in page if entry.id not in seen]
            older = _older_entries(connection, task_id, fresh, before_id)
            older = [entry for entry in older if entry.id not in seen]
        seen |= {entry.id for entry in older}
        yield _grouped([*fresh, *older])


def count_undoable(connection: Connection, *, task_id: str) -> dict[str, int]:
    """Return the number of entries of a task that were not undone, by action."""
    statement = (
        select(file_journal.c.action, func.count()).where(*_can_be_undone(task_id)).group_by(file_journal.c.action)
    )
    return {row.action: row[1] for row in connection.execute(statement)}


def projects_removed_with_folder(connection: Connection, *, task_id: str) -> set[int]:
    """Return the projects whose folders a task removed for good."""
    statement = select(file_journal.c.project_id).where(
        file_journal.c.task_id == task_id,
        file_journal.c.action == str(FileAction.REMOVED),
        # This condition leaves out files that were removed from a trash, because their entries have no row.
        file_journal.c.row_json.is_not(None),
        file_journal.c.project_id.is_not(None),
    )
    return set(connection.execute(statement).scalars())


def projects_added(connection: Connection, *, task_id: str) -> set[int]:
    """Return the projects whose rows a task added, if this was not undone."""
    statement = select(file_journal.c.project_id).where(
        *_can_be_undone(task_id),
        file_journal.c.action == str(FileAction.ADDED_ROW),
        file_journal.c.photo_id.is_(None),
        file_journal.c.project_id.is_not(None),
    )
    return set(connection.execute(statement).scalars())


def archived_as_gone_at(connection: Connection, project_id: int) -> Sequence[Any]:
    """Return the times at which a project was archived because its folder was missing, including undone changes."""
    statement = select(file_journal.c.created_at).where(
        file_journal.c.project_id == project_id, file_journal.c.action == str(FileAction.ARCHIVED_AS_GONE)
    )
    return connection.execute(statement).scalars().all()


def _can_be_undone(task_id: str) -> tuple[ColumnElement[bool], ...]:
    return (file_journal.c.task_id == task_id, file_journal.c.undone_at.is_(None))


def _page(connection: Connection, task_id: str, before_id: int | None) -> list[JournalEntry]:
    statement = select(file_journal).where(*_can_be_undone(task_id))
    if before_id is not None:
        statement = statement.where(file_journal.c.id < before_id)
    rows = connection.execute(statement.order_by(file_journal.c.id.desc()).limit(PAGE_SIZE)).mappings()
    return [JournalEntry.from_row(row) for row in rows]


def _older_entries(
    connection: Connection, task_id: str, page: Sequence[JournalEntry], before_id: int
) -> list[JournalEntry]:
    """Return the entries of the page's photos that are older than the page, so that each group is complete."""
    wanted = {_photo_of(entry) for entry in page} - {None}
    if len(page) < PAGE_SIZE or not wanted:
        return []
    is_wanted: ColumnElement[bool] = file_journal.c.photo_id.is_not(None)
    if page[-1].photo_id is None and _photo_of(page[-1]) is not None:
        is_near = file_journal.c.id >= before_id - _REACH_TOGETHER
        is_wanted |= is_near & (file_journal.c.action == str(FileAction.MOVED))
    statement = (
        select(file_journal)
        .where(
            *_can_be_undone(task_id),
            file_journal.c.id < before_id,
            file_journal.c.id >= before_id - _REACH,
            is_wanted,
        )
        .order_by(file_journal.c.id.desc())
    )
    entries = map(JournalEntry.from_row, connection.execute(statement).mappings())
    return [entry for entry in entries if _photo_of(entry) in wanted]


def _photo_of(entry: JournalEntry) -> tuple[Any, ...] | None:
    """Return a key that the entries of a photo from one job have in common; None if the entry concerns no photo."""
    if entry.photo_id is not None:
        return ("photo", entry.job_id, entry.photo_id)
    row = entry.row_json if isinstance(entry.row_json, dict) else {}
    return ("moved together", entry.job_id, row[MOVED_TOGETHER]) if MOVED_TOGETHER in row else None


def _grouped(entries: Iterable[JournalEntry]) -> list[EntryGroup]:
    groups: dict[tuple[Any, ...], EntryGroup] = {}
    for entry in entries:
        is_gone = entry.action == FileAction.REMOVED and entry.row_json is None
        is_of_project = (
            entry.photo_id is None
            and entry.project_id is not None
            and (entry.action in _OF_PROJECT or (entry.action == FileAction.REMOVED and not is_gone))
        )
        photo = None if is_gone else _photo_of(entry)
        key: tuple[Any, ...] = ("entry", entry.id) if photo is None else photo
        if is_of_project:
            key = ("project", entry.job_id, entry.project_id)
        photo_id = None if is_gone else entry.photo_id
        group = groups.setdefault(key, EntryGroup(photo_id, entry.project_id, is_of_project))
        group.entries.append(entry)
    return list(groups.values())
