"""Moves the files of journal entries back to their former places. No file is overwritten; every call can be repeated.

`storage.history.undo_entries` decides the order of the entries.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flows.handlers.step_context import StepContext
from flows.steps.targets.journal_changes import relative_path
from flows.undoing.places import Places
from flows.undoing.reversal import CannotComeBack
from storage.history.journal import FileAction, FileChange, JournalEntry
from storage.library.errors import LibraryError, UnsafePath
from storage.library.naming.folder_names import FolderNames
from storage.library.naming.names import printable
from storage.library.paths import ProjectFolder
from storage.library.transfer import move_without_overwrite, sync_moves
from storage.library.trash import move_to_trash, restore

#: The actions that move one file, each with the action that reverses it.
FILE_ACTIONS = {
    FileAction.TRASHED: FileAction.RESTORED,
    FileAction.RESTORED: FileAction.TRASHED,
    FileAction.MOVED: FileAction.MOVED,
    FileAction.RENAMED: FileAction.RENAMED,
}


@dataclass(frozen=True, slots=True)
class WayBack:
    """The move that returns one file to its former place.

    Attributes:
        now: the current path of the file.
        back: the path to which the file returns. For a file that returns to the trash, it is the former path there.
        is_back: whether the file is already at `back`, because an earlier attempt or a user has moved it.
        is_gone: whether the file is at neither path.
        project_id: the project that owns the file at `now`.
    """

    entry: JournalEntry
    now: Path
    back: Path
    folder: ProjectFolder
    is_back: bool
    is_gone: bool
    project_id: int | None

    @property
    def name(self) -> str:
        """The name of the file at `back`."""
        return printable(self.back.name)


class FileMoves:
    """Finds the moves that return files to their former places, and carries them out.

    A name is taken only by a file with exactly the same name: `IMG_1.jpg` can return to a folder that has `img_1.jpg`.
    """

    def __init__(self, ctx: StepContext, places: Places) -> None:
        self._ctx = ctx
        self._places = places

    def find(self, entry: JournalEntry, *, now_in: int | None) -> WayBack:
        """Return the way back of an entry's file.

        Args:
            entry: an entry whose action is one of `FILE_ACTIONS`.
            now_in: the id of the current project of a moved photo.

        Raises:
            CannotComeBack: another file has the name, or the place does not belong to the tenant.
        """
        action = FileAction(entry.action)
        is_loose = action is FileAction.MOVED and entry.photo_id is None
        of_source = None if is_loose else entry.project_id
        of_target = None if is_loose else now_in if action is FileAction.MOVED else entry.project_id
        try:
            source = self._places.file(entry.source, of_source)
            target = self._places.file(str(entry.target), of_target)
            folder = self._places.folder(entry.source, of_source)
        except UnsafePath as error:
            raise CannotComeBack(str(error)) from error
        now, back = target, source
        if action is FileAction.RESTORED:
            # The file gets a new name in the trash, so that its time in the trash starts again.
            return WayBack(
                entry, now, back, folder, is_back=False, is_gone=not os.path.lexists(now), project_id=of_target
            )
        is_here, is_there = os.path.lexists(now), os.path.lexists(back)
        is_back = not is_here and is_there and _has_size(back, entry.size_bytes)
        if is_here and is_there and not now.samefile(back):  # If they are the same file, a move was interrupted.
            raise CannotComeBack(f"{printable(back.name)}: another file has this name now")
        if not is_here and is_there and not is_back:
            raise CannotComeBack(f"{printable(back.name)}: the file is missing, and another file has this name now")
        return WayBack(
            entry, now, back, folder, is_back=is_back, is_gone=not is_here and not is_there, project_id=of_target
        )

    def go(self, way: WayBack) -> FileChange:
        """Move the file, unless it is already back, and return the change for the journal.

        Raises:
            LibraryError, OSError: the file could not be moved; it is still at its old place.
        """
        entry, back = way.entry, way.back
        action = FILE_ACTIONS[FileAction(entry.action)]
        if action is FileAction.TRASHED:
            back = move_to_trash(way.folder, way.now, at=self._ctx.now())
        elif not way.is_back:
            if not way.back.parent.exists():
                self._make_folder(way.back.parent)
            if action is FileAction.RESTORED:
                restore(way.now, way.back, names=FolderNames())
            else:
                move_without_overwrite(way.now, way.back, names=FolderNames())
        return FileChange(
            action=action,
            source=relative_path(way.folder, way.now),
            target=relative_path(way.folder, back),
            project_id=entry.project_id if way.project_id is None else way.project_id,
            photo_id=entry.photo_id,
            size_bytes=entry.size_bytes,
        )

    def sync(self, changes: Iterable[FileChange]) -> None:
        """Wait until moves are on the disk. Call this method before the rows are written."""
        root = self._ctx.library.root
        sync_moves((root / change.source, root / change.target) for change in changes if change.target is not None)

    def return_all(self, gone_ways: list[tuple[WayBack, FileChange]]) -> None:
        """Undo the moves of `go` as far as possible, so that a photo's files stay together."""
        root = self._ctx.library.root
        for way, change in reversed(gone_ways):
            with contextlib.suppress(LibraryError, OSError):
                if not way.is_back:
                    move_without_overwrite(root / str(change.target), way.now, names=FolderNames())

    def _make_folder(self, folder: Path) -> None:
        # The folder may have been removed when it became empty. Companions may be in a subfolder.
        root = self._ctx.library.root
        tenant, *below = folder.relative_to(root).parts
        if below:
            (root / tenant / below[0]).mkdir(exist_ok=True)
            folder.mkdir(parents=True, exist_ok=True)


def _has_size(path: Path, size_bytes: int | None) -> bool:
    return size_bytes is None or path.lstat().st_size == size_bytes
