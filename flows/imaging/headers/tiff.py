"""Reads the structure of TIFF and BigTIFF files, up to limits of size and number.

Such a file consists of TIFF folders (image file directories, IFD). A TIFF folder is a list of tags, for example for one
page. Broken parts count as missing. `exif` and `tiff_pixels` interpret the tags.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

#: A function that reads bytes of a file. Its arguments are an offset and a maximum size in bytes.
Reader = Callable[[int, int], bytes]

# The type numbers of bytes, text, undefined data, and the UTF-8 text of EXIF 3.0.
_TEXT_TYPES: Final = frozenset({1, 2, 7, 129})
# The type numbers of integers and offsets of folders, with their `struct` formats. Only BigTIFF has the 64-bit types.
_SHORT: Final = 3
_NUMBER_FORMATS: Final = {_SHORT: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
# The accepted version numbers in a TIFF header: 42 in TIFF and most RAW formats, the others in RAW files of Olympus and
# Panasonic.
_MAGIC: Final = frozenset({42, 0x4F52, 0x5352, 0x55})
_BIG_MAGIC: Final = 43
_MAX_ENTRIES: Final = 1000
_MAX_NUMBERS: Final = 64
_MAX_PAGES: Final = 100


def is_tiff(head: bytes) -> bool:
    """Return whether a file with these first four bytes has a TIFF structure, as TIFF files and many RAW files have."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    return order is not None and len(head) >= 4 and struct.unpack(order + "H", head[2:4])[0] in _MAGIC | {_BIG_MAGIC}


@dataclass(frozen=True, slots=True)
class _Form:
    """The byte order and the `struct` formats with which a TIFF structure stores its folders."""

    order: str
    count: str
    entry: str
    offset: str

    def number(self, form: str, data: bytes) -> int:
        size = struct.calcsize(self.order + form)
        return int(struct.unpack(self.order + form, data[:size])[0]) if len(data) >= size else 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a TIFF folder (IFD). The value is read only when it is needed.

    Attributes:
        place: the offset of the value field. The field contains the value if it fits there, and otherwise the offset
            of the value.
    """

    _read_at: Reader
    _form: _Form
    _kind: int
    _count: int
    _inline: bytes
    place: int

    @property
    def is_short(self) -> bool:
        """Whether the value is one 16-bit integer, so that the value field contains it."""
        return self._kind == _SHORT and self._count == 1

    def numbers(self) -> tuple[int, ...]:
        """Return the integers of the value; empty if it has no integers or more than 64."""
        form = _NUMBER_FORMATS.get(self._kind)
        if form is None or not 1 <= self._count <= _MAX_NUMBERS:
            return ()
        packed = struct.Struct(f"{self._form.order}{self._count}{form}")
        data = self._data(packed.size)
        return packed.unpack(data) if len(data) == packed.size else ()

    def number(self) -> int | None:
        """Return the integer of the value; None if it has no integer or several."""
        numbers = self.numbers()
        return numbers[0] if len(numbers) == 1 else None

    def content(self, max_bytes: int) -> bytes | None:
        """Return the first `max_bytes` bytes of text, bytes or undefined data; None for other types or no value."""
        if self._kind not in _TEXT_TYPES or self._count < 1:
            return None
        return self._data(self._count)[:max_bytes] if self._count <= max_bytes else self._data(self._count, max_bytes)

    def block(self, max_bytes: int) -> bytes:
        """Return at most `max_bytes` bytes of a value of any type.

        Some programs store blocks as 32-bit numbers, so the type does not matter.
        """
        form = _NUMBER_FORMATS.get(self._kind)
        return self._data(min(self._count * (1 if form is None else struct.calcsize("<" + form)), max_bytes))

    def _data(self, size: int, max_bytes: int | None = None) -> bytes:
        if size <= len(self._inline):
            return self._inline[:size]
        return self._read_at(self._form.number(self._form.offset, self._inline), max_bytes or size)


Folder = dict[int, Entry]


def read_pages(read_at: Reader) -> Iterator[Folder]:
    """Yield the TIFF folders of a file, one for each page. If a folder has a tag twice, the first one counts."""
    found = _form_of(read_at(0, 16))
    if found is None:
        return
    form, offset = found
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        folder, offset = _read_folder(read_at, form, offset)
        yield folder


def read_folder(read_at: Reader, offset: int) -> Folder:
    """Return the TIFF folder at an offset, such as the folder with the EXIF tags of a page."""
    found = _form_of(read_at(0, 16))
    return {} if found is None else _read_folder(read_at, found[0], offset)[0]


def _form_of(head: bytes) -> tuple[_Form, int] | None:
    if len(head) < 8 or not is_tiff(head):
        return None
    order = "<" if head[:2] == b"II" else ">"
    form = _Form(order, count="H", entry="HHI4s", offset="I")
    if form.number("H", head[2:]) != _BIG_MAGIC:
        return form, form.number("I", head[4:])
    # The header has the size of an offset in bytes. BigTIFF defines only the size 8, so a file with another size is not
    # read.
    if len(head) < 16 or form.number("H", head[4:]) != 8:
        return None
    return _Form(order, count="Q", entry="HHQ8s", offset="Q"), form.number("Q", head[8:])


def _read_folder(read_at: Reader, form: _Form, offset: int) -> tuple[Folder, int]:
    """Return a TIFF folder and the offset of the next one; the offset is 0 after the last folder."""
    count_bytes = struct.calcsize(form.order + form.count)
    head = read_at(offset, count_bytes)
    if len(head) < count_bytes:
        return {}, 0
    count = min(form.number(form.count, head), _MAX_ENTRIES)
    entry = struct.Struct(form.order + form.entry)
    start = offset + count_bytes
    table = read_at(start, entry.size * count)
    folder: Folder = {}
    for number in range(len(table) // entry.size):
        tag, kind, values, inline = entry.unpack_from(table, number * entry.size)
        place = start + (number + 1) * entry.size - len(inline)
        folder.setdefault(tag, Entry(read_at, form, kind, values, inline, place))
    end = read_at(start + entry.size * count, struct.calcsize(form.order + form.offset))
    return folder, form.number(form.offset, end)
