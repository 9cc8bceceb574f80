"""Reads the metadata of one photo, and computes the changes of its row. The caller writes the row."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flows.errors import SkipItem
from flows.imaging.errors import ImageMissing, ImagingError, PoolClosed
from flows.imaging.isolation.image_processing import ImageProcessing
from flows.imaging.metadata import PhotoMetadata
from flows.steps.images.observation import first_seen, observe, why_unusable
from flows.steps.targets.photo_files import PhotoTask
from storage.photos.derivatives import METADATA, Derivative, merged_meta
from storage.photos.originals import Original
from storage.records import Photo


@dataclass(frozen=True, slots=True)
class MetadataWork:
    """The metadata of a photo, as changes of its row.

    Attributes:
        values: the columns that change, with their new values.
        meta: the keys of `meta_json` that photojobs owns, with their new values. A key with the value None is removed.
        source: the new row that names the file from which the metadata were read.
        original: the new row of that file.
        has_changed: whether the photo's row changes.
        error: the reason why no metadata could be read, or None.
    """

    source: Derivative
    original: Original
    values: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] | None = None
    has_changed: bool = False
    error: Exception | None = None


def work_on_metadata(
    task: PhotoTask,
    *,
    images: ImageProcessing,
    settle_seconds: float,
    now: datetime,
    original: Original | None = None,
    found: PhotoMetadata | None = None,
) -> MetadataWork:
    """Read the metadata of a photo from its JPEG file, otherwise from its other image, otherwise from its RAW file.

    If the first file lacks the camera or the date, these values are read from the next file.

    Args:
        task: the photo and its files.
        images: the image processing that reads the files.
        settle_seconds: how long after its last change a file may be incomplete; see `is_unsettled`.
        now: the current time.
        original: the row of the first file, if it is already up to date.
        found: the metadata of the first file, if they have just been read.

    Raises:
        SkipItem: the photo has no file.
        FileLeftAlone: the file of the photo must not be used, for example because it is a symlink.
        ImageMissing, PoolClosed, OSError: the image could not be read; a repetition may succeed.
    """
    photo, folder = task.photo, task.folder
    sources = task.files.sources()
    if not sources:
        task.files.refuse_untouchable()
        raise SkipItem("the photo has no file on disk")
    first = sources[0]
    try:
        path = folder.original(first.name)
        if original is None:
            original = observe(photo.id, first, path, task.originals.get(first.name), images=images, now=now)
        if found is None:
            found = images.read_metadata(path)
    except (ImageMissing, PoolClosed):
        raise
    except ImagingError as error:
        if original is None:
            original = first_seen(photo.id, first)
        why = why_unusable(error, first, folder.path / first.name, settle_seconds=settle_seconds)
        return MetadataWork(_source(original, now=now), original, error=why)
    for source in sources[1:]:
        if found.taken_at is not None and found.make is not None:
            break
        # Photo editors often drop the metadata of the camera from the JPEG, but the RAW file still has them.
        try:
            found = _completed(found, images.read_metadata(folder.original(source.name)))
        except PoolClosed:
            raise
        except ImagingError:
            continue
    known = task.metadata_source
    # Values are cleared only if photojobs wrote them, because another program may have written the others.
    clears = known is not None and not known.is_made_from(original)
    values = _values(photo, found, clears=clears)
    meta = _meta(found, clears=clears)
    has_changed = bool(values) or merged_meta(photo.meta_json, meta) not in (photo.meta_json, photo.meta_json or {})
    return MetadataWork(_source(original, now=now), original, values, meta, has_changed)


def _values(photo: Photo, found: PhotoMetadata, *, clears: bool) -> dict[str, Any]:
    wanted = {"date_time_original": found.taken_at, "orientation": found.orientation}
    return {
        name: value for name, value in wanted.items() if getattr(photo, name) != value and (clears or value is not None)
    }


def _meta(found: PhotoMetadata, *, clears: bool) -> dict[str, Any]:
    own = {
        "make": found.make,
        "model": found.model,
        "width": found.width,
        "height": found.height,
        "size_bytes": found.size_bytes,
    }
    return {name: value for name, value in own.items() if clears or value is not None}


def _source(original: Original, *, now: datetime) -> Derivative:
    return Derivative(
        photo_id=original.photo_id,
        kind=METADATA,
        source_name=original.name,
        source_hash=original.content_hash,
        generated_at=now,
    )


def _completed(found: PhotoMetadata, other: PhotoMetadata) -> PhotoMetadata:
    return PhotoMetadata(
        taken_at=found.taken_at or other.taken_at,
        orientation=found.orientation,
        make=found.make or other.make,
        model=found.model or other.model,
        width=found.width,
        height=found.height,
        size_bytes=found.size_bytes,
    )
