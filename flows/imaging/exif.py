"""EXIF tags out of a TIFF structure: the EXIF block of a JPEG, a TIFF or BigTIFF file, or a RAW file built like one.

Reads the few tags that photos are sorted by, trusts nothing, and never raises for what is broken.
`moments` reads the dates, `containers` finds the structures in files of other forms.
"""

from dataclasses import dataclass
from typing import Final

from flows.imaging.iptc import iptc_of_resources
from flows.imaging.moments import first_believable, moment_text
from flows.imaging.tiff import Folder, Reader, is_tiff, read_folder, read_pages

_MAX_TEXT_BYTES: Final = 1000
#: An XMP packet that is larger is not read.
MAX_XMP_BYTES: Final = 4 << 20
#: Of an EXIF or IPTC block, no more is read.
MAX_BLOCK_BYTES: Final = 1 << 20

_MAKE, _MODEL, _ORIENTATION, _EXIF_FOLDER = 0x010F, 0x0110, 0x0112, 0x8769
_XMP, _IPTC, _IMAGE_RESOURCES = 0x02BC, 0x83BB, 0x8649
_INTEROPERABILITY_FOLDER, _INTEROPERABILITY_INDEX = 0xA005, 0x0001


@dataclass(frozen=True, slots=True)
class _Moment:
    date: int
    fraction: int
    offset: int


# In the order in which they are believed: when the picture was taken, when it was digitised.
_TAKEN: Final = (
    _Moment(date=0x9003, fraction=0x9291, offset=0x9011),
    _Moment(date=0x9004, fraction=0x9292, offset=0x9012),
)
_CHANGED: Final = _Moment(date=0x0132, fraction=0x9290, offset=0x9010)


@dataclass(frozen=True, slots=True)
class ExifTags:
    """What was found; None for what is missing or makes no sense.

    Attributes:
        taken_at: when the picture was taken or digitised, as ISO 8601 text, `YYYY-MM-DDTHH:MM:SS[.fff][+hh:mm]`;
            without an offset it is the camera's own time.
        orientation: 1 to 8.
        make: of the camera.
        model: of the camera.
        changed_at: when the file was last changed, as text like `taken_at`. A camera writes the same moment.
    """

    taken_at: str | None = None
    orientation: int | None = None
    make: str | None = None
    model: str | None = None
    changed_at: str | None = None

    def completed_by(self, others: "ExifTags") -> "ExifTags":
        """These tags, and those of `others` in place of the missing ones."""
        return ExifTags(
            taken_at=self.taken_at or others.taken_at,
            changed_at=self.changed_at or others.changed_at,
            orientation=self.orientation or others.orientation,
            make=self.make or others.make,
            model=self.model or others.model,
        )


def read_exif_block(block: bytes) -> ExifTags:
    """The tags of an EXIF block as image files carry it, with or without its `Exif` mark before the TIFF structure."""
    return read_tiff(_structure_of(block))


def interoperability_index(block: bytes) -> str | None:
    """What an EXIF block says of its colours by DCF: `R98` is sRGB and `R03` Adobe RGB; None if it says nothing."""
    read_at = _structure_of(block)
    exif = read_folder(read_at, _number(next(read_pages(read_at), {}), _EXIF_FOLDER) or 0)
    return _text(read_folder(read_at, _number(exif, _INTEROPERABILITY_FOLDER) or 0), _INTEROPERABILITY_INDEX)


def _structure_of(block: bytes) -> Reader:
    start = next((at for at in (0, 4, 6, 10) if is_tiff(block[at : at + 4])), len(block))
    structure = block[start:]
    return lambda offset, size_bytes: structure[offset : offset + size_bytes]


def read_tiff(read_at: Reader) -> ExifTags:
    """The tags of a TIFF structure, read piece by piece from anywhere."""
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
    """The XMP packet of a TIFF structure, or None."""
    entry = next(read_pages(read_at), {}).get(_XMP)
    return None if entry is None else entry.content(MAX_XMP_BYTES)


def iptc_of_tiff(read_at: Reader) -> bytes:
    """The IPTC block of a TIFF structure; empty if it has none."""
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
    """Text without what cannot be printed and without needless spaces; None if nothing is left."""
    if text is None:
        return None
    cleaned = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return cleaned or None


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
