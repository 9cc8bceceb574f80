"""Reads the metadata of an original: time, camera, orientation and size. Decides which of several dates counts.

`_TAKEN` in `flows.imaging.headers.exif` decides which of the EXIF dates comes first.
`flows.steps.images.metadata_steps` decides from which file of a photo a value is taken.

Only headers and XMP sidecars are read, and the embedded preview of a RAW file whose header has no date. Broken EXIF
data raises no error, but a file that is not an image raises an error.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.imaging.errors import UnreadableImage
from flows.imaging.headers.containers import EmbeddedMetadata, read_embedded
from flows.imaging.headers.exif import ExifTags, read_exif_block
from flows.imaging.headers.iptc import iptc_created_at
from flows.imaging.headers.moments import first_believable
from flows.imaging.headers.stored_size import read_stored_size
from flows.imaging.headers.xmp import sidecar_taken_at, xmp_taken_at
from flows.imaging.pixels.open_image import UnsupportedCodec, open_image, open_memory
from flows.imaging.pixels.raw import NoEmbeddedPreview, RawFile, has_raw_name, read_raw
from flows.imaging.source_file import SourceFile, open_source


@dataclass(frozen=True, slots=True)
class PhotoMetadata:
    """The metadata of an original. A missing value is None.

    Attributes:
        taken_at: when the picture was taken, as ISO 8601 text, `YYYY-MM-DDTHH:MM:SS[.fff][+hh:mm]`. Without an offset,
            it is the camera's local time. It is the first plausible date of these: EXIF DateTimeOriginal, EXIF
            CreateDate, IPTC with a time, XMP, IPTC without a time, the XMP sidecar, EXIF ModifyDate. If no date is
            plausible, it is the first of them. If IPTC has no time, and its day is that of EXIF ModifyDate, ModifyDate
            comes before IPTC.
        orientation: the EXIF orientation, 1 to 8.
        make: the maker of the camera.
        model: the model of the camera.
        width, height: the stored size in pixels, before the picture is turned upright.
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
        ImageMissing: the file does not exist.
        UnreadableImage: the file is empty or damaged, or not an image of an accepted format.
        OSError: the disk or the system failed.
    """
    with open_source(source) as file:
        return metadata_of(file)


def metadata_of(file: SourceFile) -> PhotoMetadata:
    """Return the metadata of an open original. Raises `UnreadableImage` if it is not an image of an accepted format."""
    return _of_raw(file) if has_raw_name(file) else _of_image(file)


def _of_image(file: SourceFile) -> PhotoMetadata:
    embedded = read_embedded(file.read_at, size_bytes=file.size_bytes)
    try:
        image = open_image(file)
    except UnsupportedCodec:
        stored = read_stored_size(file.read_at, size_bytes=file.size_bytes)
        tags = replace(embedded.tags, orientation=stored.orientation or embedded.tags.orientation)
        return _metadata(replace(embedded, tags=tags), file, width=stored.width, height=stored.height)
    tags = embedded.tags if embedded.tags != ExifTags() else _tags_of_block(image.header)
    # The decoder ignores the EXIF block of a PNG if it is in a text chunk or after the pixels. The orientation is that
    # of the decoder, so that the row agrees with the derivatives.
    tags = replace(tags, orientation=image.orientation)
    xmp = embedded.xmp or _block(image.header, "xmp-data")
    return _metadata(replace(embedded, tags=tags, xmp=xmp), file, width=image.width, height=image.height)


def _of_raw(file: SourceFile) -> PhotoMetadata:
    embedded = read_embedded(file.read_at, size_bytes=file.size_bytes)
    tags = embedded.tags
    raw: RawFile | None = None
    try:
        # If the format of a RAW file is unknown, only its embedded preview may have tags, so the preview is read too.
        raw = read_raw(file, with_preview=tags.taken_at is None)
    except NoEmbeddedPreview:
        with suppress(NoEmbeddedPreview):
            raw = read_raw(file, with_preview=False)
    except UnreadableImage:
        if tags == ExifTags():
            return _of_image(file)
    if raw is None:
        return _metadata(replace(embedded, tags=tags), file)
    if raw.jpeg is not None:
        tags = tags.completed_by(_tags_of_embedded(raw.jpeg, file.name))
    # The derivatives follow the orientation of LibRaw, so the row has the same orientation.
    tags = replace(tags, orientation=raw.orientation)
    return _metadata(replace(embedded, tags=tags), file, width=raw.width, height=raw.height)


def _tags_of_embedded(jpeg: bytes, name: str) -> ExifTags:
    try:
        tags = _tags_of_block(open_memory(jpeg, name).header)
    except UnreadableImage:
        return ExifTags()
    # If a preview has no EXIF block, LibRaw adds one. In this block, the start of 1970 in local time means "no date".
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
    taken_at = first_believable(_moments(embedded, file))
    return PhotoMetadata(taken_at, tags.orientation, tags.make, tags.model, width, height, file.size_bytes)


def _moments(embedded: EmbeddedMetadata, file: SourceFile) -> Iterator[str | None]:
    """Yield the possible dates of the picture, the most preferred first."""
    created_at, has_time = iptc_created_at(embedded.iptc)
    changed_at = embedded.tags.changed_at
    yield embedded.tags.taken_at
    # An IPTC date with a time comes before XMP, because XMP may have the same day without the time.
    if has_time:
        yield created_at
    if embedded.xmp is not None:
        yield xmp_taken_at(embedded.xmp)
    # If IPTC has only the day, and EXIF's date of change is on the same day, the date of change is more precise.
    if created_at is not None and changed_at is not None and changed_at[:10] == created_at[:10]:
        yield changed_at
    yield created_at
    yield sidecar_taken_at(file.path)
    # The date of change comes last, because a program that edits the file sets this date to the current time.
    yield changed_at
