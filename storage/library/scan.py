"""Scans a project folder and yields its files with their problems. Changes nothing.

`list_names` is for the comparison with the rows. It does not call `stat` for each file, because this would take several
times as long as the listing. For most entries no `stat` is needed, because most file systems return the type of an
entry with its name. `storage.library.naming.kinds` decides the kind of a file, and the setting `ignored_names` which
names are left out.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Final, Literal

from storage.library.errors import FolderMissing
from storage.library.listing import listing, reading
from storage.library.naming.kinds import FileKind
from storage.library.naming.names import MAX_NAME_BYTES, has_control_characters, is_decodable, printable, unsafe_reason
from storage.library.paths import DERIVATIVE_EXTENSION, ProjectFolder

ScanProblem = Literal[
    "symlink", "not a regular file", "undecodable name", "name with control characters", "unsafe name", "unreadable"
]

_MAX_NS: Final = 2**63 - 1

#: The number of entries in a batch of names.
BATCH_SIZE: Final = 5_000

#: Matches names that need no further check: printable ASCII, not hidden, without separators.
_is_plain = re.compile(rf"[ -\-0-\[\]-~][ -.0-\[\]-~]{{0,{MAX_NAME_BYTES - 1}}}").fullmatch


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """One entry of a project folder.

    If an entry has a problem, report the problem, but change neither the file nor its rows. If an entry is not hidden
    and has no problem, `ProjectFolder.companion` accepts its name.

    Attributes:
        name: the name on disk. It may have line breaks or surrogates, so show `printable_name`. For a companion in a
            folder below the project's folder, this is the path relative to the project's folder.
        base_name: the base name of the photo that the file fits best.
        extension: the extension in lower case, without the dot.
        kind: the kind of the file, determined by its name.
        size_bytes: the file's size; 0 if unknown.
        mtime_ns: the last change of the contents, in nanoseconds since 1970; 0 if unknown.
        problem: why the file cannot be used, or None.
        ctime_ns: the last change of the contents or the inode, in nanoseconds since 1970; 0 if unknown.
    """

    name: str
    base_name: str
    extension: str
    kind: FileKind
    size_bytes: int
    mtime_ns: int
    problem: ScanProblem | None
    ctime_ns: int = 0

    @property
    def is_hidden(self) -> bool:
        """Whether the entry is a hidden file or the manifest. Such a file is not a file of the user."""
        return self.kind.is_hidden

    @property
    def printable_name(self) -> str:
        """The name in a form that is safe for logs, SQL and terminals."""
        return printable(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedNames:
    """A batch of a folder's entries, without hidden entries.

    Attributes:
        names: the names of regular files; `ProjectFolder.original` accepts them.
        odd: entries with a problem; we never change them.
    """

    names: list[str] = field(default_factory=list)
    odd: list[ScannedFile] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ScannedDerivative:
    """A thumbnail or preview on disk.

    Attributes:
        base_name: the base name of the photo; if it is too long, its `derivative_stem`.
        size_bytes: the file's size; 0 for example if a full disk interrupted another program's write.
        mtime_ns: when the file was written, in nanoseconds since 1970.
    """

    base_name: str
    size_bytes: int
    mtime_ns: int


def storable_ns(moment_ns: int) -> int:
    """Limit a file's time, in nanoseconds since 1970, to the range of a 64-bit column, from 1677 to 2262.

    Files may have times outside of this range, from cameras with a wrong clock or programs that use a wrong unit.
    """
    return max(-_MAX_NS, min(_MAX_NS, moment_ns))


def scan_derivatives(folder: Path) -> Iterator[ScannedDerivative]:
    """Yield the derivatives in a project's `.thumb` or `.preview`, in the disk's order; none if the folder is missing.

    Raises:
        FolderUnreadable: the folder could not be listed completely.
    """
    with suppress(FolderMissing), listing(folder) as entries:
        for entry in entries:
            base_name = entry.name.removesuffix(DERIVATIVE_EXTENSION)
            if base_name == entry.name or entry.name.startswith(".") or not is_decodable(entry.name):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield ScannedDerivative(base_name, status.st_size, storable_ns(status.st_mtime_ns))


def scan(project: ProjectFolder, *, is_wanted: Callable[[str], bool] | None = None) -> Iterator[ScannedFile]:
    """Yield the entries of a project folder, including hidden ones, in the disk's order, from one directory scan.

    Memory does not grow with the number of files. Files that disappear during the scan are left out, and so are
    ignored names and entries whose name `is_wanted` does not accept.

    Raises:
        FolderMissing: the project has no folder.
        FolderUnreadable: the folder could not be listed completely; files that were not listed may still exist.
        UnsafePath: the folder was replaced by a symlink or a file.
    """
    with _entries_of(project) as entries:
        for entry in entries:
            if is_wanted is None or is_wanted(entry.name):
                scanned = _describe_entry(project, entry)
                if scanned is not None:
                    yield scanned


def list_names(project: ProjectFolder) -> Iterator[ListedNames]:
    """Yield batches of a project folder's entries that are not hidden, in the disk's order, from one directory scan.

    Raises:
        FolderMissing: the project has no folder.
        FolderUnreadable: the folder could not be listed completely; files that were not listed may still exist.
        UnsafePath: the folder was replaced by a symlink or a file.
    """
    batch = ListedNames()
    with _entries_of(project) as entries:
        for entry in entries:
            name = entry.name
            try:
                is_file = entry.is_file(follow_symlinks=False)
            except OSError:
                is_file = False
            if is_file and (_is_plain(name) or unsafe_reason(name) is None):
                batch.names.append(name)
            else:
                described = _describe_entry(project, entry)
                if described is None or described.is_hidden:
                    continue
                if described.problem is None:
                    batch.names.append(name)
                else:
                    batch.odd.append(described)
            if len(batch.names) + len(batch.odd) >= BATCH_SIZE:
                yield batch
                batch = ListedNames()
    yield batch


def scan_companion_folders(project: ProjectFolder, *, is_wanted: Callable[[str], bool]) -> Iterator[ScannedFile]:
    """Yield the wanted files in the folders of companions below a project's folder. Symlinks are not followed.

    `is_wanted` returns whether a file is wanted, given its path relative to the project's folder.

    Raises:
        FolderUnreadable: a folder could not be listed completely.
    """
    for folder in companion_folders(project):
        below = folder.relative_to(project.path).as_posix()
        with suppress(FolderMissing), listing(folder) as entries:
            for entry in entries:
                path = f"{below}/{entry.name}"
                if not entry.name.startswith(".") and is_wanted(path):
                    scanned = _describe(project, path, partial(entry.stat, follow_symlinks=False))
                    if scanned is not None:
                        yield scanned


def companion_folders(project: ProjectFolder) -> Iterator[Path]:
    """Yield the existing folders of companions below a project's folder. Symlinks are left out.

    Raises:
        FolderUnreadable: it is unknown which of these folders exist.
    """
    for parts in project.library.accepted_extensions.companion_folders:
        yield from _folders_like(project.path, parts)


def _folders_like(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    if not parts:
        yield folder
        return
    names = [parts[0]]
    if any(wild in parts[0] for wild in "*?["):
        names = []
        with suppress(FolderMissing), listing(folder) as entries:
            names = sorted(entry.name for entry in entries if fnmatchcase(entry.name, parts[0]))
    for name in names:
        if _is_folder(folder / name):
            yield from _folders_like(folder / name, parts[1:])


def _is_folder(path: Path) -> bool:
    with suppress(FolderMissing), reading(path):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def look_at(project: ProjectFolder, name: str) -> ScannedFile | None:
    """Return one entry of a project folder; None if it does not exist."""
    return _describe(project, name, lambda: os.lstat(project.path / name))


@contextmanager
def _entries_of(project: ProjectFolder) -> Iterator[Iterator[os.DirEntry[str]]]:
    """Open a project folder and give the block an iterator of its entries, without ignored names.

    Raises:
        FolderMissing, FolderUnreadable, UnsafePath: see `scan`.
    """
    project.exists()  # Raises `UnsafePath` if a symlink has replaced the folder since the path was built.
    with listing(project.path) as entries:
        ignored = project.library.ignored_names
        yield (entry for entry in entries if entry.name not in ignored)


def _describe_entry(project: ProjectFolder, entry: os.DirEntry[str]) -> ScannedFile | None:
    """Describe an entry of a listing; return None if it no longer exists."""
    return _describe(project, entry.name, lambda: entry.stat(follow_symlinks=False))


def _describe(project: ProjectFolder, name: str, status_of: Callable[[], os.stat_result]) -> ScannedFile | None:
    described = project.library.accepted_extensions.describe(name.rpartition("/")[2])
    size_bytes = mtime_ns = ctime_ns = 0
    problem: ScanProblem | None
    try:
        status = status_of()
    except FileNotFoundError:
        return None
    except OSError:
        problem = "unreadable"
    else:
        size_bytes, mtime_ns = status.st_size, storable_ns(status.st_mtime_ns)
        ctime_ns = storable_ns(project.library.change_time_ns(project.path, name, status))
        problem = None if described.kind.is_hidden else _problem(described.name, status.st_mode)
    return ScannedFile(
        name=name,
        base_name=described.base_name,
        extension=described.extension,
        kind=described.kind,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        problem=problem,
        ctime_ns=ctime_ns,
    )


def _problem(name: str, mode: int) -> ScanProblem | None:
    if stat.S_ISLNK(mode):
        return "symlink"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    if not is_decodable(name):
        return "undecodable name"
    if has_control_characters(name):
        return "name with control characters"
    if unsafe_reason(name) is not None:
        return "unsafe name"
    return None
