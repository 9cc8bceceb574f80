"""Dates of photographs: what EXIF, XMP and cameras write, as ISO 8601 text."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

#: The year of the oldest photograph that is known; an older date is a fault of the clock or of the writer.
FIRST_PHOTOGRAPH: Final = 1826

_DATE: Final = re.compile(r"(\d{4})[:\-/.](\d{1,2})[:\-/.](\d{1,2})(?:[ T]+(.*))?", re.DOTALL)
# Blank parts are spaces, as EXIF asks for; some cameras write no seconds at all.
_TIME: Final = re.compile(r"(\d{1,2}| {1,2}):(\d{2}|  )(?::(\d{1,2}|  ))?(?:\.(\d+))?(.*)", re.DOTALL)
_OFFSET: Final = re.compile(r"([+-])(\d{2}):?(\d{2})")


def moment_text(date: str, *, fraction: str = "", offset: str = "") -> str | None:
    """A date of EXIF or XMP as ISO 8601 text, or None if it is no date, such as `0000:00:00 00:00:00`.

    Parts that are missing or blank count as zero, as long as the day is known, and so do seconds above 60, which some
    programs write. Second 60 is 59 and hour 24 is 0 of the same day: cameras write both.

    Args:
        date: as in `2024:05:17 18:30:00`; other separators, a fraction and an offset at its end are understood too.
        fraction: the digits after the decimal point of the seconds.
        offset: from UTC, as in `+02:00` or `Z`.
    """
    found = _DATE.match(date.strip("\0 "))
    if found is None:
        return None
    time = _TIME.match((found[4] or "").rstrip("\0"))
    if time is None and (found[4] or "").strip("\0 :"):
        return None
    hour, minute, second = (int((time[part] or "").strip() or 0) if time else 0 for part in (1, 2, 3))
    hour, second = 0 if hour == 24 else hour, min(second, 59) if second <= 60 else 0
    try:
        moment = datetime(int(found[1]), int(found[2]), int(found[3]), hour, minute, second)
    except ValueError:
        return None
    digits = ((time and time[4]) or fraction).strip("\0 ")
    milliseconds = f".{digits[:3]:0<3}" if digits.isascii() and digits.isdigit() else ""
    written_offset = _offset_text(time[5]) if time else ""
    return moment.isoformat(timespec="seconds") + milliseconds + (written_offset or _offset_text(offset))


def first_believable(moments: Iterable[str | None]) -> str | None:
    """The first of some moments, as `moment_text` gives them, at which a photograph can have been taken.

    One before the first photograph or in the future is returned only if there is no better one. Later moments are
    not read when one is found.
    """
    first = None
    for moment in moments:
        if moment is not None and _is_believable(moment):
            return moment
        first = first or moment
    return first


def _is_believable(moment: str) -> bool:
    # A day: the camera's own time may be ahead of UTC by up to 14 hours.
    latest = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    return int(moment[:4]) >= FIRST_PHOTOGRAPH and moment[:19] <= latest


def _offset_text(offset: str) -> str:
    offset = offset.strip("\0 ")
    if offset == "Z":
        return "+00:00"
    found = _OFFSET.fullmatch(offset)
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        return ""
    return f"{found[1]}{found[2]}:{found[3]}"
