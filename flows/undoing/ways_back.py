"""Finds the current and the former places of the files in journal entries. It changes nothing on the disk.

A file that was edited in place since the task goes back with its edit. `_plan` in `flows.undoing.photo_undo` decides
whether the changes of a photo can be undone. If files are missing, for example because the trash was emptied,
`_check_gone` in that module decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flows.handlers.announced_moves import FileMove
from flows.undoing.places import Places
from flows.undoing.reversal import CannotComeBack
from storage.history.journal import FileAction, JournalEntry
from storage.library.errors import UnsafePath
from storage.library.naming.names import printable
from storage.library.trash import trash_place

#: The actions that move one file, each with the action that reverses it.
FILE_ACTIONS = {
    FileAction.TRASHED: FileAction.RESTORED,
    FileAction.RESTORED: FileAction.TRASHED,
    FileAction.MOVED: FileAction.MOVED,
    FileAction.RENAMED: FileAction.RENAMED,
}


#: What a user can do if another file has the name of a file that cannot come back.
MOVE_AWAY = "move the other file away, and undo the task again"


@dataclass(frozen=True, slots=True)
class WayBack:
    """How one file returns to its former place: its current path, its former path, and the move.

    Attributes:
        now: the current path of the file, before it returns.
        back: the path to which the file returns. A file that returns to the trash gets a new name with the current
            time, so that its time in the trash begins again.
        move: the move; None if the file is missing, or is already at `back` because a user has moved it.
        is_gone: whether the file is at neither path.
        project_id: the project whose current folder `now` is in; None if the journal's path alone determined `now`.
    """

    entry: JournalEntry
    now: Path
    back: Path
    move: FileMove | None
    is_gone: bool
    project_id: int | None

    @property
    def has_no_row(self) -> bool:
        """Whether the photo of the file had no row when the task moved it."""
        return _has_no_row(self.entry)

    @property
    def name(self) -> str:
        """The name of the file at `back`."""
        return printable(self.back.name)


def find_ways(places: Places, entries: Iterable[JournalEntry], *, now_in: int | None, at: datetime) -> list[WayBack]:
    """Return a `WayBack` for the file of each entry of a group, in the order in which the files must move.

    A name is taken only by a file with exactly the same name: `IMG_1.jpg` can return to a folder that has `img_1.jpg`.

    Args:
        places: finds the paths of the entries.
        entries: the entries, the newest first. The action of each is one of `FILE_ACTIONS`. If one task moved a file
            twice, the older entry continues the way of the newer entry.
        now_in: the id of the photo's current project; None for a photo without a row.
        at: the current time.

    Raises:
        CannotComeBack: another file has the name, or the place does not belong to the tenant.
    """
    ways: dict[str, WayBack] = {}
    found: list[WayBack] = []
    for entry in entries:
        way = _find(places, entry, now_in, at, ways.get(str(entry.target)), found)
        found.append(way)
        if not way.is_gone:
            ways[entry.source] = way
    return found


def _find(
    places: Places,
    entry: JournalEntry,
    now_in: int | None,
    at: datetime,
    earlier: WayBack | None,
    others: Iterable[WayBack],
) -> WayBack:
    action = FileAction(entry.action)
    of_source = None if _has_no_row(entry) else entry.project_id
    of_target = now_in if action is FileAction.MOVED and not _has_no_row(entry) else of_source
    try:
        now = places.file(str(entry.target), of_target) if earlier is None else earlier.back
        if action is FileAction.RESTORED:
            back = trash_place(places.folder(entry.source, of_source), now, at=at)
        else:
            back = places.file(entry.source, of_source)
    except UnsafePath as error:
        raise CannotComeBack(str(error)) from error
    vacated = {way.now for way in others if way.move is not None}
    before = None if earlier is None else earlier.move
    is_here = before is not None or (os.path.lexists(now) and now not in vacated)
    is_there = os.path.lexists(back) and back not in vacated
    if is_here and is_there and not (before is None and now.samefile(back)):
        # `now` and `back` may be two names of one file, after an interrupted move. Here, they are two files.
        raise CannotComeBack(f"{printable(back.name)}: another file has this name now; {MOVE_AWAY}")
    if not is_here and is_there and not _has_size(back, entry.size_bytes):
        place = printable(str(entry.target))
        raise CannotComeBack(
            f"{printable(back.name)}: the file is no longer at {place}, where the task put it, and another file has "
            f"its former name; put the file back at {place}, {MOVE_AWAY}"
        )
    move = None
    if is_here:
        move = FileMove(now, back, now.lstat().st_size if before is None else before.size_bytes)
    return WayBack(entry, now, back, move, is_gone=not is_here and not is_there, project_id=of_target)


def _has_no_row(entry: JournalEntry) -> bool:
    return entry.action == FileAction.MOVED and entry.photo_id is None


def _has_size(path: Path, size_bytes: int | None) -> bool:
    return size_bytes is None or path.lstat().st_size == size_bytes
