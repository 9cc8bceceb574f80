"""What an original says about itself: when it was taken, with what, how it lies and how large it is.

Reads headers only. Nothing broken in EXIF is an error here; a file that is no image is.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.imaging import decode, vips
from flows.imaging.errors import UnreadableImage
from flows.imaging.exif import ExifTags, is_tiff, read_exif_block, read_tiff
from flows.imaging.raw import NoEmbeddedPreview, RawFile, read_raw
from flows.imaging.source_file import SourceFile, open_source
from storage.library.kinds import RAW_EXTENSIONS


@dataclass(frozen=True, slots=True)
class PhotoMetadata:
    """What an original says about itself; None for what it does not say.

    Attributes:
        taken_at: as ISO 8601 text, `YYYY-MM-DDTHH:MM:SS[.fff][+hh:mm]`: the first valid of EXIF DateTimeOriginal,
            CreateDate and ModifyDate. Without an offset it is the camera's own time.
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
        if source.suffix.lower().removeprefix(".") in RAW_EXTENSIONS:
            return _of_raw(file)
        return _of_image(file)


def _of_image(file: SourceFile) -> PhotoMetadata:
    header = decode.read_header(vips.load_vips().Source.new_from_descriptor(file.descriptor), file.name)
    # libvips leaves the EXIF of a TIFF alone, which is its tags themselves.
    tags = read_tiff(file.read_at) if is_tiff(file.read_at(0, 4)) else _tags_of_block(header)
    orientation = decode.stored_orientation(header)
    if orientation is not None:
        tags = replace(tags, orientation=orientation)
    return _metadata(tags, file, width=header.width, height=header.height)


def _of_raw(file: SourceFile) -> PhotoMetadata:
    tags = read_tiff(file.read_at)
    raw: RawFile | None
    try:
        # The formats that are not built like a TIFF carry their tags in the embedded preview alone.
        raw = read_raw(file, with_preview=tags.taken_at is None)
    except NoEmbeddedPreview:
        raw = _sizes(file)
    except UnreadableImage:
        if tags == ExifTags():
            return _of_image(file)
        raw = None
    if raw is None:
        return _metadata(tags, file, width=None, height=None)
    if raw.jpeg is not None:
        tags = _first_of(tags, _tags_of_embedded(raw.jpeg, file.name))
    if tags.orientation is None:
        tags = replace(tags, orientation=raw.orientation)
    return _metadata(tags, file, width=raw.width, height=raw.height)


def _sizes(file: SourceFile) -> RawFile | None:
    try:
        return read_raw(file, with_preview=False)
    except NoEmbeddedPreview:
        return None


def _tags_of_embedded(jpeg: bytes, name: str) -> ExifTags:
    try:
        tags = _tags_of_block(decode.read_header(vips.load_vips().Source.new_from_memory(jpeg), name))
    except UnreadableImage:
        return ExifTags()
    # LibRaw gives a preview without EXIF a block of its own, in which a missing date is the beginning of 1970, here.
    no_date = datetime.fromtimestamp(0).isoformat()
    return replace(tags, taken_at=None) if tags.taken_at == no_date else tags


def _tags_of_block(header: Any) -> ExifTags:
    if header.get_typeof("exif-data") == 0:
        return ExifTags()
    block = header.get("exif-data")
    return read_exif_block(bytes(block)) if isinstance(block, bytes | bytearray | memoryview) else ExifTags()


def _first_of(tags: ExifTags, others: ExifTags) -> ExifTags:
    return ExifTags(
        taken_at=tags.taken_at or others.taken_at,
        orientation=tags.orientation,
        make=tags.make or others.make,
        model=tags.model or others.model,
    )


def _metadata(tags: ExifTags, file: SourceFile, *, width: int | None, height: int | None) -> PhotoMetadata:
    return PhotoMetadata(
        taken_at=tags.taken_at,
        orientation=tags.orientation,
        make=tags.make,
        model=tags.model,
        width=width,
        height=height,
        size_bytes=file.size_bytes,
    )
