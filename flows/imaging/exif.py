"""EXIF tags out of a TIFF structure: the EXIF block of a JPEG, a TIFF or BigTIFF file, or a RAW file built like one.

Reads the few tags that photos are sorted by, trusts nothing, and never raises for what is broken.
`moments` reads the dates, `containers` finds the structures in files of other forms.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from flows.imaging.moments import first_believable, moment_text

#: Reads up to so many bytes from a place: (offset, size in bytes).
Reader = Callable[[int, int], bytes]

# Bytes, text, undefined, and the UTF-8 text of EXIF 3.0.
_TEXT_TYPES: Final = frozenset({1, 2, 7, 129})
# Whole numbers and pointers to folders; the wide ones are BigTIFF's.
_NUMBER_FORMATS: Final = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
# 42 is TIFF and most RAW; the others are the forms of Olympus and Panasonic.
_MAGIC: Final = frozenset({42, 0x4F52, 0x5352, 0x55})
_BIG_MAGIC: Final = 43
_MAX_ENTRIES: Final = 1000
_MAX_TEXT_BYTES: Final = 1000
#: An XMP packet that is larger is not read.
MAX_XMP_BYTES: Final = 4 << 20

_MAKE, _MODEL, _ORIENTATION, _EXIF_FOLDER, _XMP = 0x010F, 0x0110, 0x0112, 0x8769, 0x02BC


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a TIFF structure stores its folders: formats of `struct`, without the byte order, and sizes in bytes."""

    order: str
    count: str = "H"
    entry: str = "HHI4s"
    offset: str = "I"

    def number(self, form: str, data: bytes) -> int:
        size = struct.calcsize(self.order + form)
        return int(struct.unpack(self.order + form, data[:size])[0]) if len(data) >= size else 0


@dataclass(frozen=True, slots=True)
class _Moment:
    date: int
    fraction: int
    offset: int


# In the order in which they are believed: when the picture was taken, digitised, changed.
_MOMENTS: Final = (
    _Moment(date=0x9003, fraction=0x9291, offset=0x9011),
    _Moment(date=0x9004, fraction=0x9292, offset=0x9012),
    _Moment(date=0x0132, fraction=0x9290, offset=0x9010),
)
_WANTED: Final = frozenset(
    {_MAKE, _MODEL, _ORIENTATION, _EXIF_FOLDER, _XMP}
    | {tag for moment in _MOMENTS for tag in (moment.date, moment.fraction, moment.offset)}
)


@dataclass(frozen=True, slots=True)
class ExifTags:
    """What was found; None for what is missing or makes no sense.

    Attributes:
        taken_at: as ISO 8601 text, `YYYY-MM-DDTHH:MM:SS[.fff][+hh:mm]`; without an offset it is the camera's own time.
        orientation: 1 to 8.
        make: of the camera.
        model: of the camera.
    """

    taken_at: str | None = None
    orientation: int | None = None
    make: str | None = None
    model: str | None = None

    def completed_by(self, others: "ExifTags") -> "ExifTags":
        """These tags, and those of `others` in place of the missing ones."""
        return ExifTags(
            taken_at=self.taken_at or others.taken_at,
            orientation=self.orientation or others.orientation,
            make=self.make or others.make,
            model=self.model or others.model,
        )


@dataclass(slots=True)
class _Values:
    texts: dict[int, str] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)
    xmp: bytes | None = None


def read_exif_block(block: bytes) -> ExifTags:
    """The tags of an EXIF block as image files carry it, with or without its `Exif` mark before the TIFF structure."""
    start = next((at for at in (0, 4, 6, 10) if is_tiff(block[at : at + 4])), None)
    if start is None:
        return ExifTags()
    structure = block[start:]
    return read_tiff(lambda offset, size_bytes: structure[offset : offset + size_bytes])


def is_tiff(head: bytes) -> bool:
    """Whether the first four bytes are those of a TIFF structure, or of a RAW file built like one."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    return order is not None and len(head) >= 4 and struct.unpack(order + "H", head[2:4])[0] in _MAGIC | {_BIG_MAGIC}


def read_tiff(read_at: Reader) -> ExifTags:
    """The tags of a TIFF structure, read piece by piece from anywhere."""
    values = _read_structure(read_at)
    orientation = values.numbers.get(_ORIENTATION)
    return ExifTags(
        taken_at=_taken_at(values.texts),
        orientation=orientation if orientation is not None and 1 <= orientation <= 8 else None,
        make=plain_text(values.texts.get(_MAKE)),
        model=plain_text(values.texts.get(_MODEL)),
    )


def xmp_of_tiff(read_at: Reader) -> bytes | None:
    """The XMP packet of a TIFF structure, or None."""
    return _read_structure(read_at).xmp


def _read_structure(read_at: Reader) -> _Values:
    values = _Values()
    head = read_at(0, 16)
    if len(head) < 8 or not is_tiff(head):
        return values
    order = "<" if head[:2] == b"II" else ">"
    layout, start = _Layout(order), 4
    if layout.number("H", head[2:]) == _BIG_MAGIC:
        if len(head) < 16 or layout.number("H", head[4:]) != 8:
            return values
        layout, start = _Layout(order, count="Q", entry="HHQ8s", offset="Q"), 8
    _read_folder(read_at, layout, layout.number(layout.offset, head[start:]), values)
    exif_folder = values.numbers.get(_EXIF_FOLDER)
    if exif_folder:
        _read_folder(read_at, layout, exif_folder, values)
    return values


def _taken_at(texts: dict[int, str]) -> str | None:
    return first_believable(
        moment_text(
            texts.get(moment.date, ""),
            fraction=texts.get(moment.fraction, ""),
            offset=texts.get(moment.offset, ""),
        )
        for moment in _MOMENTS
    )


def plain_text(text: str | None) -> str | None:
    """Text without what cannot be printed and without needless spaces; None if nothing is left."""
    if text is None:
        return None
    cleaned = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return cleaned or None


def _read_folder(read_at: Reader, layout: _Layout, offset: int, values: _Values) -> None:
    count_bytes = struct.calcsize(layout.order + layout.count)
    head = read_at(offset, count_bytes)
    if len(head) < count_bytes:
        return
    count = min(layout.number(layout.count, head), _MAX_ENTRIES)
    entry = struct.Struct(layout.order + layout.entry)
    table = read_at(offset + count_bytes, entry.size * count)
    for tag, kind, number, inline in entry.iter_unpack(table[: len(table) // entry.size * entry.size]):
        if tag in _WANTED:
            _read_value(read_at, layout, tag, kind, number, inline, values)


def _read_value(
    read_at: Reader, layout: _Layout, tag: int, kind: int, number: int, inline: bytes, values: _Values
) -> None:
    if kind in _NUMBER_FORMATS and number >= 1:
        form = _NUMBER_FORMATS[kind]
        # Several numbers do not fit inline, and none of the wanted tags has several.
        if number * struct.calcsize(layout.order + form) <= len(inline):
            values.numbers.setdefault(tag, layout.number(form, inline))
    elif kind in _TEXT_TYPES and number >= 1:
        size_bytes = min(number, MAX_XMP_BYTES if tag == _XMP else _MAX_TEXT_BYTES)
        is_inline = number <= len(inline)
        data = inline[:size_bytes] if is_inline else read_at(layout.number(layout.offset, inline), size_bytes)
        if tag == _XMP:
            values.xmp = values.xmp or data
        else:
            values.texts.setdefault(tag, _decode(data.split(b"\0", 1)[0]))


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
