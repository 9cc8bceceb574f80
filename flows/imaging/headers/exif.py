"""Reads EXIF tags from a TIFF structure: an EXIF block, a TIFF or BigTIFF file, or a RAW file with a TIFF structure.

The module reads the few tags that photojobs uses, up to limits of size and number. Broken structures raise no errors.
`moments` parses the dates; `containers` finds EXIF blocks in other file formats. `_TAKEN` decides
which of the dates in EXIF tags comes first, and `flows.imaging.metadata` which of the dates from EXIF, IPTC and XMP.
"""

from dataclasses import dataclass, fields
from typing import Final

from flows.imaging.headers.iptc import iptc_of_resources
from flows.imaging.headers.moments import first_believable, moment_text
from flows.imaging.headers.tiff import Folder, Reader, is_tiff, read_folder, read_pages

_MAX_TEXT_BYTES: Final = 1000
#: The largest XMP packet that is read.
MAX_XMP_BYTES: Final = 4 << 20
#: The largest part of an EXIF or IPTC block that is read.
MAX_BLOCK_BYTES: Final = 1 << 20

_MAKE, _MODEL, _ORIENTATION, _EXIF_FOLDER = 0x010F, 0x0110, 0x0112, 0x8769
_XMP, _IPTC, _IMAGE_RESOURCES = 0x02BC, 0x83BB, 0x8649
_INTEROPERABILITY_FOLDER, _INTEROPERABILITY_INDEX = 0xA005, 0x0001


@dataclass(frozen=True, slots=True)
class _Moment:
    date: int
    fraction: int
    offset: int


# The tags of the date in the order of preference: when the picture was taken, then when it was digitized.
_TAKEN: Final = (
    _Moment(date=0x9003, fraction=0x9291, offset=0x9011),
    _Moment(date=0x9004, fraction=0x9292, offset=0x9012),
)
_CHANGED: Final = _Moment(date=0x0132, fraction=0x9290, offset=0x9010)


@dataclass(frozen=True, slots=True)
class ExifTags:
    """The tags that were found. A tag that is missing or not valid is None.

    Attributes:
        taken_at: when the picture was taken or digitized, as ISO 8601 text, `YYYY-MM-DDTHH:MM:SS[.fff][+hh:mm]`.
            Without an offset, it is the camera's local time. The date is implausible only if no other is plausible.
        orientation: the EXIF orientation, 1 to 8.
        make, model: the maker and the model of the camera.
        changed_at: when the file was last changed, as text in the form of `taken_at`. In a file that no program has
            changed, it is the time at which the picture was taken.
    """

    taken_at: str | None = None
    orientation: int | None = None
    make: str | None = None
    model: str | None = None
    changed_at: str | None = None

    def completed_by(self, others: "ExifTags") -> "ExifTags":
        """Return these tags; each missing tag gets its value from `others`."""
        names = [field.name for field in fields(self)]
        return ExifTags(**{name: getattr(self, name) or getattr(others, name) for name in names})


def read_exif_block(block: bytes) -> ExifTags:
    """Return the tags of an EXIF block, with or without the `Exif` mark before its TIFF structure."""
    return read_tiff(_structure_of(block))


def interoperability_index(block: bytes) -> str | None:
    """Return the DCF interoperability index of an EXIF block: `R98` for sRGB, `R03` for Adobe RGB; None if missing."""
    read_at = _structure_of(block)
    exif = read_folder(read_at, _number(next(read_pages(read_at), {}), _EXIF_FOLDER) or 0)
    return _text(read_folder(read_at, _number(exif, _INTEROPERABILITY_FOLDER) or 0), _INTEROPERABILITY_INDEX)


def _structure_of(block: bytes) -> Reader:
    start = next((at for at in (0, 4, 6, 10) if is_tiff(block[at : at + 4])), len(block))
    structure = block[start:]
    return lambda offset, size_bytes: structure[offset : offset + size_bytes]


def read_tiff(read_at: Reader) -> ExifTags:
    """Return the tags of a TIFF structure, whose parts are read with `read_at`."""
    folder = next(read_pages(read_at), {})
    pointer = _number(folder, _EXIF_FOLDER)
    tags = folder if not pointer else read_folder(read_at, pointer) | folder
    orientation = _number(folder, _ORIENTATION)
    return ExifTags(
        taken_at=first_believable(_moment_text(tags, moment) for moment in _TAKEN),
        changed_at=_moment_text(tags, _CHANGED),
        orientation=orientation if orientation is not None and 1 <= orientation <= 8 else None,
        make=plain_text(_text(tags, _MAKE)),
        model=plain_text(_text(tags, _MODEL)),
    )


def _moment_text(tags: Folder, moment: _Moment) -> str | None:
    date, fraction, offset = (_text(tags, tag) or "" for tag in (moment.date, moment.fraction, moment.offset))
    return moment_text(date, fraction=fraction, offset=offset)


def xmp_of_tiff(read_at: Reader) -> bytes | None:
    """Return the XMP packet of a TIFF structure; None if it has none."""
    entry = next(read_pages(read_at), {}).get(_XMP)
    return None if entry is None else entry.content(MAX_XMP_BYTES)


def iptc_of_tiff(read_at: Reader) -> bytes:
    """Return the IPTC block of a TIFF structure; empty if it has none."""
    folder = next(read_pages(read_at), {})
    if _IPTC in folder:
        return folder[_IPTC].block(MAX_BLOCK_BYTES)
    return iptc_of_resources(folder[_IMAGE_RESOURCES].block(MAX_BLOCK_BYTES)) if _IMAGE_RESOURCES in folder else b""


def _number(folder: Folder, tag: int) -> int | None:
    return folder[tag].number() if tag in folder else None


def _text(folder: Folder, tag: int) -> str | None:
    content = folder[tag].content(_MAX_TEXT_BYTES) if tag in folder else None
    return None if content is None else _decode(content.split(b"\0", 1)[0])


def plain_text(text: str | None) -> str | None:
    """Return the text without unprintable characters and superfluous spaces; None if the result is empty."""
    if text is None:
        return None
    cleaned = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return cleaned or None


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
