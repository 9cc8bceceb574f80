"""Reads the size of a picture without a decoder, from the header of a TIFF, JPEG XL or JPEG 2000 file."""

import struct
from dataclasses import dataclass
from typing import Final

from flows.imaging.headers.containers import boxes
from flows.imaging.headers.tiff import Reader
from flows.imaging.headers.tiff_pixels import read_pixels

#: The number of bytes that are read at the start of a JPEG XL codestream. The size and the orientation never take more
#: bytes.
_JXL_HEADER_BYTES: Final = 16
# The ratio of width to height for each code in JPEG XL. Code 0 means that the header also contains the width.
_JXL_RATIOS: Final = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_JXL_EDGE_BITS: Final = (9, 13, 18, 30)


@dataclass(frozen=True, slots=True)
class StoredSize:
    """The stored width and height of a picture in pixels. A value that the header does not have is None.

    Attributes:
        orientation: the orientation in the header, as EXIF orientation 1 to 8. It overrides the orientation in EXIF.
    """

    width: int | None = None
    height: int | None = None
    orientation: int | None = None


def read_stored_size(read_at: Reader, *, size_bytes: int) -> StoredSize:
    """Return the size in the header of a file, whose format is found from its first bytes."""
    head = read_at(0, 24)
    if head.startswith(b"\xff\x0a"):
        return _of_jxl(read_at(0, _JXL_HEADER_BYTES))
    if head[4:8] == b"JXL ":
        return _of_jxl(_jxl_codestream(read_at, size_bytes))
    if head.startswith(b"\xff\x4f\xff\x51"):
        return _of_jpeg2000_codestream(head)
    if head[4:8] == b"jP  ":
        return _of_jpeg2000(read_at, size_bytes)
    pixels = read_pixels(read_at)
    return StoredSize() if pixels is None else StoredSize(pixels.width, pixels.height)


def _jxl_codestream(read_at: Reader, size_bytes: int) -> bytes:
    """Return the start of the codestream.

    The codestream is in one box `jxlc`, or is split into boxes `jxlp`. Each box `jxlp` begins with a 4-byte number.
    """
    begun = b""
    for kind, start, end in boxes(read_at, 0, size_bytes):
        if kind in (b"jxlc", b"jxlp"):
            start += 4 if kind == b"jxlp" else 0
            begun += read_at(start, min(end - start, _JXL_HEADER_BYTES - len(begun)))
        if len(begun) == _JXL_HEADER_BYTES:
            break
    return begun


def _of_jxl(codestream: bytes) -> StoredSize:
    # The header is a sequence of numbers with different lengths in bits, each stored with its lowest bit first.
    bits, read = int.from_bytes(codestream[2:], "little"), 0

    def number(count: int) -> int:
        nonlocal read
        read += count
        return bits >> (read - count) & ((1 << count) - 1)

    is_small = number(1) == 1

    def edge() -> int:
        return 8 * (number(5) + 1) if is_small else number(_JXL_EDGE_BITS[number(2)]) + 1

    height = edge()
    ratio = _JXL_RATIOS.get(number(3))
    width = edge() if ratio is None else height * ratio[0] // ratio[1]
    has_all_defaults = number(1) == 1
    has_orientation = not has_all_defaults and number(1) == 1
    orientation = number(3) + 1 if has_orientation else 1
    return StoredSize(width, height, orientation) if read <= 8 * len(codestream[2:]) else StoredSize()


def _of_jpeg2000(read_at: Reader, size_bytes: int) -> StoredSize:
    for kind, start, end in boxes(read_at, 0, size_bytes):
        if kind == b"jp2h":
            for inner, at, _ in boxes(read_at, start, end):
                edges = read_at(at, 8)
                if inner == b"ihdr" and len(edges) == 8:
                    height, width = struct.unpack(">II", edges)
                    return StoredSize(width, height)
    return StoredSize()


def _of_jpeg2000_codestream(head: bytes) -> StoredSize:
    if len(head) < 24:
        return StoredSize()
    right, bottom, left, top = struct.unpack_from(">4I", head, 8)
    return StoredSize(right - left, bottom - top) if right > left and bottom > top else StoredSize()
