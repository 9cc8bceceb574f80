"""Renaming a file within one file system so that it can never replace another, by the best means the system has.

Which name a file may get, and moves between file systems, are the matter of `storage.library.transfer`.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from storage.library.atomic_write import fsync_folder, temporary_path

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
# What kernels and file systems answer that do not know RENAME_NOREPLACE, or hard links.
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_NO_HARD_LINKS: Final = _UNSUPPORTED | {errno.EPERM, errno.EMLINK, errno.EACCES}


def rename_exclusively(source: Path, target: Path, *, on_behalf_of: Path | None = None) -> None:
    """Give a regular file a new name in the same file system, unless that name exists.

    On Linux this is one atomic step (`renameat2`). Where the file system cannot do that, the file gets the new name as
    a hard link before it loses the old one. Where there are no hard links, the new name is reserved first by an empty
    file, which the rename then replaces. After a crash between two such steps `finish_interrupted` goes on.

    Args:
        source: the file.
        target: its new name.
        on_behalf_of: the file by which a reservation is to be known again, where that is not the source itself.

    Raises:
        FileExistsError: the target exists.
        OSError: `EXDEV` where the target lies on another file system, or what the system says.
    """
    for rename in (_rename_noreplace, _link_and_unlink):
        try:
            rename(source, target)
        except OSError as error:
            if error.errno not in (_NO_HARD_LINKS if rename is _link_and_unlink else _UNSUPPORTED):
                raise
        else:
            return
    _reserve_and_rename(source, target, on_behalf_of or source)


def finish_interrupted(source: Path, target: Path) -> bool:
    """Finish a rename of source to target that a crash cut short, where both names exist.

    Returns:
        Whether it was finished. Otherwise the source is as it was, and what still has the target's name is another
        file: a mere reservation that cannot be used has been withdrawn.
    """
    try:
        before, after = source.lstat(), target.lstat()
    except FileNotFoundError:
        return False
    if os.path.samestat(before, after):
        if not _are_two_entries(source, target):
            source.rename(target)  # The same entry in another case.
            return True
        if before.st_nlink < 2 or not stat.S_ISREG(before.st_mode):
            return False
        fsync_folder(target.parent)
        source.unlink()
        return True
    if _is_reservation(source, target, after):
        if not are_on_one_file_system(source, target):
            target.unlink()
            return False
        source.rename(target)
        _reservation_note(source, target).unlink(missing_ok=True)
        return True
    return False


def rename_noreplace(source: Path, target: Path) -> bool:
    """Rename anything, a folder too, in one atomic step that never replaces.

    Returns:
        False, with nothing done, where the system has no such step.

    Raises:
        OSError: `FileExistsError` where the target exists, or what the system says.
    """
    try:
        _rename_noreplace(source, target)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def are_on_one_file_system(source: Path, target: Path) -> bool:
    """Whether a rename can lead from a file to a name, which need not exist."""
    return source.lstat().st_dev == target.parent.stat().st_dev


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


def _rename_noreplace(source: Path, target: Path) -> None:
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(source))
    if _renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(source), None, str(target))


def _link_and_unlink(source: Path, target: Path) -> None:
    os.link(source, target, follow_symlinks=False)
    # The new name must be on the disk before the old one goes: it is the only copy.
    fsync_folder(target.parent)
    source.unlink()


def _reserve_and_rename(source: Path, target: Path, owner: Path) -> None:
    if not are_on_one_file_system(source, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source), None, str(target))
    note = _reservation_note(owner, target)
    _create(note, os.O_CREAT)
    try:
        _create(target, os.O_CREAT | os.O_EXCL)
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


def _create(path: Path, flags: int) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600))


def _reservation_note(owner: Path, target: Path) -> Path:
    # Its name is all that it says. It is there before the reservation, so that no crash leaves an empty file that
    # nobody knows, and being a temporary file it is swept up some day.
    pair = os.fsencode(owner) + b"\0" + os.fsencode(target)
    return temporary_path(target, token=hashlib.blake2b(pair, digest_size=8).hexdigest())


def _is_reservation(owner: Path, target: Path, status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size == 0 and _reservation_note(owner, target).exists()


def _are_two_entries(source: Path, target: Path) -> bool:
    # On a file system that ignores case, two spellings reach one entry, and unlinking one would remove the file.
    if not os.path.samestat(source.parent.stat(), target.parent.stat()):
        return True
    with os.scandir(source.parent) as entries:
        names = {entry.name for entry in entries if entry.name in {source.name, target.name}}
    return len(names) == 2
