"""Moves groups of files: either all files of a group move or none, even after a disk error, a crash or a power cut.

The intents of a group are rows with the old and the new place of each file; see `storage.history.move_intents`. They
are stored durably before the first file moves. If a crash or a power cut interrupts the moves, the next job that claims
the project first calls `take_back`, which moves the files back.
"""

import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from flows.errors import FlowsError
from flows.handlers.left_companions import Relocation, Side, left_companions
from storage.database.engine import Database
from storage.history.move_intents import MoveIntent, forget_intents, pending_intents
from storage.library.errors import Collision, FolderMissing, LibraryError, SourceMissing, UnsafePath
from storage.library.naming.folder_names import FolderNames
from storage.library.naming.names import printable
from storage.library.paths import PREVIEW_FOLDER, THUMB_FOLDER, Library, ProjectFolder
from storage.library.transfer import move_without_overwrite, sync_moves
from storage.photos.projects import ProjectsRepository


class MoveInterrupted(FlowsError):
    """Some files of a group moved and could not be moved back. The next job of the project tries again."""


@dataclass(slots=True)
class FileMove:
    """The move of one file of a group.

    Attributes:
        is_derivative: whether the file can be made again. If such a file cannot move, the other files still move.
        is_done: whether the file has moved.
    """

    source: Path
    target: Path
    size_bytes: int
    is_derivative: bool = False
    is_done: bool = False


@dataclass(slots=True)
class MoveGroup:
    """Files that move together.

    Attributes:
        project_id: the project in whose folder the files are; None for a folder without a project.
        target_project_id: the project to whose folder the files move.
        photo_id: the photo to which the files belong; None if they belong to no photo.
        error: why the files did not move.
    """

    moves: list[FileMove]
    project_id: int | None
    target_project_id: int | None
    photo_id: int | None = None
    error: Exception | None = None
    group_id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def photo_ids(self) -> list[int]:
        """The photos whose rows change with the move."""
        return [] if self.photo_id is None else [self.photo_id]

    @property
    def originals(self) -> list[FileMove]:
        """The moves of the files that are not derivatives."""
        return [move for move in self.moves if not move.is_derivative]

    @property
    def is_at_source(self) -> bool:
        """Whether no original has moved, or each has been moved back."""
        return not any(move.is_done for move in self.originals)

    def carry_out(self, library: Library, *, names: FolderNames | None = None, folder: Path | None = None) -> None:
        """Move all files, or none.

        Args:
            library: the library that has the files.
            names: the names in `folder`, if the caller has read them. The method keeps them up to date.
            folder: a folder to which files move.

        Raises:
            MoveInterrupted: a file could not be moved, and others could not be moved back.
            LibraryError, OSError: a file could not be moved; all originals are at their former places.
        """
        try:
            for move in self.moves:
                try:
                    library.make_folder(move.target.parent)
                    known = names if names is not None and move.target.parent == folder else FolderNames()
                    move_without_overwrite(move.source, move.target, names=known)
                    move.is_done = True
                except (LibraryError, OSError):
                    if not move.is_derivative:
                        raise
        except BaseException as error:
            self._take_back(names, folder, error)
            raise

    def _take_back(self, names: FolderNames | None, folder: Path | None, reason: BaseException) -> None:
        for move in reversed(self.moves):
            if not move.is_done:
                continue
            try:
                move_without_overwrite(move.target, move.source, names=FolderNames())
                move.is_done = False
                if names is not None and move.target.parent == folder:
                    names.discard(move.target.name)
            except (LibraryError, OSError) as error:
                if not move.is_derivative:
                    raise MoveInterrupted(
                        f"{printable(str(move.source))}: only some files that move together were moved ({reason}), and "
                        f"this file could not be moved back from {printable(str(move.target.parent))} ({error}). "
                        "Remove what prevents the move back; the next job of the project tries again."
                    ) from error


def interrupted(database: Database, project_ids: Collection[int]) -> list[MoveIntent]:
    """Return the interrupted moves in these projects. The caller must have claimed the projects."""
    with database.connect() as connection:
        return pending_intents(connection, project_ids)


def take_back(database: Database, library: Library, intents: Sequence[MoveIntent]) -> int:
    """Move the files of interrupted moves back, because their rows still have the former places.

    The caller must have claimed all projects that the intents name.

    A file whose size differs from its intent may be another file. It is moved back only if another original of its
    group has certainly moved, or if no original of the group is at its former place: then a user has edited the file.

    A file at neither place is ignored. But if the project folder to which the file was to move is missing, the intents
    of the group stay, and a later call moves the file back.

    A companion that a photo got at its new place returns with the photo, for example a sidecar with a new rating.

    Returns:
        The number of files that were moved back.

    Raises:
        LibraryError, OSError: a file could not be moved back, for example because the folder of its project is missing;
            the intents stay.
    """
    places = _Places(database, library)
    moves = [
        (
            intent,
            places.find(intent.source, intent.project_id),
            places.find(intent.target, intent.target_project_id),
        )
        for intent in reversed(intents)
    ]
    originals = [move for move in moves if move[1].parent.name not in (THUMB_FOLDER, PREVIEW_FOLDER)]
    moved = {intent.group_id for intent, *_ in originals} - {
        intent.group_id for intent, source, _ in originals if os.path.lexists(source)
    }
    moved |= {intent.group_id for intent, source, target in originals if _has_moved(source, target, intent.size_bytes)}
    waiting = {
        intent.group_id
        for intent, source, _ in moves
        if not os.path.lexists(source) and places.is_missing(intent.target, intent.target_project_id)
    }
    # Edited files return first: if a crash interrupts this call, the next call still finds that their groups have
    # moved.
    moves.sort(key=lambda move: not _is_only_at(move[1], move[2]) or _has_moved(move[1], move[2], move[0].size_bytes))
    taken_back: list[tuple[Path, Path]] = []
    # New companions return before their photos, because they are found by the new names of the photos.
    relocations = (one for move in originals if move[0].group_id in moved for one in places.way_back(*move))
    known = {target for _, _, target in moves}
    for _, target, source in left_companions(database, relocations, photos_have_left=False):
        # If a name is taken at the former place, the companion stays, and its photo returns without it.
        with suppress(Collision, SourceMissing, UnsafePath):
            if target not in known:
                library.make_folder(source.parent)
                move_without_overwrite(target, source)
                taken_back.append((target, source))
    for intent, source, target in moves:
        if not os.path.lexists(target):
            continue
        if os.path.lexists(source):
            # The move has not begun, or it stopped while the file had both names. A stopped move is finished first.
            try:
                move_without_overwrite(source, target, names=FolderNames())
            except (Collision, SourceMissing):
                continue
        elif intent.group_id not in moved and not _has_moved(source, target, intent.size_bytes):
            continue
        if places.is_missing(intent.source, intent.project_id):
            raise FolderMissing(
                f"Files of an interrupted move must return to {source.parent}, but their project's folder is missing. "
                "Mount its disk; if you renamed the folder, rename it back; if you removed it, create it again."
            )
        source.parent.mkdir(parents=True, exist_ok=True)
        move_without_overwrite(target, source, names=FolderNames())
        taken_back.append((target, source))
    sync_moves(taken_back)
    with database.begin() as connection:
        forget_intents(connection, list({intent.group_id for intent in intents} - waiting))
    return len(taken_back)


def _has_moved(source: Path, target: Path, size_bytes: int) -> bool:
    return _is_only_at(source, target) and target.lstat().st_size == size_bytes


def _is_only_at(source: Path, target: Path) -> bool:
    return os.path.lexists(target) and not os.path.lexists(source)


class _Places:
    """Finds the current paths of the files in intents. The folder of a project may have been renamed since."""

    def __init__(self, database: Database, library: Library) -> None:
        with database.connect() as connection:
            self._folders = {project.id: project.project_folder for project in ProjectsRepository(connection).list()}
        self._library = library

    def find(self, path: str, project_id: int | None) -> Path:
        return self._folder(path, project_id).inside(path.split("/", 2)[2])

    def is_missing(self, path: str, project_id: int | None) -> bool:
        """Return whether the path is in the folder of a project, and this folder does not exist."""
        return project_id in self._folders and not self._folder(path, project_id).exists()

    def way_back(self, intent: MoveIntent, source: Path, target: Path) -> Iterator[Relocation]:
        """Yield the `Relocation` that returns a photo to its former place, if there is one.

        There is one if the moved file is an image that was moved directly from one project folder to another and is
        only at the new place, and if its former folder exists.
        """
        here = Side(self._folder(intent.target, intent.target_project_id), intent.target_project_id)
        back = Side(self._folder(intent.source, intent.project_id), intent.project_id)
        is_between_projects = (source.parent, target.parent) == (back.folder.path, here.folder.path)
        is_image = self._library.accepted_extensions.is_image(target.name)
        if is_image and is_between_projects and _is_only_at(source, target) and source.parent.is_dir():
            new, old = (path.name.rpartition(".")[0] for path in (target, source))
            yield Relocation(here, new, back, old)

    def _folder(self, path: str, project_id: int | None) -> ProjectFolder:
        tenant, folder, _ = path.split("/", 2)
        return self._library.project(tenant, self._folders.get(project_id or 0, folder))
