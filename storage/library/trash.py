"""The `.trash` of a project: moves files there, finds expired files, and removes them for good.

The name of a file in the trash contains the time of the move, because the file keeps its own times. `expired` decides
which files have been there for too long, and the step `flows.steps.moving.trash_maintenance` removes them.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from storage.library.errors import FolderMissing, UnsafePath
from storage.library.listing import listing
from storage.library.naming.folder_names import FolderNames
from storage.library.naming.kinds import MANIFEST_NAME
from storage.library.naming.names import printable, unsafe_reason
from storage.library.paths import ProjectFolder, max_name_bytes
from storage.library.removal import remove_tree
from storage.library.transfer import move_without_overwrite

_STAMP_FORMAT: Final = "%Y%m%dT%H%M%S.%f"
_TRASH_NAME: Final = re.compile(r"(\d{8}T\d{6}\.\d{3})Z_[0-9a-f]{12}_(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TrashName:
    """The parts of the name of an entry in the trash.

    Attributes:
        original_name: the file's former name; empty if the entry is a folder in which the file has its former name.
        trashed_at: when the file was moved to the trash, in UTC, with milliseconds.
    """

    original_name: str
    trashed_at: datetime


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """A file or folder directly in a project's trash.

    Attributes:
        name: the name in the trash; show `original_name` to people.
        original_name: the name in the project; if another program put the entry into the trash, the name in the trash.
        trashed_at: when the entry was moved to the trash, according to its name; if another program moved it, the ctime
            of the entry.
    """

    project: ProjectFolder
    name: str
    original_name: str
    trashed_at: datetime

    @property
    def path(self) -> Path:
        """The entry's path. Raises `UnsafePath` if the trash is a symlink or a file."""
        return self.project.trash / self.name

    @property
    def file(self) -> Path:
        """The path of the file: the entry itself or, if the entry is a folder for a file with a long name, the file."""
        parsed = parse_trash_name(self.name)
        has_folder = parsed is not None and not parsed.original_name and self.original_name != self.name
        return self.path / self.original_name if has_folder else self.path


def parse_trash_name(name: str) -> TrashName | None:
    """Parse the name of an entry that `trash_place` made; return None for any other name."""
    found = _TRASH_NAME.fullmatch(name)
    if found is None:
        return None
    try:
        trashed_at = datetime.strptime(found[1], _STAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return TrashName(original_name=found[2], trashed_at=trashed_at)


def trash_place(project: ProjectFolder, file: Path, *, at: datetime) -> Path:
    """Return a free path in the project's trash for a file of the project. The path contains the file's name.

    The file is in the project's folder, or in a folder of companions there. Nothing on disk changes. The time to live
    begins at `at`, the current time as an aware datetime.

    Raises:
        UnsafePath: the file is not in the project's folder, or is a symlink.
        ValueError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError(f"`at` has no time zone ({at!r}); pass an aware datetime, for example datetime.now(UTC)")
    inside = file.relative_to(project.path).as_posix() if file.is_relative_to(project.path) else ""
    if inside != MANIFEST_NAME and (not inside or inside == os.curdir or project.companion(inside) != file):
        raise UnsafePath(
            f"{printable(str(file))} is not in {project.path}, so it is not moved to that project's trash. "
            "Name the project that has the file."
        )
    moment = at.astimezone(UTC).strftime(_STAMP_FORMAT)[:-3]
    mark = f"{moment}Z_{secrets.token_hex(6)}_"
    if len(os.fsencode(mark + file.name)) <= max_name_bytes(project.path):
        return project.trash / (mark + file.name)
    # The mark (with the time) and the file's name are together too long for one name, so the mark becomes a folder.
    return project.trash / mark / file.name


def move_to_trash(project: ProjectFolder, file: Path, *, at: datetime) -> Path:
    """Move a file of a project into its trash, and return its path there; see `trash_place`.

    Raises:
        SourceMissing: the file does not exist, or no longer exists.
        UnsafePath: the file is not in the project's folder, or not a regular file.
    """
    target = trash_place(project, file, at=at)
    project.library.make_folder(target.parent)
    # The random part makes the name unique, so the trash, which may be large, is not scanned.
    move_without_overwrite(file, target, names=FolderNames())
    return target


def expired(project: ProjectFolder, *, now: datetime, ttl_seconds: float) -> Iterator[TrashEntry]:
    """Yield the entries of a project's trash that are older than `ttl_seconds`, in no particular order.

    An entry whose time is in the future, because the clock was set back, is not expired.

    Raises:
        FolderUnreadable: the trash could not be listed completely.
        UnsafePath: the trash is a symlink or a file.
    """
    due_before = now - timedelta(seconds=ttl_seconds)
    return (entry for entry in list_trash(project) if entry.trashed_at < due_before)


def list_trash(project: ProjectFolder) -> Iterator[TrashEntry]:
    """Yield the entries of a project's trash, in no particular order. Raises the same errors as `expired`."""
    with contextlib.suppress(FolderMissing), listing(project.trash) as entries:
        for entry in entries:
            described = _describe(project, entry)
            if described is not None:
                yield described


def purge(entry: TrashEntry) -> None:
    """Remove an entry of the trash for good. Symlinks are removed, but not followed. A missing entry is not an error.

    Raises:
        UnsafePath: the entry is not directly in its project's trash, or the trash is a symlink.
        CrossesFileSystems: a file system is mounted at the entry or in it; the files of that file system stay.
    """
    if entry.name in {"", os.curdir, os.pardir} or "/" in entry.name or "\0" in entry.name:
        raise UnsafePath(
            f"{printable(entry.name)} is not the name of an entry in the trash of {entry.project.path}. Use an entry "
            "that `list_trash` returned."
        )
    remove_tree(entry.path)


def remove_wrapping(trashed: Path) -> None:
    """Remove the folder that held one file in the trash, after the file was moved out of it.

    Args:
        trashed: the file's former path in the trash, from `trash_place`. If the file had no folder, nothing happens.
    """
    wrapping = parse_trash_name(trashed.parent.name)
    if wrapping is not None and not wrapping.original_name:
        with contextlib.suppress(OSError):
            trashed.parent.rmdir()


def _describe(project: ProjectFolder, entry: os.DirEntry[str]) -> TrashEntry | None:
    parsed = parse_trash_name(entry.name)
    if parsed is not None and parsed.original_name:
        return TrashEntry(project, entry.name, parsed.original_name, parsed.trashed_at)
    try:
        if parsed is not None and entry.is_dir(follow_symlinks=False):
            return TrashEntry(project, entry.name, _only_name_in(entry.path) or entry.name, parsed.trashed_at)
        status = project.library.content_path(Path(entry.path)).lstat()
    except FileNotFoundError:
        return None
    return TrashEntry(project, entry.name, entry.name, datetime.fromtimestamp(status.st_ctime, UTC))


def _only_name_in(folder: str) -> str | None:
    names = os.listdir(folder)
    return names[0] if len(names) == 1 and unsafe_reason(names[0]) is None else None
