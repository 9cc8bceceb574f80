"""Makes the thumbnail and the preview of one photo, if they are missing or outdated.

The functions write only files, and may run in any thread. They return the changes of the rows, which the caller writes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from flows.errors import SkipItem
from flows.imaging.errors import ImageMissing, ImagingError, PoolClosed
from flows.imaging.isolation.image_processing import ImageProcessing
from flows.imaging.metadata import PhotoMetadata
from flows.steps.images.observation import (
    fingerprint_of,
    first_seen,
    observe,
    why_unusable,
    with_fingerprint,
    with_hash,
)
from flows.steps.targets.photo_files import PhotoTask
from storage.library.errors import UnsafePath
from storage.library.scan import ScannedFile
from storage.photos.derivatives import UNKNOWN, Derivative, DerivativeKind
from storage.photos.originals import Original
from storage.records import Photo

GENERATED = "generated"
FAILED = "failed"
MISSING = "missing"
NOT_SUPPORTED = "not_supported"


@dataclass(slots=True)
class DerivativeWork:
    """The result of the work on the derivatives of one photo.

    Attributes:
        statuses: the new status of each kind of derivative that was worked on.
        derivatives: new rows of derivatives, which name the source file even if making the derivative failed.
        original: the new row of the source file; None if the row does not change.
        others: the new rows of the photo's other images, each with a content hash.
        unreadable: the reasons why the contents of images could not be read.
        made: the kinds of derivatives that were written.
        replaced: the kinds among `made` that replaced a file.
        not_supported: the reason why this installation cannot make the derivatives, or None.
        error: the reason why making the derivatives failed or must wait, or None.
        metadata: the metadata of the source file, if they were requested and read together with it.
    """

    statuses: dict[DerivativeKind, str] = field(default_factory=dict)
    derivatives: list[Derivative] = field(default_factory=list)
    original: Original | None = None
    others: list[Original] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    made: list[DerivativeKind] = field(default_factory=list)
    replaced: set[DerivativeKind] = field(default_factory=set)
    not_supported: str | None = None
    error: Exception | None = None
    metadata: PhotoMetadata | None = None


def work_on_derivatives(
    task: PhotoTask,
    *,
    images: ImageProcessing,
    force: bool,
    settle_seconds: float,
    now: datetime,
    with_metadata: bool = False,
) -> DerivativeWork:
    """Make the derivatives of a photo that are missing, failed or outdated, or all with `force`. Hash each image.

    If a file fails that another program may still be writing (see `is_unsettled`), a later run tries it again.

    Raises:
        SkipItem: the photo has no image file.
        FileLeftAlone: the image file of the photo must not be used, for example because it is a symlink.
        ImageMissing, PoolClosed, LibraryError, OSError: the image could not be read; a repetition may succeed.
    """
    photo, folder = task.photo, task.folder
    sources = task.files.sources()
    if not sources:
        task.files.refuse_untouchable()
        raise SkipItem("the photo has no file on disk")
    source = sources[0]
    known = task.originals.get(source.name)
    work = DerivativeWork()
    try:
        path = folder.original(source.name)
        work.original = observe(photo.id, source, path, known, images=images, now=now)
        paths = {
            DerivativeKind.THUMBNAIL: folder.thumbnail(photo.filename),
            DerivativeKind.PREVIEW: folder.preview_image(photo.filename),
        }
        needed = [
            kind
            for kind in DerivativeKind
            if force or _is_needed(kind, photo, paths[kind], task.known.get(kind), source, work.original)
        ]
        if needed:
            _make(photo, path, {kind: paths[kind] for kind in needed}, work, images, now, with_metadata)
    except (ImageMissing, PoolClosed):
        raise
    except (ImagingError, UnsafePath) as error:
        work.statuses = dict.fromkeys(DerivativeKind, FAILED) if not work.statuses else work.statuses
        if work.original is None:
            work.original = first_seen(photo.id, source)
        work.derivatives = [_made_of(work.original, kind, now=now) for kind in work.statuses]
        work.error = why_unusable(error, source, folder.path / source.name, settle_seconds=settle_seconds)
        if isinstance(work.error, SkipItem):
            work.statuses = dict.fromkeys(work.statuses, MISSING)
            work.derivatives = [replace(row, source_hash=UNKNOWN) for row in work.derivatives]
    if work.error is None:
        _hash_all(task, sources, work, images, now)
    return work


def _hash_all(
    task: PhotoTask, sources: list[ScannedFile], work: DerivativeWork, images: ImageProcessing, now: datetime
) -> None:
    for file in sources:
        try:
            path = task.folder.original(file.name)
            if file is sources[0] and work.original is not None:
                work.original = with_hash(work.original, path, images=images, now=now)
                continue
            seen = observe(task.photo.id, file, path, task.originals.get(file.name), images=images, now=now)
            work.others.append(with_hash(seen, path, images=images, now=now))
        except (ImagingError, UnsafePath) as error:
            work.unreadable.append(str(error))


def _is_needed(
    kind: DerivativeKind, photo: Photo, path: Path, known: Derivative | None, source: ScannedFile, original: Original
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
    if known is not None:
        return not known.is_made_from(original)
    # A derivative that another program made is current if it is not older than its original.
    return written.st_mtime_ns < source.mtime_ns


def _make(
    photo: Photo,
    source: Path,
    paths: dict[DerivativeKind, Path],
    work: DerivativeWork,
    images: ImageProcessing,
    now: datetime,
    with_metadata: bool,
) -> None:
    assert work.original is not None  # noqa: S101 - it was observed before.
    work.statuses = dict.fromkeys(paths, FAILED)
    work.replaced = {kind for kind, path in paths.items() if os.path.lexists(path)}
    known = fingerprint_of(work.original)
    made = images.make_derivatives(
        source,
        thumbnail=paths.get(DerivativeKind.THUMBNAIL),
        preview=paths.get(DerivativeKind.PREVIEW),
        with_hash=known is None or known.content_hash is None,
        with_metadata=with_metadata,
    )
    work.metadata = made.metadata
    used = replace(made.source, content_hash=None)
    if made.source.content_hash is not None:
        # With the hash, a later run can distinguish a new modification time from new contents.
        known = made.source
        work.original = with_fingerprint(work.original, known, now=now)
    work.statuses = dict.fromkeys(paths, made.status)
    if made.status == NOT_SUPPORTED:
        work.not_supported = made.reason or "cannot be decoded by this installation"
        work.original = with_hash(work.original, source, images=images, now=now)
        work.derivatives = [_made_of(work.original, kind, now=now) for kind in paths]
        return
    if known is None or known.content_hash is None or replace(known, content_hash=None) != used:
        known = images.take_fingerprint(source)
        work.original = with_fingerprint(work.original, known, now=now)
    is_same = replace(known, content_hash=None) == used
    for kind in paths:
        written = made.thumbnail if kind is DerivativeKind.THUMBNAIL else made.preview
        work.made.append(kind)
        row = _made_of(work.original, kind, now=now)
        if written is not None:
            row = replace(row, width=written.width, height=written.height, size_bytes=written.size_bytes)
        work.derivatives.append(row if is_same else replace(row, source_hash=UNKNOWN))


def _made_of(original: Original, kind: DerivativeKind, *, now: datetime) -> Derivative:
    return Derivative(
        photo_id=original.photo_id,
        kind=str(kind),
        source_name=original.name,
        source_hash=original.content_hash,
        generated_at=now,
    )
