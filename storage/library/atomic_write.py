"""Writing a file so that its name shows either the old contents or the whole new ones, never a part.

Only for files that we make ourselves: derivatives and manifests. Originals are moved by `storage.library.transfer`.
"""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from storage.library.errors import FolderMissing

#: Temporary files begin with this, so that scans take them for hidden and leftovers can be told from users' files.
TEMPORARY_PREFIX: Final = ".photojobs-tmp-"
_TEMPORARY_NAME: Final = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{16}(\.[A-Za-z0-9]{1,8})?")
_TOKEN: Final = re.compile(r"[0-9a-f]{16}")
#: Seconds after which a temporary file belongs to nobody any more: longer than any copy or decode takes.
STALE_TEMPORARY_SECONDS: Final = 24 * 3600.0


def new_temporary_token() -> str:
    """A fresh random token for `temporary_path`."""
    return secrets.token_hex(8)


def temporary_path(target: Path, *, token: str | None = None) -> Path:
    """A hidden name beside the target with the target's extension, free of its length and characters.

    Args:
        target: the file to be written.
        token: 16 hexadecimal digits, where somebody else must be able to find the file after a crash; else random.
    """
    token = new_temporary_token() if token is None else token
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"a temporary token has 16 hexadecimal digits, unlike {token!r}")
    extension = target.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", target.suffix) else ""
    return target.parent / f"{TEMPORARY_PREFIX}{token}{extension}"


def write_atomically(
    path: Path,
    content: bytes | Callable[[Path], object],
    *,
    token: str | None = None,
) -> None:
    """Write a file beside its name, flush it to disk and rename it, replacing what is there.

    Whatever fails, the old file stays and the temporary one is removed. A crash can leave a temporary file behind,
    which `remove_stale_temporaries` finds. Writing again is always safe.

    Args:
        path: the file to write; a path that the library built.
        content: the bytes, or a function that writes the file whose path it is given.
        token: see `temporary_path`.

    Raises:
        FolderMissing: the folder of the file does not exist.
        OSError: the disk is full or fails.
    """
    temporary = temporary_path(path, token=token)
    try:
        if isinstance(content, bytes):
            _write_new(temporary, content)
        else:
            content(temporary)
        fsync_file(temporary)
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
            raise FolderMissing(f"Folder {path.parent} does not exist.") from error
        raise


def link_atomically(path: Path, source: Path, *, token: str | None = None) -> None:
    """Give a file that `write_atomically` wrote a second name, or a copy if the file system has no hard links.

    Raises:
        FolderMissing: the folder of the new name does not exist.
        OSError: the disk is full or fails.
    """
    temporary = temporary_path(path, token=token)
    try:
        os.link(source, temporary, follow_symlinks=False)
    except OSError:
        write_atomically(path, source.read_bytes(), token=token)
        return
    # Its contents are on the disk already.
    temporary.replace(path)


def remove_temporary(target: Path, *, token: str) -> None:
    """Remove what a killed writer of the target left under this token, if anything."""
    temporary_path(target, token=token).unlink(missing_ok=True)


def remove_stale_temporaries(
    folder: Path,
    *,
    older_than_seconds: float = STALE_TEMPORARY_SECONDS,
    content_path: Callable[[Path], Path] | None = None,
) -> int:
    """Remove temporary files that crashed processes left in one folder.

    Their age is taken from the file system's times against the system's clock, which are of the same kind.

    Args:
        folder: where to look.
        older_than_seconds: younger ones may still be at work.
        content_path: `Library.content_path`, where the folder is one of a library.

    Returns:
        How many were removed; 0 where the folder does not exist.
    """
    removed = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _TEMPORARY_NAME.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    path = Path(entry.path)
                    status = (path if content_path is None else content_path(path)).lstat()
                    if time.time() - status.st_ctime > older_than_seconds:
                        os.unlink(entry.path)  # noqa: PTH108 - the entry has the path as text already.
                        removed += 1
    except (FileNotFoundError, NotADirectoryError):
        return removed
    return removed


def fsync_file(path: Path) -> None:
    """Wait until a file's contents are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can do that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # Some network and FUSE file systems cannot sync a folder.
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
    finally:
        os.close(descriptor)
