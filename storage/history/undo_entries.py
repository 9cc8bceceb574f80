"""Reads the journal of a task for an undo, from the newest entry to the oldest, in groups of related entries.

`undo_arguments` in `flows.api.undo` decides which tasks can be undone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from storage.batches import batched
from storage.database.tables import file_journal
from storage.history.journal import MOVED_TOGETHER, FileAction, JournalEntry
from storage.library.naming.names import name_key

#: The step type that undoes a task.
UNDO_STEP = "undo"

#: The key in the payload of an undo task for the id of the task to undo.
UNDO = "undo"

#: The number of entries that are read at a time.
PAGE_SIZE = 2_000

#: How far back, in ids, older entries of a group are searched. One transaction writes most entries of a group, so their
#: ids are close to each other. Entries that may be further away are read separately.
_REACH = 10_000

#: The actions that concern a row.
_OF_ROW = frozenset({FileAction.ADDED_ROW, FileAction.CHANGED_ROW, FileAction.REMOVED_ROW})

#: The actions of an entry that concerns a whole project, if the entry names no photo.
_OF_PROJECT = _OF_ROW | {
    FileAction.RENAMED_FOLDER,
    FileAction.FOLLOWED_FOLDER,
    FileAction.ARCHIVED_AS_GONE,
    FileAction.REMOVED,
}

_Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class EntryGroup:
    """Entries that are undone together or not at all, the newest first.

    Attributes:
        photo_id: the photo that the entries concern; None if they concern a project, a folder, or files without a
            photo's row.
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


def iterate_groups(source: Any, *, task_id: str, is_image: Callable[[str], bool]) -> Iterator[list[EntryGroup]]:
    """Yield the entries of a task that were not undone, as pages of groups, the newest first.

    `source` is a `Database`. No connection stays open between pages. `is_image` returns whether a file of this name is
    an image.
    """
    before_id: int | None = None
    seen: set[int] = set()
    with source.connect() as connection:
        keys = _Keys(connection, task_id, is_image)
    while True:
        with source.connect() as connection:
            page = _page(connection, task_id, before_id)
            if not page:
                return
            before_id = page[-1].id
            fresh = [entry for entry in page if entry.id not in seen]
            older = _older_entries(connection, task_id, fresh, before_id, keys) if len(page) == PAGE_SIZE else []
            older = [entry for entry in older if entry.id not in seen]
        seen |= {entry.id for entry in older}
        yield _grouped([*fresh, *older], keys)


def count_undoable(connection: Connection, *, task_id: str) -> dict[str, int]:
    """Return the number of entries of a task that were not undone, by action."""
    statement = (
        select(file_journal.c.action, func.count()).where(*_can_be_undone(task_id)).group_by(file_journal.c.action)
    )
    return {row.action: row[1] for row in connection.execute(statement)}


def projects_removed_with_folder(connection: Connection, *, task_id: str) -> set[int]:
    """Return the ids of the projects whose folders a task removed for good."""
    # An entry without a row is of a file that was removed from a trash.
    is_removal = (file_journal.c.action == str(FileAction.REMOVED)) & file_journal.c.row_json.is_not(None)
    return _projects(connection, file_journal.c.task_id == task_id, is_removal)


def projects_added(connection: Connection, *, task_id: str) -> set[int]:
    """Return the ids of the projects whose rows a task added. Rows whose addition was undone are left out."""
    is_addition = (file_journal.c.action == str(FileAction.ADDED_ROW)) & file_journal.c.photo_id.is_(None)
    return _projects(connection, *_can_be_undone(task_id), is_addition)


def archived_as_gone_at(connection: Connection, project_id: int) -> Sequence[Any]:
    """Return the times at which a project was archived because its folder was missing, including undone changes."""
    statement = select(file_journal.c.created_at).where(
        file_journal.c.project_id == project_id, file_journal.c.action == str(FileAction.ARCHIVED_AS_GONE)
    )
    return connection.execute(statement).scalars().all()


def _projects(connection: Connection, *conditions: ColumnElement[bool]) -> set[int]:
    statement = select(file_journal.c.project_id).where(*conditions, file_journal.c.project_id.is_not(None))
    return set(connection.execute(statement).scalars())


def _can_be_undone(task_id: str) -> tuple[ColumnElement[bool], ...]:
    return (file_journal.c.task_id == task_id, file_journal.c.undone_at.is_(None))


def _page(connection: Connection, task_id: str, before_id: int | None) -> list[JournalEntry]:
    statement = select(file_journal).where(*_can_be_undone(task_id))
    if before_id is not None:
        statement = statement.where(file_journal.c.id < before_id)
    rows = connection.execute(statement.order_by(file_journal.c.id.desc()).limit(PAGE_SIZE)).mappings()
    return [JournalEntry.from_row(row) for row in rows]


class _Keys:
    """Decides which entries of a task are undone together: those with the same key.

    A row must stay with its files. A merge moves files of photos that have no row. If the task then added a row for the
    files, or an existing row got their place, the entries of the files have the key of the photo with this row. The
    same applies to the undo of such a task.
    """

    def __init__(self, connection: Connection, task_id: str, is_image: Callable[[str], bool]) -> None:
        #: The keys of photos, by the keys that the entries of their files have without a photo.
        self._photos: dict[_Key, _Key] = {}
        #: The ids of these entries, by the key of the photo.
        self._files: dict[_Key, list[int]] = defaultdict(list)
        is_of_photo, action = file_journal.c.photo_id.is_not(None), file_journal.c.action
        ids: dict[_Key, list[int]] = defaultdict(list)
        arrived: dict[str, _Key] = {}
        left: dict[str, _Key] = {}
        merged = select(file_journal).where(*_can_be_undone(task_id), ~is_of_photo, action == str(FileAction.MOVED))
        for entry in connection.execute(merged):
            key = _key_without_photo(entry)
            ids[key].append(entry.id)
            if is_image(entry.source.rpartition("/")[2]):
                arrived[_photo_at(str(entry.target).rpartition(".")[0])] = key
                left[_photo_at(entry.source.rpartition(".")[0])] = key
        if not ids:
            return
        columns = (file_journal.c[name] for name in ("job_id", "photo_id", "action", "source", "target"))
        for row in connection.execute(select(*columns).where(*_can_be_undone(task_id), is_of_photo)):
            match row.action:
                case FileAction.ADDED_ROW:
                    found = arrived.get(_photo_at(row.source))
                case FileAction.FOLLOWED:
                    found = arrived.get(_photo_at(str(row.target).rpartition(".")[0]))
                case FileAction.REMOVED_ROW | FileAction.CHANGED_ROW:
                    found = left.get(_photo_at(row.source))
                case _:
                    continue
            if found is not None:
                self._photos[found] = ("photo", row.job_id, row.photo_id)
        for key, photo in self._photos.items():
            self._files[photo] += ids[key]

    def of(self, entry: JournalEntry) -> _Key:
        """Return the key of an entry."""
        if entry.photo_id is not None and not _is_purge(entry):
            return ("photo", entry.job_id, entry.photo_id)
        key = _key_without_photo(entry)
        return self._photos.get(key, key)

    def merged(self, keys: Iterable[_Key]) -> list[int]:
        """Return the ids of the entries of files without a row that have one of these keys."""
        return sorted(one for key in keys for one in self._files.get(key, ()))


def _photo_at(path: str) -> str:
    """Return the path of a photo, with its folder and base name, in the same spelling for all spellings of the name."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name_key(name)}"


def _key_without_photo(entry: Any) -> _Key:
    row = entry.row_json if isinstance(entry.row_json, dict) else {}
    if MOVED_TOGETHER in row:
        return ("moved together", entry.job_id, row[MOVED_TOGETHER])
    if entry.project_id is not None and entry.action in _OF_PROJECT and not _is_purge(entry):
        return ("project", entry.job_id, entry.project_id)
    return ("entry", entry.id)


def _is_purge(entry: Any) -> bool:
    """Return whether an entry records that a file was removed from a trash."""
    return entry.action == FileAction.REMOVED and entry.row_json is None


def _older_entries(
    connection: Connection, task_id: str, page: Sequence[JournalEntry], before_id: int, keys: _Keys
) -> list[JournalEntry]:
    """Return the older entries of the groups on a page, the newest first, so that each group is complete."""
    wanted = {keys.of(entry) for entry in page}
    found: dict[int, JournalEntry] = {}

    def find(condition: ColumnElement[bool]) -> None:
        statement = select(file_journal).where(*_can_be_undone(task_id), file_journal.c.id < before_id, condition)
        entries = map(JournalEntry.from_row, connection.execute(statement).mappings())
        found.update((entry.id, entry) for entry in entries if keys.of(entry) in wanted)

    find(file_journal.c.id >= before_id - _REACH)
    for ids in batched(keys.merged(wanted), PAGE_SIZE):
        find(file_journal.c.id.in_(ids))
    # The newest entry of a photo is the entry of its row, except for a file that the photo got while many photos moved.
    # Such a file moves after all photos, so the other entries of its photo may be far away.
    with_row = {keys.of(entry) for entry in page if entry.action in _OF_ROW}
    for ids in batched(sorted(key[-1] for key in wanted - with_row if key[0] == "photo"), PAGE_SIZE):
        find(file_journal.c.photo_id.in_(ids))
    return [found[entry_id] for entry_id in sorted(found, reverse=True)]


def _grouped(entries: Iterable[JournalEntry], keys: _Keys) -> list[EntryGroup]:
    groups: dict[_Key, EntryGroup] = {}
    for entry in entries:
        key = keys.of(entry)
        photo_id = key[-1] if key[0] == "photo" else None
        groups.setdefault(key, EntryGroup(photo_id, entry.project_id, key[0] == "project")).entries.append(entry)
    return list(groups.values())
