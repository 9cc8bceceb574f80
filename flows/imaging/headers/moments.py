"""Converts the dates that EXIF, XMP and cameras write to ISO 8601 text.

`flows.imaging.metadata` decides which of several dates counts.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

#: The year of the oldest known photograph. An earlier date is an error of the camera's clock or of a program.
FIRST_PHOTOGRAPH: Final = 1826

_DATE: Final = re.compile(r"(\d{4})[:\-/.](\d{1,2})[:\-/.](\d{1,2})(?:[ T]+(.*))?", re.DOTALL)
# EXIF writes unknown parts as spaces. Some cameras write no seconds.
_TIME: Final = re.compile(r"(\d{1,2}| {1,2}):(\d{2}|  )(?::(\d{1,2}|  ))?(?:\.(\d+))?(.*)", re.DOTALL)
_OFFSET: Final = re.compile(r"([+-])(\d{2}):?(\d{2})")


def moment_text(date: str, *, fraction: str = "", offset: str = "") -> str | None:
    """Return a date of EXIF or XMP as ISO 8601 text; None if it is not a date, such as `0000:00:00 00:00:00`.

    If the day is known, missing or blank parts count as zero. Seconds above 60, which some programs write, also count
    as zero. Second 60 becomes 59, and hour 24 becomes hour 0 of the same day, because cameras write both.

    Args:
        date: the date, such as `2024:05:17 18:30:00`. Other separators, a fraction of the seconds and an offset at the
            end are also accepted.
        fraction: the digits after the decimal point of the seconds.
        offset: the offset from UTC, such as `+02:00` or `Z`.
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
    """Return the first plausible date of a photograph among results of `moment_text`.

    A date before the first photograph or in the future is returned only if no date is plausible. The function reads the
    iterable only up to the first plausible date.
    """
    first = None
    for moment in moments:
        if moment is not None and _is_believable(moment):
            return moment
        first = first or moment
    return first


def _is_believable(moment: str) -> bool:
    # A date within the next day is plausible, because the camera's local time may be 14 hours ahead of UTC.
    latest = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    return int(moment[:4]) >= FIRST_PHOTOGRAPH and moment[:19] <= latest


def _offset_text(offset: str) -> str:
    offset = offset.strip("\0 ")
    if offset == "Z":
        return "+00:00"
    found = _OFFSET.fullmatch(offset)
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        return ""
    return f"{found[1]}{int(found[2]):02}:{int(found[3]):02}"
