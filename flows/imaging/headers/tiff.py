"""Reads the structure of TIFF and BigTIFF, folders of tags, within bounds. Broken parts count as missing.

`exif` and `tiff_pixels` interpret the tags.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

#: Reads bytes: takes an offset and a maximum size in bytes.
Reader = Callable[[int, int], bytes]

# Types of bytes, text, undefined data, and the UTF-8 text of EXIF 3.0.
_TEXT_TYPES: Final = frozenset({1, 2, 7, 129})
# Types of integers and offsets of folders, with their `struct` formats. BigTIFF has the 64-bit types.
_NUMBER_FORMATS: Final = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
# 42 is TIFF and most RAW formats. The others are variants of Olympus and Panasonic.
_MAGIC: Final = frozenset({42, 0x4F52, 0x5352, 0x55})
_BIG_MAGIC: Final = 43
_MAX_ENTRIES: Final = 1000
_MAX_NUMBERS: Final = 64
_MAX_PAGES: Final = 100


def is_tiff(head: bytes) -> bool:
    """Return whether the first four bytes belong to a TIFF structure, or to a RAW file built like one."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    return order is not None and len(head) >= 4 and struct.unpack(order + "H", head[2:4])[0] in _MAGIC | {_BIG_MAGIC}


@dataclass(frozen=True, slots=True)
class _Form:
    """How a structure stores its folders, as formats of `struct`."""

    order: str
    count: str
    entry: str
    offset: str

    def number(self, form: str, data: bytes) -> int:
        size = struct.calcsize(self.order + form)
        return int(struct.unpack(self.order + form, data[:size])[0]) if len(data) >= size else 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a folder. Its value is read on request.

    Attributes:
        place: the offset of the value field, where a short value is stored.
    """

    _read_at: Reader
    _form: _Form
    _kind: int
    _count: int
    _inline: bytes
    place: int

    def numbers(self) -> tuple[int, ...]:
        """Return its integers; empty if it has none, or more than 64."""
        form = _NUMBER_FORMATS.get(self._kind)
        if form is None or not 1 <= self._count <= _MAX_NUMBERS:
            return ()
        packed = struct.Struct(f"{self._form.order}{self._count}{form}")
        data = self._data(packed.size)
        return packed.unpack(data) if len(data) == packed.size else ()

    def number(self) -> int | None:
        """Return its integer; None if it has none or several."""
        numbers = self.numbers()
        return numbers[0] if len(numbers) == 1 else None

    def content(self, max_bytes: int) -> bytes | None:
        """Return the first `max_bytes` bytes of a text or of undefined data; None for other types."""
        if self._kind not in _TEXT_TYPES or self._count < 1:
            return None
        return self._data(self._count)[:max_bytes] if self._count <= max_bytes else self._data(self._count, max_bytes)

    def block(self, max_bytes: int) -> bytes:
        """Return the bytes of a value of any type, because some programs store blocks as 32-bit numbers."""
        form = _NUMBER_FORMATS.get(self._kind)
        return self._data(min(self._count * (1 if form is None else struct.calcsize("<" + form)), max_bytes))

    def _data(self, size: int, max_bytes: int | None = None) -> bytes:
        if size <= len(self._inline):
            return self._inline[:size]
        return self._read_at(self._form.number(self._form.offset, self._inline), max_bytes or size)


Folder = dict[int, Entry]


def read_pages(read_at: Reader) -> Iterator[Folder]:
    """Yield the folders of a structure, one for each page. If a folder has a tag twice, the first entry counts."""
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
    """Return the folder at an offset, such as the EXIF folder of a page."""
    found = _form_of(read_at(0, 16))
    return {} if found is None else _read_folder(read_at, found[0], offset)[0]


def _form_of(head: bytes) -> tuple[_Form, int] | None:
    if len(head) < 8 or not is_tiff(head):
        return None
    order = "<" if head[:2] == b"II" else ">"
    form = _Form(order, count="H", entry="HHI4s", offset="I")
    if form.number("H", head[2:]) != _BIG_MAGIC:
        return form, form.number("I", head[4:])
    # The size of an offset in bytes. BigTIFF defines 8 only.
    if len(head) < 16 or form.number("H", head[4:]) != 8:
        return None
    return _Form(order, count="Q", entry="HHQ8s", offset="Q"), form.number("Q", head[8:])


def _read_folder(read_at: Reader, form: _Form, offset: int) -> tuple[Folder, int]:
    """Return a folder and the offset of the next one; 0 if it is the last."""
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
