"""Renames a file within one file system, never replacing another file, in the safest way that the system offers.

`storage.library.transfer` checks names, and moves files between file systems.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import stat
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Final

from storage.library.atomic_write import fsync_folder, temporary_path
from storage.library.mounts import mount_of

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
# Errors of kernels and file systems that do not support RENAME_NOREPLACE or hard links.
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_NO_HARD_LINKS: Final = _UNSUPPORTED | {errno.EPERM, errno.EMLINK, errno.EACCES}
# Errors of a removal after which the name certainly still exists: read-only disks, missing permissions, locked files.
_REFUSALS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY})


class SpellingKept(FileExistsError):
    """A file or folder cannot get a name that differs from its own only in case."""


def rename_exclusively(source: Path, target: Path, *, on_behalf_of: Path | None = None) -> None:
    """Rename a regular file within a file system, unless the new name exists.

    On Linux this is one atomic step (`renameat2`). If the system or the file system does not support `renameat2`, the
    file gets a hard link with the new name, and the old name is removed. Without hard links, an empty file first
    reserves the new name, and the rename replaces the empty file. After a crash, `finish_interrupted` completes the
    rename; if `finish_interrupted` will get another source than `source`, give that source as `on_behalf_of`.

    Raises:
        FileExistsError: the target exists.
        OSError: `EXDEV` if the target is on another file system, or another error of the system.
    """
    if rename_noreplace(source, target):
        return
    try:
        _link_and_unlink(source, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        return
    _reserve_and_rename(source, target, on_behalf_of or source)


def finish_interrupted(source: Path, target: Path) -> bool:
    """Finish a rename that a crash interrupted when both names existed.

    Returns:
        Whether the rename was finished. If false, the source is unchanged, and a file at the target is not an empty
        file that only reserved the name for this rename.

    Raises:
        SpellingKept: see `change_spelling`.
    """
    try:
        before, after = source.lstat(), target.lstat()
    except FileNotFoundError:
        return False
    if os.path.samestat(before, after):
        if not _are_two_entries(source, target):
            if not are_on_one_file_system(source, target):
                return False  # Two mounts show the same folder.
            change_spelling(source, target)
            return True
        if before.st_nlink < 2 or not stat.S_ISREG(before.st_mode):
            return False
        fsync_folder(target.parent)
        source.unlink()
        return True
    is_empty_file = stat.S_ISREG(after.st_mode) and after.st_size == 0
    if is_empty_file and _reservation_note(source, target).exists():
        try:
            source.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            target.unlink()
            return False
        _reservation_note(source, target).unlink(missing_ok=True)
        return True
    return False


def rename_noreplace(source: Path, target: Path) -> bool:
    """Rename a file or folder in one atomic step that never replaces anything.

    Returns:
        Whether the file was renamed. False if the system has no such step; then nothing was changed.

    Raises:
        OSError: `FileExistsError` if the target exists, or another error of the system.
    """
    if _renameat2 is None:
        return False
    if _renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


def change_spelling(source: Path, target: Path) -> None:
    """Rename a file or folder if its old and new names are one directory entry, because the file system ignores case.

    Raises:
        SpellingKept: the file or folder keeps its spelling. Linux takes the two names for two links of one file, and
            does nothing.
    """
    source.rename(target)
    # The form may differ: some file systems store the characters of a name in one Unicode form.
    spelling = unicodedata.normalize("NFC", target.name)
    if not any(unicodedata.normalize("NFC", name) == spelling for name in os.listdir(target.parent)):
        raise SpellingKept(errno.EEXIST, os.strerror(errno.EEXIST), str(source), None, str(target))


def remove_old_name(source: Path, target: Path, *, before: os.stat_result, placed: os.stat_result) -> None:
    """Remove the old name of a file that was linked or copied to a new name.

    If the system refuses the removal, the new name is removed instead, so that the file is not at two places. The new
    name is not removed if another file has replaced one of the two files, or if the file at the new name was written
    to; then both names stay.

    Args:
        source: the old name.
        target: the new name.
        before: the status of the file at `source`.
        placed: the status of the link or copy at `target`.

    Raises:
        OSError: the old name could not be removed.
    """
    try:
        source.unlink()
    except OSError as error:
        if error.errno in _REFUSALS:
            with contextlib.suppress(OSError):
                if os.path.samestat(source.lstat(), before) and _version(target.lstat()) == _version(placed):
                    target.unlink()
        raise


def are_on_one_file_system(source: Path, target: Path) -> bool:
    """Return whether a file and a target, which need not exist, are on the same file system and in the same mount."""
    # In an overlay, the number of a file's device may be that of the layer below; its folder has the overlay's number.
    return mount_of(source.parent) == mount_of(target.parent)


def is_renamable(source: Path, target: Path) -> bool:
    """Return whether a file can be renamed to a target, which need not exist; if not, a move copies the file.

    Within one mount, renames between two folders may be refused, too: between the quotas of two folders, into an
    encrypted folder, or between the disks that FUSE shows as one.
    """
    if not are_on_one_file_system(source, target):
        return False
    probe = temporary_path(target)
    try:
        os.link(source, probe, follow_symlinks=False)
    except OSError as error:
        return error.errno != errno.EXDEV
    probe.unlink()
    return True


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _load_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError, AttributeError):
        function = ctypes.CDLL(None, use_errno=True).renameat2
        function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
        function.restype = ctypes.c_int
        return function
    return None


_renameat2 = _load_renameat2()


def _link_and_unlink(source: Path, target: Path) -> None:
    os.link(source, target, follow_symlinks=False)
    # The new name is on the disk before the old name is removed, because there is only one copy of the file.
    fsync_folder(target.parent)
    status = target.lstat()
    remove_old_name(source, target, before=status, placed=status)


def _reserve_and_rename(source: Path, target: Path, owner: Path) -> None:
    if not are_on_one_file_system(source, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source), None, str(target))
    note = _reservation_note(owner, target)
    os.close(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        target.touch(mode=0o600, exist_ok=False)
        try:
            source.rename(target)
        except BaseException:
            with contextlib.suppress(OSError):
                if target.lstat().st_size == 0:
                    target.unlink()
            raise
    finally:
        with contextlib.suppress(OSError):
            note.unlink()


def _reservation_note(owner: Path, target: Path) -> Path:
    # The name of this empty file, the note, identifies the rename. The note is created before the reservation, so that
    # a reservation can be recognized after a crash. `remove_stale_temporaries` removes a note that a crash left.
    pair = os.fsencode(owner) + b"\0" + os.fsencode(target)
    return temporary_path(target, token=hashlib.blake2b(pair, digest_size=8).hexdigest())


def _are_two_entries(source: Path, target: Path) -> bool:
    # If the file system ignores case, two spellings can be one directory entry; unlinking one would remove the file.
    if not os.path.samestat(source.parent.stat(), target.parent.stat()):
        return True
    with os.scandir(source.parent) as entries:
        names = {entry.name for entry in entries if entry.name in {source.name, target.name}}
    return len(names) == 2
