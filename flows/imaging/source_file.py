"""Opening an original safely: a regular file, never through a symlink, never blocking on a pipe."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.imaging.errors import ImageMissing, UnreadableImage
from storage.library.scan import storable_ns


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An open original.

    Attributes:
        path: where it was found; for messages and its extension.
        descriptor: to read from; closed by `open_source`.
        size_bytes: when it was opened.
        mtime_ns: when its contents had changed last before it was opened, in nanoseconds since 1970.
        ctime_ns: when its contents or its status had, likewise.
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
        """Up to so many bytes from a place in the file; fewer, or none, at its end."""
        # A damaged file may name a place or a length that the system refuses to be asked for.
        is_readable = 0 <= offset < self.size_bytes and size_bytes > 0
        return os.pread(self.descriptor, size_bytes, offset) if is_readable else b""


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[SourceFile]:
    """Open an original for reading.

    Raises:
        ImageMissing: there is no such file.
        UnreadableImage: it is empty, a symlink or no regular file, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ImageMissing(f"{path.name}: the file does not exist.") from error
    except OSError as error:
        raise UnreadableImage(f"{path.name}: the file cannot be opened ({error.strerror}).") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(f"{path.name}: it is not a regular file.")
        if status.st_size == 0:
            raise UnreadableImage(f"{path.name}: the file is empty.")
        yield SourceFile(
            path, descriptor, status.st_size, storable_ns(status.st_mtime_ns), storable_ns(status.st_ctime_ns)
        )
    finally:
        os.close(descriptor)
