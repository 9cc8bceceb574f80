"""Reads the date of an IPTC block, which news agencies and older programs write in addition to EXIF or instead of it.

Sources: IPTC-NAA Information Interchange Model 4.2, data sets 2:55 and 2:60; Adobe's image resource 0x0404, which
contains the block. `flows.imaging.metadata` decides whether this date counts.
"""

import re
import struct
from typing import Final

from flows.imaging.headers.moments import moment_text

_IMAGE_RESOURCE: Final = 0x0404
_DATE, _TIME = (2, 55), (2, 60)
_MAX_PARTS: Final = 1000
_DAY: Final = re.compile(r"(\d{4})(\d\d)(\d\d)")
_CLOCK: Final = re.compile(r"(\d\d)(\d\d)(\d\d)([+-]\d{4})?")


def iptc_of_resources(resources: bytes) -> bytes:
    """Return the IPTC block in Adobe's image resources, which JPEG and some TIFF files contain; empty if missing."""
    at = 0
    for _ in range(_MAX_PARTS):
        if resources[at : at + 4] != b"8BIM" or len(resources) < at + 7:
            break
        identifier, name_length = struct.unpack_from(">HB", resources, at + 4)
        # A name, with its length byte, and the contents are padded to an even number of bytes.
        at += 6 + (name_length + 2) // 2 * 2
        if len(resources) < at + 4:
            break
        (length,) = struct.unpack_from(">I", resources, at)
        if identifier == _IMAGE_RESOURCE:
            return resources[at + 4 : at + 4 + length]
        at += 4 + (length + 1) // 2 * 2
    return b""


def iptc_created_at(block: bytes) -> tuple[str | None, bool]:
    """Return the date of the picture's creation, as ISO 8601 text or None, and whether the time of day is known."""
    values: dict[tuple[int, int], str] = {}
    at = 0
    for _ in range(_MAX_PARTS):
        if block[at : at + 1] != b"\x1c" or len(block) < at + 5:
            break
        record, number, length = struct.unpack_from(">BBH", block, at + 1)
        values.setdefault((record, number), block[at + 5 : at + 5 + length].decode("latin-1"))
        at += 5 + length
    day, clock = _DAY.fullmatch(values.get(_DATE, "")), _CLOCK.fullmatch(values.get(_TIME, ""))
    if day is None:
        return None, False
    time = "" if clock is None else f" {clock[1]}:{clock[2]}:{clock[3]}"
    moment = moment_text(f"{day[1]}:{day[2]}:{day[3]}{time}", offset=(clock and clock[4]) or "")
    return moment, clock is not None and moment is not None
