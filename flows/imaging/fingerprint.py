"""Telling whether an original has changed since something was made from it. Not a search for duplicates."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from flows.imaging.errors import UnreadableImage
from flows.imaging.source_file import SourceFile, open_source


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What an original was like.

    Attributes:
        size_bytes: its size.
        mtime_ns: when its contents changed last, in nanoseconds since 1970.
        content_hash: BLAKE2b of its contents, 32 hexadecimal digits, where it was taken.
    """

    size_bytes: int
    mtime_ns: int
    content_hash: str | None = None


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """The answer of `check_source`.

    Attributes:
        changed: whether the contents differ from those known.
        fingerprint: what the original is like now, to be remembered.
    """

    changed: bool
    fingerprint: Fingerprint


def take_fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of an original, with its content hash; reads the whole file.

    Raises:
        ImageMissing: there is no such file.
        UnreadableImage: it cannot be read.
    """
    with open_source(path) as source:
        return _with_hash(source)


def check_source(path: Path, known: Fingerprint) -> SourceCheck:
    """Whether an original has changed: by its size, then its time, and its contents only where the time alone differs.

    A copy from a backup has another time but the same contents, and does not count as changed. Without a known content
    hash, another time does count.

    Raises:
        ImageMissing: there is no such file.
        UnreadableImage: it cannot be read.
    """
    with open_source(path) as source:
        if source.size_bytes == known.size_bytes and source.mtime_ns == known.mtime_ns:
            return SourceCheck(changed=False, fingerprint=known)
        now = _with_hash(source)
    return SourceCheck(changed=now.content_hash != known.content_hash, fingerprint=now)


def _with_hash(source: SourceFile) -> Fingerprint:
    try:
        with os.fdopen(source.descriptor, "rb", buffering=0, closefd=False) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise UnreadableImage(f"{source.name}: the file cannot be read to its end ({error.strerror}).") from error
    return Fingerprint(source.size_bytes, source.mtime_ns, digest)
