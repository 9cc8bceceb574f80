"""Finds the files, such as sidecars, that photos got after a task moved or renamed the photos.

An undo returns these files together with their photos.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

from flows.handlers.announced_moves import FileMove
from flows.handlers.step_context import StepContext
from flows.steps.targets.photo_files import PhotoFiles, file_moves, find_files
from flows.undoing.places import Places
from flows.undoing.reversal import CannotComeBack
from flows.undoing.ways_back import MOVE_AWAY, WayBack
from storage.history.journal import FileAction
from storage.history.undo_entries import EntryGroup
from storage.library.errors import FolderMissing, LibraryError
from storage.library.naming.names import printable
from storage.library.paths import ProjectFolder
from storage.photos.photos import PhotosRepository
from storage.records import Photo

_CARRYING: Final = frozenset({FileAction.MOVED, FileAction.RENAMED})


class AddedFiles:
    """The current files of the photos that a task moved or renamed.

    The caller must have claimed the projects of the photos.
    """

    def __init__(self, ctx: StepContext, places: Places, groups: Iterable[EntryGroup]) -> None:
        self._files: dict[int, PhotoFiles] = {}
        #: The base names of the photos.
        self._names: dict[int, str] = {}
        self._describe = ctx.library.accepted_extensions.describe
        self._errors: dict[int, Exception] = {}
        moved = {group.photo_id for group in groups if any(entry.action in _CARRYING for entry in group.entries)}
        by_project: dict[int, list[Photo]] = defaultdict(list)
        for photo in PhotosRepository(ctx.database).get_many([one for one in moved if one is not None]):
            by_project[photo.project_id].append(photo)
            self._names[photo.id] = photo.filename
        for project_id, photos in by_project.items():
            project = places.project(project_id)
            try:
                if project is not None:
                    self._files |= find_files(ctx, ctx.folder_of(project), photos)
            except FolderMissing:
                continue
            except (LibraryError, OSError) as error:
                self._errors |= {photo.id: error for photo in photos}

    def names(self, group: EntryGroup) -> Iterator[str]:
        """Yield the names that the files of a group's photo would get at their former place."""
        files = self._files.get(group.photo_id or 0, PhotoFiles())
        sources = (PurePosixPath(entry.source).name for entry in group.entries if entry.action in _CARRYING)
        images = (file for file in map(self._describe, sources) if file.kind.is_photo)
        for old in {file.base_name for file in images}:
            for _, name in files.renamed(old, old=self._names.get(group.photo_id or 0, "")):
                yield name

    def moves(
        self,
        photo_id: int | None,
        ways: Sequence[WayBack],
        old: tuple[ProjectFolder, str],
        new: tuple[ProjectFolder, str],
    ) -> list[FileMove]:
        """Return the moves of the files that have no journal entry, from the photo's current to its former place.

        The result is empty if the undo reverses no move or rename of the photo, for example because a user has already
        moved the files.

        Raises:
            CannotComeBack: the name that such a file would get is taken.
            LibraryError, OSError: the photo's current folder could not be listed.
        """
        moving = [way for way in ways if way.move is not None]
        if photo_id is None or not any(way.entry.action in _CARRYING for way in moving):
            return []
        if photo_id in self._errors:
            raise self._errors[photo_id]
        vacated, returning = {way.now for way in moving}, {way.back for way in moving}
        every = file_moves(self._files.get(photo_id, PhotoFiles()), *old, *new)
        moves = [move for move in every if not move.is_derivative and move.source not in vacated]
        for move in moves:
            if move.target in returning or (os.path.lexists(move.target) and move.target not in vacated):
                raise CannotComeBack(f"{printable(move.target.name)}: another file has this name now; {MOVE_AWAY}")
        return moves


def action_of(move: FileMove) -> FileAction:
    """Return the action of a move for the journal: `RENAMED` within a folder, else `MOVED`."""
    return FileAction.RENAMED if move.source.parent == move.target.parent else FileAction.MOVED
