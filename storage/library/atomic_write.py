"""Writes files atomically: a file has either its old contents or all of its new contents, never a part of them.

Use `replacing` and `write_atomically` for derivatives and manifests only. `storage.library.transfer` moves originals.
The step `flows.steps.moving.trash_maintenance` removes temporary files that crashed processes left.
"""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from storage.library.listing import missing_folder

#: The prefix of temporary files. The prefix hides them from scans, and shows that they are not files of users.
TEMPORARY_PREFIX: Final = ".photojobs-tmp-"
_TEMPORARY_NAME: Final = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{16}(\.[A-Za-z0-9]{1,8})?")
#: A temporary file that is older than this number of seconds is abandoned. No copy or decoding takes so long. A younger
#: file may still be in use.
STALE_TEMPORARY_SECONDS: Final = 24 * 3600.0


def temporary_path(target: Path, *, token: str | None = None) -> Path:
    """Return the path of a hidden file in the target's folder, with a short ASCII name and the target's extension.

    An extension is left out if it is long or not ASCII. The 16 hexadecimal digits `token` become part of the name, so
    that another process can find the file after a crash. Without a token, the digits are random.
    """
    extension = target.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", target.suffix) else ""
    return target.parent / f"{TEMPORARY_PREFIX}{token or secrets.token_hex(8)}{extension}"


@contextlib.contextmanager
def replacing(*paths: Path) -> Iterator[dict[Path, Path]]:
    """Write several files: the block writes temporary files, which then replace the files at the given paths.

    The block gets a dictionary with a temporary path for each path. If the block removes an entry, the file of this
    entry is not replaced; the block must then remove the temporary file itself, if it wrote one. All files are synced
    to the disk before the first is renamed. If there is an error, the temporary files are removed, and old files that
    were not replaced yet stay. After a crash, the step `trash_maintenance` removes the temporary files when they are a
    day old.

    Raises:
        FolderMissing: the folder of a file does not exist.
        OSError: the disk is full or fails.
    """
    temporaries = {path: temporary_path(path) for path in paths}
    wanted = dict(temporaries)
    try:
        yield wanted
        _flush(wanted.values())
        for path, temporary in wanted.items():
            temporary.replace(path)
    except BaseException as error:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(error, FileNotFoundError):
            for path in paths:
                if not path.parent.is_dir():
                    raise missing_folder(path.parent) from error
        raise


def write_atomically(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """Write a temporary file, sync it to disk and rename it to `path`; see `replacing`. Writing again is always safe.

    The content is bytes, or a function that gets the temporary path and writes the file.
    """
    with replacing(path) as temporaries:
        if isinstance(content, bytes):
            write_new(temporaries[path], content)
        else:
            content(temporaries[path])


def link_new(path: Path, source: Path) -> None:
    """Make `path` a hard link to the file `source`, or a copy if the file system has no hard links.

    Nothing may exist at `path`.
    """
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError:
        write_new(path, source.read_bytes())


def remove_stale_temporaries(folder: Path, *, content_path: Callable[[Path], Path] = Path) -> int:
    """Remove temporary files that crashed processes left in one folder; return their number, 0 without such a folder.

    The age of a file is the system's time minus the file's change time; both come from the same clock. In the
    library, `content_path` is `Library.content_path`, because the files of a plan's library have other times.
    """
    removed = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _TEMPORARY_NAME.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    path = Path(entry.path)
                    if time.time() - content_path(path).lstat().st_ctime > STALE_TEMPORARY_SECONDS:
                        path.unlink()
                        removed += 1
    except (FileNotFoundError, NotADirectoryError):
        return removed
    return removed


def _flush(paths: Iterable[Path]) -> None:
    flushed: set[tuple[int, int]] = set()
    for path in paths:
        status = path.stat(follow_symlinks=False)
        # A file with two hard links is synced once.
        if (status.st_dev, status.st_ino) not in flushed:
            fsync_file(path)
            flushed.add((status.st_dev, status.st_ino))


def fsync_file(path: Path) -> None:
    """Wait until a file's contents are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(path: Path) -> None:
    """Wait until the file names in a folder are on the disk, if the file system can sync folders."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # Some network and FUSE file systems cannot sync a folder.
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist yet. The file is not synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
    finally:
        os.close(descriptor)
