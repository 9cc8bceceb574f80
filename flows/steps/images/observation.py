"""Compares an original on disk with its row. If its size or times differ, its contents are hashed again.

Thumbnails, previews and metadata follow one rule: each is current if it was made from the original as it is now.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from flows.errors import PermanentStepError, SkipItem
from flows.imaging.errors import ImagingError
from flows.imaging.fingerprint import Fingerprint
from flows.imaging.isolation.image_processing import ImageProcessing
from storage.library import ScannedFile
from storage.library.scan import storable_ns
from storage.photos.originals import Original


class UnusableImage(PermanentStepError):
    """An original cannot be decoded, or its derivative would be behind a symlink. The derivative's status is failed."""


def observe(
    photo_id: int, file: ScannedFile, path: Path, known: Original | None, *, images: ImageProcessing, now: datetime
) -> Original:
    """The new row of an original; equal to `known` if nothing has changed.

    The file is read only if `known` has other times or another size.

    Raises:
        ImageMissing: the file no longer exists.
        UnreadableImage: it cannot be read.
    """
    fingerprint = None if known is None else fingerprint_of(known)
    if known is None or fingerprint is None:
        return first_seen(photo_id, file)
    present = replace(known, kind=str(file.kind), missing_since=None)
    if fingerprint.is_of(size_bytes=file.size_bytes, mtime_ns=file.mtime_ns, ctime_ns=file.ctime_ns):
        return replace(present, ctime_ns=file.ctime_ns)
    reading = images.read_source(path, fingerprint)
    if reading is None:
        return present
    # Derivatives of the same contents name the known hash, which may be of another algorithm.
    content_hash = fingerprint.content_hash if reading.is_same else reading.fingerprint.content_hash
    return with_fingerprint(present, replace(reading.fingerprint, content_hash=content_hash), now=now)


def first_seen(photo_id: int, file: ScannedFile) -> Original:
    """The row of an original that has none yet. The file is not read."""
    return Original(
        photo_id=photo_id,
        name=file.name,
        kind=str(file.kind),
        size_bytes=file.size_bytes,
        mtime_ns=file.mtime_ns,
        ctime_ns=file.ctime_ns,
    )


def is_unsettled(file: ScannedFile, path: Path, *, settle_seconds: float) -> bool:
    """Whether a file may still be being written.

    It may be if it has changed since it was listed, or within the last `settle_seconds`. A modification time in the
    future is ignored.
    """
    try:
        status = path.lstat()
    except OSError:
        return True
    if (status.st_size, storable_ns(status.st_mtime_ns)) != (file.size_bytes, file.mtime_ns):
        return True
    # File times come from the clock of this machine, not from that of the database.
    return 0 <= time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < settle_seconds * 1e9


def why_unusable(error: Exception, file: ScannedFile, path: Path, *, settle_seconds: float) -> Exception:
    """The error of a photo whose file could not be read: `SkipItem` if it may still be being written."""
    if isinstance(error, ImagingError) and is_unsettled(file, path, settle_seconds=settle_seconds):
        return SkipItem(f"may be incomplete; a later run tries it again: {error}")
    return UnusableImage(str(error))


def fingerprint_of(original: Original) -> Fingerprint | None:
    """The fingerprint in an original's row; None if the row has no size and time yet."""
    if original.size_bytes is None or original.mtime_ns is None:
        return None
    return Fingerprint(original.size_bytes, original.mtime_ns, original.ctime_ns, original.content_hash)


def with_hash(original: Original, path: Path, *, images: ImageProcessing, now: datetime) -> Original:
    """The row of an original, with a content hash. The file is read if its row has none.

    Raises:
        ImageMissing: the file no longer exists.
        UnreadableImage: it cannot be read.
    """
    if original.content_hash is not None:
        return original
    return with_fingerprint(original, images.take_fingerprint(path), now=now)


def with_fingerprint(original: Original, found: Fingerprint, *, now: datetime, accepts: bool = False) -> Original:
    """The row of an original with a new fingerprint.

    If the contents are those that were found corrupt, the row says so until `accepts` is true, whatever the times of
    the file are.
    """
    seen = replace(original, size_bytes=found.size_bytes, mtime_ns=found.mtime_ns, ctime_ns=found.ctime_ns)
    if found.content_hash is None:
        return replace(
            seen,
            content_hash=None,
            hashed_at=None,
            verified_at=None,
            checked_at=None,
            corrupt_since=None,
            corrupt_hash=None,
        )
    if found.content_hash == original.corrupt_hash and not accepts:
        return replace(seen, checked_at=now)
    is_same = found.content_hash == original.content_hash
    return replace(
        seen,
        content_hash=found.content_hash,
        hashed_at=original.hashed_at if is_same else now,
        verified_at=now,
        checked_at=now,
        corrupt_since=None,
        corrupt_hash=None,
    )


def is_other(before: Original, now: Original) -> bool:
    """Whether the contents of an original have changed, or may have changed."""
    is_same = (before.size_bytes, before.mtime_ns) == (now.size_bytes, now.mtime_ns)
    if before.content_hash is None or now.content_hash is None:
        return not is_same or before.ctime_ns not in (None, now.ctime_ns)
    return before.content_hash != now.content_hash
