"""Telling whether an original has changed since something was made from it. Not a search for duplicates."""

import os
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
class SourceCheck:
    """The answer of `check_source`.

    Attributes:
        changed: whether the contents differ from those known.
        fingerprint: what the original is like now, to be remembered.
    """

    changed: bool
    fingerprint: Fingerprint


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


def check_source(path: Path, known: Fingerprint) -> SourceCheck:
    """Whether an original has changed: its contents decide if its size or one of its times is another.

    A copy from a backup has other times but the same contents, and does not count as changed; it keeps the hash that is
    known, by whatever algorithm. Without a known content hash, another time does count.

    Raises:
        ImageMissing: there is no such file.
        UnreadableImage: it cannot be read.
    """
    with open_source(path) as source:
        now = fingerprint_of(source)
        if known.is_of(size_bytes=source.size_bytes, mtime_ns=source.mtime_ns, ctime_ns=source.ctime_ns):
            return SourceCheck(changed=False, fingerprint=replace(known, ctime_ns=now.ctime_ns))
        now = fingerprint_with_hash(source, known.content_hash)
    is_same = now.content_hash is not None and now.content_hash == known.content_hash
    return SourceCheck(changed=not is_same, fingerprint=now)


def fingerprint_with_hash(source: SourceFile, known: str | None = None) -> Fingerprint:
    """The fingerprint of an open original; its hash is None if the file was written to since it was opened.

    Args:
        source: the original.
        known: a hash that is kept if the contents have it, by whatever algorithm.

    Raises:
        UnreadableImage: it cannot be read.
    """
    before = fingerprint_of(source)
    hasher = ContentHasher(known)
    try:
        # Decoders leave it elsewhere.
        os.lseek(source.descriptor, 0, os.SEEK_SET)
        with os.fdopen(source.descriptor, "rb", buffering=0, closefd=False) as file:
            for block in blocks(file):
                hasher.update(block)
        status = os.fstat(source.descriptor)
    except OSError as error:
        raise UnreadableImage(f"{source.name}: the file cannot be read to its end ({error.strerror}).") from error
    if before != Fingerprint(status.st_size, storable_ns(status.st_mtime_ns), storable_ns(status.st_ctime_ns)):
        return before
    return replace(before, content_hash=known if known and hasher.has(known) else hasher.content_hash)
