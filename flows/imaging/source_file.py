"""Opens originals safely: only regular files, no symlinks, and without blocking on a pipe.

An `OSError` means that the disk or the system failed. It says nothing about the file, and another attempt may succeed.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows.imaging.errors import ImageMissing, UnreadableImage
from storage.library.scan import storable_ns

_BLOCK_BYTES: Final = 1 << 20
#: How much of a damaged file is read to find a failing disk. More would take too long, for example for a film that has
#: the extension of an image.
MAX_CHECKED_BYTES: Final = 128 << 20

#: The errors of `open` that are a fault of the file: missing permissions, a symlink, a socket, a missing device, or a
#: name that is too long.
_FAULTS_OF_FILES: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.ENAMETOOLONG}
)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An open original.

    Attributes:
        descriptor: the file descriptor for reading, which `open_source` closes.
        size_bytes: the size when the file was opened.
        mtime_ns: the time of the last change of the contents before the opening, in nanoseconds since 1970.
        ctime_ns: the time of the last change of contents or status before the opening, in nanoseconds since 1970.
    """

    path: Path
    descriptor: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Return the bytes from an offset on, at most `size_bytes`; fewer or none at the end of the file."""
        # A damaged file may contain offsets or lengths that the system call does not accept, so they are checked first.
        is_readable = 0 <= offset < self.size_bytes and size_bytes > 0
        with self.naming_errors():
            return os.pread(self.descriptor, size_bytes, offset) if is_readable else b""

    @contextlib.contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Add the path to an `OSError` of the block, because the system does not name an open file."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[SourceFile]:
    """Open an original for reading.

    Raises:
        ImageMissing: the file does not exist.
        UnreadableImage: the file is empty, a symlink, not a regular file, or may not be opened.
        OSError: the disk or the system failed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise missing(path) from error
    except OSError as error:
        if error.errno not in _FAULTS_OF_FILES:
            raise
        if error.errno == errno.ELOOP:
            raise UnreadableImage(f"{path.name}: it is a symlink. Replace the symlink with the file.") from error
        raise UnreadableImage(
            f"{path.name}: the file cannot be opened ({error.strerror}). Check the file and its permissions."
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(f"{path.name}: it is not a regular file. Replace it with a regular file.")
        if status.st_size == 0:
            raise UnreadableImage(f"{path.name}: the file is empty. Restore it from a backup, or remove it.")
        source = SourceFile(
            path, descriptor, status.st_size, storable_ns(status.st_mtime_ns), storable_ns(status.st_ctime_ns)
        )
        try:
            yield source
        except UnreadableImage:
            # If the disk fails, decoders report a damaged file. Then one of these reads fails.
            for offset in range(0, min(source.size_bytes, MAX_CHECKED_BYTES), _BLOCK_BYTES):
                source.read_at(offset, _BLOCK_BYTES)
            raise
    finally:
        os.close(descriptor)


def missing(path: Path) -> ImageMissing:
    """Return the error for a file that does not exist, although it was found before."""
    return ImageMissing(
        f"{path.name}: the file does not exist: another program may have moved or removed it. Move it back, and try "
        "again."
    )
