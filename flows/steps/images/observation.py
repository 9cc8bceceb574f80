"""Compares an original on disk with its row, and hashes its contents again if its size or times differ.

Thumbnails, previews and metadata are up to date if they were made from the present contents of the original.
`flows.imaging.fingerprint` decides whether the contents of a file have changed. An unreadable file that changed within
the last `settle_seconds` (a setting) is not a failure.
"""

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from flows.errors import PermanentStepError, SkipItem
from flows.handlers.step_context import StepContext
from flows.imaging.errors import ImagingError
from flows.imaging.fingerprint import Fingerprint
from storage.library.scan import ScannedFile, storable_ns
from storage.photos.derivatives import Derivative
from storage.photos.originals import Original


class UnusableImage(PermanentStepError):
    """An original cannot be decoded, or the path of a derivative leads through a symlink."""


class OriginalComparison:
    """Compares originals with their rows during one job. Its methods may run in any thread.

    Attributes:
        images: the image processing that reads the files.
        now: the time when the job began.
    """

    def __init__(self, ctx: StepContext) -> None:
        self.images = ctx.images
        self.now = ctx.now()
        self._settle_seconds = ctx.settings.settle_seconds

    def compare(self, photo_id: int, file: ScannedFile, path: Path, known: Original | None) -> Original:
        """Return the new row of an original. If the contents have not changed, it has the hash of `known`.

        The file is read only if its size or times differ from the values in `known`.

        Raises:
            ImageMissing: the file no longer exists.
            UnreadableImage: the file cannot be read.
        """
        fingerprint = None if known is None else fingerprint_of(known)
        if known is None or fingerprint is None:
            return first_seen(photo_id, file)
        present = replace(known, kind=str(file.kind), missing_since=None)
        if fingerprint.is_of(size_bytes=file.size_bytes, mtime_ns=file.mtime_ns, ctime_ns=file.ctime_ns):
            return replace(present, ctime_ns=file.ctime_ns)
        reading = self.images.read_source(path, fingerprint)
        if reading is None:
            return present
        # If the contents are the same, the known hash stays, because the rows of derivatives refer to it.
        content_hash = fingerprint.content_hash if reading.is_same else reading.fingerprint.content_hash
        return with_fingerprint(present, replace(reading.fingerprint, content_hash=content_hash), now=self.now)

    def with_hash(self, original: Original, path: Path) -> Original:
        """Return the row of an original with a content hash. The file is read only if the row has no hash.

        Raises:
            ImageMissing: the file no longer exists.
            UnreadableImage: the file cannot be read.
        """
        if original.content_hash is not None:
            return original
        return with_fingerprint(original, self.images.take_fingerprint(path), now=self.now)

    def why_unusable(self, error: Exception, file: ScannedFile, path: Path) -> Exception:
        """Return the error of a photo whose file could not be read.

        It is `SkipItem` if the file may still be incomplete, else `UnusableImage`.

        A file may be incomplete if it has changed since it was listed, or within the last `settle_seconds`. A later run
        then tries again.
        """
        if isinstance(error, ImagingError) and self._may_be_incomplete(file, path):
            reason = str(error).rstrip(".")
            return SkipItem(f"{reason}. The file may still be incomplete, so a later run tries again.")
        return UnusableImage(str(error))

    def made_from(self, original: Original, kind: str) -> Derivative:
        """Return the row for a derivative or metadata that the step made from the original's current contents."""
        return Derivative(
            photo_id=original.photo_id,
            kind=kind,
            source_name=original.name,
            source_hash=original.content_hash,
            generated_at=self.now,
        )

    def _may_be_incomplete(self, file: ScannedFile, path: Path) -> bool:
        try:
            status = path.lstat()
        except OSError:
            return True
        if (status.st_size, storable_ns(status.st_mtime_ns)) != (file.size_bytes, file.mtime_ns):
            return True
        # File times come from the clock of this machine and not from the database, so they are compared with that
        # clock. A time in the future is ignored.
        age_ns = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns)
        return 0 <= age_ns < self._settle_seconds * 1e9


def first_seen(photo_id: int, file: ScannedFile) -> Original:
    """Return the row for an original that has no row yet, without reading the file."""
    return Original(
        photo_id=photo_id,
        name=file.name,
        kind=str(file.kind),
        size_bytes=file.size_bytes,
        mtime_ns=file.mtime_ns,
        ctime_ns=file.ctime_ns,
    )


def fingerprint_of(original: Original) -> Fingerprint | None:
    """Return the fingerprint in the row of an original; None if the row has no size or no modification time yet."""
    if original.size_bytes is None or original.mtime_ns is None:
        return None
    return Fingerprint(original.size_bytes, original.mtime_ns, original.ctime_ns, original.content_hash)


def with_fingerprint(original: Original, found: Fingerprint, *, now: datetime, accepts: bool = False) -> Original:
    """Return the row of an original with a new fingerprint.

    If the contents equal the corrupt contents that an earlier check found, the row stays marked as corrupt, even if the
    times of the file have changed. `accepts` removes the mark.
    """
    seen = replace(original, size_bytes=found.size_bytes, mtime_ns=found.mtime_ns, ctime_ns=found.ctime_ns)
    if found.content_hash is not None and found.content_hash == original.corrupt_hash and not accepts:
        return replace(seen, checked_at=now)
    seen = replace(seen, content_hash=found.content_hash, corrupt_since=None, corrupt_hash=None)
    if found.content_hash is None:
        return replace(seen, hashed_at=None, verified_at=None, checked_at=None)
    is_same = found.content_hash == original.content_hash
    return replace(seen, hashed_at=original.hashed_at if is_same else now, verified_at=now, checked_at=now)


def is_other(before: Original, now: Original) -> bool:
    """Return whether the contents of an original have changed or may have changed."""
    is_same = (before.size_bytes, before.mtime_ns) == (now.size_bytes, now.mtime_ns)
    if before.content_hash is None or now.content_hash is None:
        return not is_same or before.ctime_ns not in (None, now.ctime_ns)
    return before.content_hash != now.content_hash
