"""Telling whether an original has changed since something was made from it. Not a search for duplicates."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from flows.imaging.errors import UnreadableImage
from flows.imaging.source_file import SourceFile, open_source
from storage.library.content_hash import ContentHasher, blocks
from storage.library.scan import storable_ns


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What an original was like.

    Attributes:
        size_bytes: its size.
        mtime_ns: when its contents changed last, in nanoseconds since 1970.
        ctime_ns: when its contents or its status did, likewise; None if that was not noted.
        content_hash: `algorithm:hexadecimal`, if it was taken; see `storage.library.content_hash`.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int | None = None
    content_hash: str | None = None

    def is_of(self, *, size_bytes: int, mtime_ns: int, ctime_ns: int) -> bool:
        """Whether a file of this size and these times is the same as far as those tell."""
        return (self.size_bytes, self.mtime_ns) == (size_bytes, mtime_ns) and self.ctime_ns in (None, ctime_ns)


@dataclass(frozen=True, slots=True)
class SourceReading:
    """The answer of `read_source`.

    Attributes:
        fingerprint: what the original is like now, with a fresh hash; without one if it was written to meanwhile.
        is_same: whether its contents have the known hash; None if that cannot be told.
    """

    fingerprint: Fingerprint
    is_same: bool | None


def fingerprint_of(source: SourceFile) -> Fingerprint:
    """The fingerprint of an open original, without its content hash."""
    return Fingerprint(source.size_bytes, source.mtime_ns, source.ctime_ns)


def take_fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of an original, with its content hash; reads the whole file.

    The hash is None if the file was written to meanwhile.

    Raises:
        ImageMissing: there is no such file.
        UnreadableImage: it cannot be read.
    """
    with open_source(path) as source:
        return fingerprint_with_hash(source)


def read_source(path: Path, known: Fingerprint, *, on_bytes: Callable[[int], None] = lambda _: None) -> SourceReading:
    """Read an original whole, whatever its times say, and compare its contents with the hash that is known.

    Args:
        path: of the original.
        known: what it was like.
        on_bytes: called with the number of bytes after each block; what it raises ends the reading.

    Raises:
        ImageMissing: there is no such file.
        UnreadableImage: it cannot be read.
    """
    with open_source(path) as source:
        hasher = ContentHasher(known.content_hash)
        now = _read_whole(source, hasher, on_bytes)
    is_same = None if now.content_hash is None or known.content_hash is None else hasher.has(known.content_hash)
    return SourceReading(now, is_same)


def fingerprint_with_hash(source: SourceFile) -> Fingerprint:
    """The fingerprint of an open original; its hash is None if the file was written to since it was opened.

    Raises:
        UnreadableImage: it cannot be read.
    """
    return _read_whole(source, ContentHasher())


def _read_whole(
    source: SourceFile, hasher: ContentHasher, on_bytes: Callable[[int], None] = lambda _: None
) -> Fingerprint:
    before = fingerprint_of(source)
    try:
        # Decoders leave it elsewhere.
        os.lseek(source.descriptor, 0, os.SEEK_SET)
        with os.fdopen(source.descriptor, "rb", buffering=0, closefd=False) as file:
            for block in blocks(file):
                hasher.update(block)
                on_bytes(len(block))
        status = os.fstat(source.descriptor)
    except OSError as error:
        raise UnreadableImage(f"{source.name}: the file cannot be read to its end ({error.strerror}).") from error
    if before != Fingerprint(status.st_size, storable_ns(status.st_mtime_ns), storable_ns(status.st_ctime_ns)):
        return before
    return replace(before, content_hash=hasher.content_hash)
