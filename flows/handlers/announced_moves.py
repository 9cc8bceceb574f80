"""Moves groups of files so that all files of a group move or none, even after a disk error, a crash or a power cut.

The intents of a group are stored durably before the first file moves; see `storage.history.move_intents`. The
next job that holds the project moves the files of an interrupted group back before it changes anything there.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from flows.errors import FlowsError
from storage.database.engine import Database
from storage.history.move_intents import MoveIntent, forget_intents, pending_intents, write_intents
from storage.library import FolderNames, Library, move_without_overwrite, sync_moves
from storage.library.errors import Collision, LibraryError, SourceMissing
from storage.photos.projects import ProjectsRepository
from storage.records import Job


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
        photo_id: the photo to which the files belong, if any.
        is_half: whether some files have moved and could not be moved back.
    """

    project_id: int | None
    target_project_id: int | None
    photo_id: int | None
    moves: list[FileMove]
    is_half: bool = False
    group_id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def originals(self) -> list[FileMove]:
        """The moves of the files that are not derivatives."""
        return [move for move in self.moves if not move.is_derivative]

    @property
    def is_done(self) -> bool:
        """Whether all originals have moved."""
        return all(move.is_done for move in self.originals)

    def carry_out(self, *, names: FolderNames | None = None, folder: Path | None = None) -> None:
        """Move all files, or none.

        Args:
            names: the names in `folder`, if the caller has read them. The method keeps them up to date.
            folder: a folder to which files move.

        Raises:
            MoveInterrupted: a file could not be moved, and others could not be moved back.
            LibraryError, OSError: a file could not be moved; all files are at their former places.
        """
        try:
            for move in self.moves:
                try:
                    move.target.parent.mkdir(parents=True, exist_ok=True)
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
                    self.is_half = True
                    raise MoveInterrupted(
                        f"{move.source.name}: only some files of the group were moved ({reason}), and they could not "
                        "be moved back. The next job of the project tries again."
                    ) from error


def announce(database: Database, groups: Iterable[MoveGroup], *, job: Job, library: Library, now: datetime) -> None:
    """Store the intents of groups durably. Call this function before any file of the groups moves."""
    intents = [
        MoveIntent(
            group_id=group.group_id,
            tenant_id=job.tenant_id,
            job_id=job.id,
            project_id=group.project_id,
            target_project_id=group.target_project_id,
            photo_id=group.photo_id,
            source=move.source.relative_to(library.root).as_posix(),
            target=move.target.relative_to(library.root).as_posix(),
            size_bytes=move.size_bytes,
            created_at=now,
        )
        for group in groups
        for move in group.moves
    ]
    if intents:
        with database.begin(durable=True) as connection:
            write_intents(connection, intents)


def sync_folders(groups: Iterable[MoveGroup]) -> None:
    """Sync the folders of all moves. Call this function before the transaction that writes the new places to rows."""
    # The list includes files that were moved back, because their moves have changed the folders too.
    sync_moves((move.source, move.target) for group in groups for move in group.moves)


def settled(connection: Connection, groups: Iterable[MoveGroup]) -> None:
    """Remove the intents of groups, in the transaction that writes their rows. Half-moved groups keep their intents."""
    forget_intents(connection, [group.group_id for group in groups if not group.is_half])


def interrupted(database: Database, project_ids: Collection[int]) -> list[MoveIntent]:
    """Return the interrupted moves in these projects. The caller must hold the projects."""
    with database.connect() as connection:
        return pending_intents(connection, project_ids)


def take_back(database: Database, library: Library, intents: Sequence[MoveIntent]) -> int:
    """Move the files of interrupted moves back, because their rows still have the former places.

    The caller must hold all projects that the intents name. A file that is at neither place is ignored.

    Returns:
        The number of files that were moved back.

    Raises:
        LibraryError, OSError: a file could not be moved back; the intents stay.
    """
    places = _Places(database, library)
    taken_back: list[tuple[Path, Path]] = []
    for intent in reversed(intents):
        source = places.find(intent.source, intent.project_id)
        target = places.find(intent.target, intent.target_project_id)
        if not os.path.lexists(target):
            continue
        if os.path.lexists(source):
            # The move has not begun, or it stopped while the file had both names. The second case is finished first.
            try:
                move_without_overwrite(source, target, names=FolderNames())
            except (Collision, SourceMissing):
                continue
        elif target.lstat().st_size != intent.size_bytes:
            continue
        source.parent.mkdir(parents=True, exist_ok=True)
        move_without_overwrite(target, source, names=FolderNames())
        taken_back.append((target, source))
    sync_moves(taken_back)
    with database.begin() as connection:
        forget_intents(connection, list({intent.group_id for intent in intents}))
    return len(taken_back)


class _Places:
    """Finds the current paths of intents, because the folder of a project may have been renamed since."""

    def __init__(self, database: Database, library: Library) -> None:
        with database.connect() as connection:
            self._folders = {project.id: project.project_folder for project in ProjectsRepository(connection).list()}
        self._library = library

    def find(self, path: str, project_id: int | None) -> Path:
        tenant, folder, inside = path.split("/", 2)
        return self._library.project(tenant, self._folders.get(project_id or 0, folder)).inside(inside)
