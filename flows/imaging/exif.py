"""EXIF tags out of a TIFF structure: the EXIF block of a JPEG, a TIFF file, or a RAW file built like one.

Reads the few tags that photos are sorted by, trusts nothing, and never raises for what is broken.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

#: Reads up to so many bytes from a place: (offset, size in bytes).
Reader = Callable[[int, int], bytes]

_TEXT_TYPES: Final = frozenset({1, 2, 7})
_NUMBER_FORMATS: Final = {3: "H", 4: "I"}
# 42 is TIFF and most RAW; the others are the forms of Olympus and Panasonic.
_MAGIC: Final = frozenset({42, 0x4F52, 0x5352, 0x55})
_MAX_ENTRIES: Final = 1000
_MAX_TEXT_BYTES: Final = 1000

_MAKE, _MODEL, _ORIENTATION, _EXIF_FOLDER = 0x010F, 0x0110, 0x0112, 0x8769


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
    {_MAKE, _MODEL, _ORIENTATION, _EXIF_FOLDER}
    | {tag for moment in _MOMENTS for tag in (moment.date, moment.fraction, moment.offset)}
)

_DATE: Final = re.compile(
    r"(\d{4})[:\-/.](\d{1,2})[:\-/.](\d{1,2})[ T]+(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d+))?(.*)", re.DOTALL
)
_OFFSET: Final = re.compile(r"([+-])(\d{2}):?(\d{2})")


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


@dataclass(slots=True)
class _Values:
    texts: dict[int, str] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)


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
    return order is not None and len(head) >= 4 and struct.unpack(order + "H", head[2:4])[0] in _MAGIC


def read_tiff(read_at: Reader) -> ExifTags:
    """The tags of a TIFF structure, read piece by piece from anywhere."""
    head = read_at(0, 8)
    if len(head) < 8 or not is_tiff(head):
        return ExifTags()
    order = "<" if head[:2] == b"II" else ">"
    values = _Values()
    _read_folder(read_at, order, struct.unpack(order + "I", head[4:8])[0], values)
    exif_folder = values.numbers.get(_EXIF_FOLDER)
    if exif_folder:
        _read_folder(read_at, order, exif_folder, values)
    orientation = values.numbers.get(_ORIENTATION)
    return ExifTags(
        taken_at=_taken_at(values.texts),
        orientation=orientation if orientation is not None and 1 <= orientation <= 8 else None,
        make=_plain(values.texts.get(_MAKE)),
        model=_plain(values.texts.get(_MODEL)),
    )


def moment_text(date: str, *, fraction: str = "", offset: str = "") -> str | None:
    """An EXIF date as ISO 8601 text, or None where it is no date, such as `0000:00:00 00:00:00`.

    Args:
        date: as in `2024:05:17 18:30:00`; other separators, a fraction and an offset at its end are understood too.
        fraction: the digits after the decimal point of the seconds.
        offset: from UTC, as in `+02:00` or `Z`.
    """
    found = _DATE.match(date.strip("\0 "))
    if found is None:
        return None
    try:
        moment = datetime.fromisoformat(_iso(found))
    except ValueError:
        return None
    digits = (found[7] or fraction).strip("\0 ")
    milliseconds = f".{digits[:3]:0<3}" if digits.isascii() and digits.isdigit() else ""
    return moment.isoformat(timespec="seconds") + milliseconds + (_offset_text(found[8]) or _offset_text(offset))


def _iso(found: re.Match[str]) -> str:
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"


def _taken_at(texts: dict[int, str]) -> str | None:
    for moment in _MOMENTS:
        text = moment_text(
            texts.get(moment.date, ""),
            fraction=texts.get(moment.fraction, ""),
            offset=texts.get(moment.offset, ""),
        )
        if text is not None:
            return text
    return None


def _offset_text(offset: str) -> str:
    offset = offset.strip("\0 ")
    if offset == "Z":
        return "+00:00"
    found = _OFFSET.fullmatch(offset)
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        return ""
    return f"{found[1]}{found[2]}:{found[3]}"


def _plain(text: str | None) -> str | None:
    if text is None:
        return None
    cleaned = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return cleaned or None


def _read_folder(read_at: Reader, order: str, offset: int, values: _Values) -> None:
    head = read_at(offset, 2)
    if len(head) < 2:
        return
    count = min(struct.unpack(order + "H", head)[0], _MAX_ENTRIES)
    table = read_at(offset + 2, 12 * count)
    for at in range(0, len(table) - 11, 12):
        tag, kind, number, _ = struct.unpack(order + "HHII", table[at : at + 12])
        if tag in _WANTED:
            _read_value(read_at, order, tag, kind, number, table[at + 8 : at + 12], values)


def _read_value(read_at: Reader, order: str, tag: int, kind: int, number: int, inline: bytes, values: _Values) -> None:
    if kind in _NUMBER_FORMATS and number >= 1:
        form = order + _NUMBER_FORMATS[kind]
        # Several numbers do not fit inline, and none of the wanted tags has several.
        if number * struct.calcsize(form) <= 4:
            values.numbers.setdefault(tag, struct.unpack(form, inline[: struct.calcsize(form)])[0])
    elif kind in _TEXT_TYPES and number >= 1:
        size_bytes = min(number, _MAX_TEXT_BYTES)
        data = inline[:size_bytes] if number <= 4 else read_at(struct.unpack(order + "I", inline)[0], size_bytes)
        values.texts.setdefault(tag, _decode(data.split(b"\0", 1)[0]))


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
