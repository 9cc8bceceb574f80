"""Fingerprints of originals, which show whether a file has changed. The search for duplicates is in other modules.

`Fingerprint.is_of` decides by size and times whether a file must be read again. `read_source` decides by the contents
whether the file has changed. `flows.steps.images.observation` makes the new row of the original from the result.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from flows.imaging.source_file import SourceFile, open_source
from storage.library.content_hash import ContentHasher, blocks
from storage.library.scan import storable_ns


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The size, times and content hash of an original when it was read.

    Attributes:
        size_bytes: the size of the file.
        mtime_ns: the last change of the contents, in nanoseconds since 1970.
        ctime_ns: the last change of the contents or status, in nanoseconds since 1970; None if it was not recorded.
        content_hash: the hash as `algorithm:hexadecimal`; None if it was not computed. See
            `storage.library.content_hash`.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int | None = None
    content_hash: str | None = None

    def is_of(self, *, size_bytes: int, mtime_ns: int, ctime_ns: int) -> bool:
        """Return whether the size and times agree with this fingerprint. If so, the file is probably unchanged."""
        return (self.size_bytes, self.mtime_ns) == (size_bytes, mtime_ns) and self.ctime_ns in (None, ctime_ns)


@dataclass(frozen=True, slots=True)
class SourceReading:
    """The result of `read_source`.

    Attributes:
        fingerprint: the fingerprint with the hash of the contents; the hash is None if the file changed meanwhile.
        is_same: whether the contents have the known hash; None if the known hash or the new hash is missing.
    """

    fingerprint: Fingerprint
    is_same: bool | None


def fingerprint_of(source: SourceFile) -> Fingerprint:
    """Return the fingerprint of an open original, without its content hash."""
    return Fingerprint(source.size_bytes, source.mtime_ns, source.ctime_ns)


def take_fingerprint(path: Path) -> Fingerprint:
    """Read a whole original, and return its fingerprint with its content hash.

    The hash is None if the file changed while it was read.

    Raises:
        ImageMissing: the file does not exist.
        UnreadableImage: the file is empty, not a regular file, or may not be opened.
        OSError: the disk failed.
    """
    with open_source(path) as source:
        return fingerprint_with_hash(source)


def read_source(path: Path, known: Fingerprint, *, on_bytes: Callable[[int], None] = lambda _: None) -> SourceReading:
    """Read a whole original, even if its times are unchanged, and compare its contents with the known hash.

    The function `on_bytes` is called after each block with the number of bytes. An error from `on_bytes` ends the
    reading.

    Raises:
        ImageMissing: the file does not exist.
        UnreadableImage: the file is empty, not a regular file, or may not be opened.
        OSError: the disk failed.
    """
    with open_source(path) as source:
        hasher = ContentHasher(known.content_hash)
        now = fingerprint_with_hash(source, hasher, on_bytes)
    is_same = None if now.content_hash is None or known.content_hash is None else hasher.has(known.content_hash)
    return SourceReading(now, is_same)


def fingerprint_with_hash(
    source: SourceFile, hasher: ContentHasher | None = None, on_bytes: Callable[[int], None] = lambda _: None
) -> Fingerprint:
    """Return the fingerprint of an open original. The hash is None if the file has changed since it was opened.

    Raises:
        OSError: the disk failed.
    """
    hasher = hasher or ContentHasher()
    before = fingerprint_of(source)
    with source.naming_errors():
        # The position may be anywhere, because decoders have read the file.
        os.lseek(source.descriptor, 0, os.SEEK_SET)
        with os.fdopen(source.descriptor, "rb", buffering=0, closefd=False) as file:
            for block in blocks(file):
                hasher.update(block)
                on_bytes(len(block))
        status = os.fstat(source.descriptor)
    if before != Fingerprint(status.st_size, storable_ns(status.st_mtime_ns), storable_ns(status.st_ctime_ns)):
        return before
    return replace(before, content_hash=hasher.content_hash)
