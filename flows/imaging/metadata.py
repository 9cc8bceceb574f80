"""What an original says about itself: when it was taken, with what, how it lies and how large it is.

Reads headers only. Nothing broken in EXIF is an error here; a file that is no image is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.imaging import decode
from flows.imaging.containers import EmbeddedMetadata, read_embedded
from flows.imaging.errors import UnreadableImage
from flows.imaging.exif import ExifTags, read_exif_block
from flows.imaging.iptc import iptc_created_at
from flows.imaging.moments import first_believable
from flows.imaging.raw import NoEmbeddedPreview, RawFile, has_raw_name, read_raw
from flows.imaging.source_file import SourceFile, open_source
from flows.imaging.stored_size import read_stored_size
from flows.imaging.xmp import sidecar_taken_at, xmp_taken_at


@dataclass(frozen=True, slots=True)
class PhotoMetadata:
    """What an original says about itself; None for what it does not say.

    Attributes:
        taken_at: as ISO 8601 text, `YYYY-MM-DDTHH:MM:SS[.fff][+hh:mm]`: the first valid of EXIF DateTimeOriginal and
            CreateDate, the dates of IPTC, XMP and the XMP sidecar, and EXIF ModifyDate. Without an offset it is the
            camera's own time.
        orientation: EXIF orientation, 1 to 8.
        make: of the camera.
        model: of the camera.
        width: as stored, before the picture is turned upright.
        height: likewise.
        size_bytes: of the file.
    """

    taken_at: str | None
    orientation: int | None
    make: str | None
    model: str | None
    width: int | None
    height: int | None
    size_bytes: int


def read_metadata(source: Path) -> PhotoMetadata:
    """Read the metadata of an original of any accepted format.

    Raises:
        ImageMissing: there is no such file.
        UnreadableImage: it is empty, or no image of an accepted format.
    """
    with open_source(source) as file:
        return metadata_of(file)


def metadata_of(file: SourceFile) -> PhotoMetadata:
    """The metadata of an open original; raises `UnreadableImage` as `read_metadata` does."""
    return _of_raw(file) if has_raw_name(file) else _of_image(file)


def _of_image(file: SourceFile) -> PhotoMetadata:
    embedded = read_embedded(file.read_at, size_bytes=file.size_bytes)
    try:
        image = decode.open_image(file)
    except decode.UnsupportedCodec:
        stored = read_stored_size(file.read_at, size_bytes=file.size_bytes)
        tags = replace(embedded.tags, orientation=stored.orientation or embedded.tags.orientation)
        return _metadata(replace(embedded, tags=tags), file, width=stored.width, height=stored.height)
    tags = embedded.tags if embedded.tags != ExifTags() else _tags_of_block(image.header)
    tags = replace(tags, orientation=image.orientation or tags.orientation)
    xmp = embedded.xmp or _block(image.header, "xmp-data")
    return _metadata(replace(embedded, tags=tags, xmp=xmp), file, width=image.width, height=image.height)


def _of_raw(file: SourceFile) -> PhotoMetadata:
    embedded = read_embedded(file.read_at, size_bytes=file.size_bytes)
    tags = embedded.tags
    raw: RawFile | None
    try:
        # A format that is not known here may have its tags in the preview alone.
        raw = read_raw(file, with_preview=tags.taken_at is None)
    except NoEmbeddedPreview:
        raw = _sizes(file)
    except UnreadableImage:
        if tags == ExifTags():
            return _of_image(file)
        raw = None
    if raw is None:
        return _metadata(replace(embedded, tags=tags), file)
    if raw.jpeg is not None:
        tags = tags.completed_by(_tags_of_embedded(raw.jpeg, file.name))
    # LibRaw's, as for the derivatives, so that the row says what they show.
    tags = replace(tags, orientation=raw.orientation)
    return _metadata(replace(embedded, tags=tags), file, width=raw.width, height=raw.height)


def _sizes(file: SourceFile) -> RawFile | None:
    try:
        return read_raw(file, with_preview=False)
    except NoEmbeddedPreview:
        return None


def _tags_of_embedded(jpeg: bytes, name: str) -> ExifTags:
    try:
        tags = _tags_of_block(decode.open_memory(jpeg, name).header)
    except UnreadableImage:
        return ExifTags()
    # LibRaw gives a preview without EXIF a block of its own, in which a missing date is the beginning of 1970, here.
    no_date = datetime.fromtimestamp(0).isoformat()
    return replace(
        tags,
        taken_at=None if tags.taken_at == no_date else tags.taken_at,
        changed_at=None if tags.changed_at == no_date else tags.changed_at,
    )


def _block(header: Any, name: str) -> bytes | None:
    if header is None or header.get_typeof(name) == 0:
        return None
    block = header.get(name)
    return bytes(block) if isinstance(block, bytes | bytearray | memoryview) else None


def _tags_of_block(header: Any) -> ExifTags:
    block = _block(header, "exif-data")
    return ExifTags() if block is None else read_exif_block(block)


def _metadata(
    embedded: EmbeddedMetadata, file: SourceFile, *, width: int | None = None, height: int | None = None
) -> PhotoMetadata:
    tags = embedded.tags
    return PhotoMetadata(
        taken_at=first_believable(_moments(embedded, file)),
        orientation=tags.orientation,
        make=tags.make,
        model=tags.model,
        width=width,
        height=height,
        size_bytes=file.size_bytes,
    )


def _moments(embedded: EmbeddedMetadata, file: SourceFile) -> Iterator[str | None]:
    """When the picture was taken by each that says it, in the order in which they are believed."""
    created_at, has_time = iptc_created_at(embedded.iptc)
    changed_at = embedded.tags.changed_at
    yield embedded.tags.taken_at
    # XMP may repeat the day of IPTC without the time.
    if has_time:
        yield created_at
    if embedded.xmp is not None:
        yield xmp_taken_at(embedded.xmp)
    # A day without a time is completed by a change on that day.
    if created_at is not None and changed_at is not None and changed_at[:10] == created_at[:10]:
        yield changed_at
    yield created_at
    yield sidecar_taken_at(file.path)
    # Last: a program that changes the file writes its own moment here.
    yield changed_at
