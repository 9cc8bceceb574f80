"""The `.trash` of a project: putting files there, finding what is due, removing that for good, and taking back.

When something is due is told by the name it got here, never by the file's own times, which a move does not change.
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

from storage.library.errors import FolderUnreadable, UnsafePath
from storage.library.folder_names import FolderNames
from storage.library.kinds import MANIFEST_NAME
from storage.library.names import MAX_NAME_BYTES, printable, unsafe_reason
from storage.library.paths import ProjectFolder
from storage.library.removal import remove_tree
from storage.library.transfer import move_without_overwrite

_STAMP_FORMAT: Final = "%Y%m%dT%H%M%S.%f"
_TRASH_NAME: Final = re.compile(r"(\d{8}T\d{6}\.\d{3})Z_[0-9a-f]{12}_(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TrashName:
    """What the name of an entry in the trash says.

    Attributes:
        original_name: the file's name before; empty where the entry is a folder that holds one file under that name.
        trashed_at: when it was put there, in UTC, to the millisecond.
    """

    original_name: str
    trashed_at: datetime


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """Something that lies directly in a project's trash.

    Attributes:
        project: whose trash.
        name: its name there; show `original_name` to people.
        original_name: the name it had in the project; for things that others put there, the name as it is.
        trashed_at: when it came, by its name, or where others put it there, by its last change of status.
    """

    project: ProjectFolder
    name: str
    original_name: str
    trashed_at: datetime

    @property
    def path(self) -> Path:
        """Where it lies. Raises `UnsafePath` where the trash was replaced by a symlink."""
        return self.project.trash / self.name


def parse_trash_name(name: str) -> TrashName | None:
    """Read a name that `move_to_trash` gave, or None for any other."""
    found = _TRASH_NAME.fullmatch(name)
    if found is None:
        return None
    try:
        trashed_at = datetime.strptime(found[1], _STAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return TrashName(original_name=found[2], trashed_at=trashed_at)


def trash_place(project: ProjectFolder, file: Path, *, at: datetime) -> Path:
    """Where a file of a project is to be in its trash: a name that is free and tells the old name. Touches no disk.

    Args:
        project: the project that the file is in.
        file: a file in the project's folder, or in a folder of companions there.
        at: the moment, aware; the time to live counts from it.

    Raises:
        UnsafePath: it is not in the project's folder.
    """
    if at.tzinfo is None:
        raise ValueError("at must be an aware datetime")
    inside = file.relative_to(project.path).as_posix() if file.is_relative_to(project.path) else ""
    if inside != MANIFEST_NAME and (not inside or inside == os.curdir or project.companion(inside) != file):
        raise UnsafePath(f"{printable(str(file))} is not in {project.path}, so it is not put into its trash.")
    moment = at.astimezone(UTC).strftime(_STAMP_FORMAT)[:-3]
    mark = f"{moment}Z_{secrets.token_hex(6)}_"
    if len(os.fsencode(mark + file.name)) <= MAX_NAME_BYTES:
        return project.trash / (mark + file.name)
    # There is no room for both in one name, so the name goes below the mark.
    return project.trash / mark / file.name


def move_to_trash(project: ProjectFolder, file: Path, *, at: datetime) -> Path:
    """Move a file of a project into its trash; see `trash_place`.

    Args:
        project: the project that the file lies in.
        file: a file in the project's folder, or in a folder of companions there.
        at: the moment, aware; the time to live counts from it.

    Returns:
        Where the file lies now.

    Raises:
        SourceMissing: there is no such file (any more).
        UnsafePath: it is not in the project's folder, or not a regular file.
    """
    target = trash_place(project, file, at=at)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The random part makes the name free, so the trash, which may be large, needs no scan.
    move_without_overwrite(file, target, names=FolderNames())
    return target


def expired(project: ProjectFolder, *, now: datetime, ttl_seconds: float) -> Iterator[TrashEntry]:
    """What has lain in a project's trash for longer than the time to live, in no order; streamed.

    A moment in the future, as after a clock was set back, is not expired.

    Args:
        project: whose trash.
        now: the present moment, aware.
        ttl_seconds: how long things stay in the trash.

    Raises:
        FolderUnreadable: the trash could not be listed to its end.
        UnsafePath: the trash is a symlink.
    """
    due_before = now - timedelta(seconds=ttl_seconds)
    return (entry for entry in list_trash(project) if entry.trashed_at < due_before)


def list_trash(project: ProjectFolder) -> Iterator[TrashEntry]:
    """All that lies directly in a project's trash, in no order; streamed. Raises as `expired` does."""
    try:
        with os.scandir(project.trash) as entries:
            for entry in entries:
                described = _describe(project, entry)
                if described is not None:
                    yield described
    except FileNotFoundError:
        return
    except OSError as error:
        raise FolderUnreadable(f"The trash of {project.path} cannot be listed: {error.strerror}.") from error


def purge(entry: TrashEntry) -> None:
    """Remove an entry of the trash for good. A symlink is removed itself, never what it leads to.

    Purging what is gone is no error.

    Raises:
        UnsafePath: the entry would not lie directly in its project's trash, or the trash is a symlink.
        CrossesFileSystems: something is mounted in it; what is mounted stays.
    """
    if entry.name in {"", os.curdir, os.pardir} or "/" in entry.name or "\0" in entry.name:
        raise UnsafePath(f"{printable(entry.name)} is not the name of an entry in the trash of {entry.project.path}.")
    remove_tree(entry.path)


def restore(trashed: Path, target: Path, *, names: FolderNames | None = None) -> None:
    """Take a file back out of the trash without overwriting anything.

    Args:
        trashed: where it lies, as `move_to_trash` said.
        target: where it belongs; a path that the library built.
        names: see `move_without_overwrite`.

    Raises:
        SourceMissing: it is not in the trash (any more).
        Collision: the target's name is taken.
    """
    move_without_overwrite(trashed, target, names=names)
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
