"""Thumbnail and preview of one photo: whether they have to be made, from which file, and making them.

Touches the disk alone, from any thread; what follows for the rows is returned. Not for choosing photos.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from flows.errors import PermanentStepError, SkipItem
from flows.imaging.errors import ImageMissing, ImagingError, PoolClosed
from flows.imaging.fingerprint import Fingerprint
from flows.imaging.isolation import ImageProcessing
from flows.steps.photo_files import PhotoFiles
from storage.derivatives import Derivative, DerivativeKind
from storage.library import ProjectFolder, ScannedFile
from storage.library.errors import UnsafePath
from storage.records import Photo

GENERATED = "generated"
FAILED = "failed"
NOT_SUPPORTED = "not_supported"


class UnusableImage(PermanentStepError):
    """An original cannot be decoded, or its name is too long for a derivative; the photo's status becomes failed."""


@dataclass(slots=True)
class DerivativeWork:
    """What became of the derivatives of one photo.

    Attributes:
        statuses: the new status of each kind that was worked on.
        derivatives: what is to be remembered of their source.
        made: the kinds that were written.
        replaced: those of them that there was a file of before.
        not_supported: why there can be none here, or None.
        error: why making them failed, or None.
    """

    statuses: dict[DerivativeKind, str] = field(default_factory=dict)
    derivatives: list[Derivative] = field(default_factory=list)
    made: list[DerivativeKind] = field(default_factory=list)
    replaced: set[DerivativeKind] = field(default_factory=set)
    not_supported: str | None = None
    error: Exception | None = None


def work_on_derivatives(
    photo: Photo,
    folder: ProjectFolder,
    files: PhotoFiles,
    known: dict[DerivativeKind, Derivative],
    *,
    images: ImageProcessing,
    force: bool,
    now: datetime,
) -> DerivativeWork:
    """Make what is missing, failed or outdated of a photo's derivatives; all with `force`.

    Raises:
        SkipItem: the photo has no file that derivatives could be made from.
        FileLeftAlone: what it has is a symlink or the like.
        ImageMissing, PoolClosed, LibraryError, OSError: nothing is known of the image; a repetition may succeed.
    """
    sources = files.sources()
    if not sources:
        files.refuse_untouchable()
        raise SkipItem("no file of it is on disk")
    source = sources[0]
    work = DerivativeWork()
    try:
        paths = {
            DerivativeKind.THUMBNAIL: folder.thumbnail(photo.filename),
            DerivativeKind.PREVIEW: folder.preview_image(photo.filename),
        }
        check = _SourceCheck(folder.original(source.name), source, images)
        needed = [
            kind
            for kind in DerivativeKind
            if force or _is_needed(kind, photo, paths[kind], known.get(kind), check, work)
        ]
        if needed:
            _make(photo, source, {kind: paths[kind] for kind in needed}, check, work, images, now)
    except (ImageMissing, PoolClosed):
        raise
    except (ImagingError, UnsafePath) as error:
        work.error = UnusableImage(str(error))
        work.statuses = dict.fromkeys(DerivativeKind, FAILED) if not work.statuses else work.statuses
    return work


class _SourceCheck:
    """Whether an original is the one that was known; its contents are read once for both kinds at most."""

    def __init__(self, path: Path, source: ScannedFile, images: ImageProcessing) -> None:
        self.path = path
        self.source = source
        self._images = images
        self._answers: dict[Fingerprint, tuple[bool, Fingerprint]] = {}

    def has_changed(self, known: Derivative) -> tuple[bool, Fingerprint]:
        """Whether it differs from what a derivative was made of, and what it is like now."""
        fingerprint = Fingerprint(known.source_size_bytes, known.source_mtime_ns, known.source_hash)
        if fingerprint not in self._answers:
            answer = self._images.check_source(self.path, fingerprint)
            self._answers[fingerprint] = (answer.changed, answer.fingerprint)
        return self._answers[fingerprint]


def _is_needed(
    kind: DerivativeKind,
    photo: Photo,
    path: Path,
    known: Derivative | None,
    check: _SourceCheck,
    work: DerivativeWork,
) -> bool:
    status = photo.thumbnail_status if kind is DerivativeKind.THUMBNAIL else photo.preview_status
    if status != GENERATED:
        return True
    try:
        written = path.lstat()
    except FileNotFoundError:
        return True
    if written.st_size == 0:
        return True
    if known is None:
        # Made by another program: it is believed as long as it is not older than its original.
        return written.st_mtime_ns < check.source.mtime_ns
    if known.source_name != check.source.name:
        return True
    changed, now = check.has_changed(known)
    if not changed and now.mtime_ns != known.source_mtime_ns:
        remembered = replace(known, source_mtime_ns=now.mtime_ns, source_hash=now.content_hash)
        work.derivatives.append(remembered)
    return changed


def _make(
    photo: Photo,
    source: ScannedFile,
    paths: dict[DerivativeKind, Path],
    check: _SourceCheck,
    work: DerivativeWork,
    images: ImageProcessing,
    now: datetime,
) -> None:
    work.statuses = dict.fromkeys(paths, FAILED)
    work.replaced = {kind for kind, path in paths.items() if os.path.lexists(path)}
    made = images.make_derivatives(
        check.path, thumbnail=paths.get(DerivativeKind.THUMBNAIL), preview=paths.get(DerivativeKind.PREVIEW)
    )
    work.statuses = dict.fromkeys(paths, made.status)
    if made.status == NOT_SUPPORTED:
        work.not_supported = made.reason or "cannot be decoded here"
        return
    # The file is in memory now; its contents tell later whether a new time means new contents.
    fingerprint = images.take_fingerprint(check.path)
    is_same = (fingerprint.size_bytes, fingerprint.mtime_ns) == (made.source_size_bytes, made.source_mtime_ns)
    for kind in paths:
        written = made.thumbnail if kind is DerivativeKind.THUMBNAIL else made.preview
        work.made.append(kind)
        work.derivatives.append(
            Derivative(
                photo_id=photo.id,
                kind=str(kind),
                source_name=source.name,
                source_size_bytes=made.source_size_bytes,
                source_mtime_ns=made.source_mtime_ns,
                source_hash=fingerprint.content_hash if is_same else None,
                width=None if written is None else written.width,
                height=None if written is None else written.height,
                size_bytes=None if written is None else written.size_bytes,
                generated_at=now,
            )
        )
