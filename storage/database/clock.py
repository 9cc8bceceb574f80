"""The form of every time in photojobs: aware UTC datetimes in Python, in milliseconds.

SQLite stores them as ISO 8601 text with milliseconds and `Z`. Other programs may write times with microseconds to
PostgreSQL. Such a time is read and compared as it is, so that it is equal to the stored time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.errors import InvalidValue
from task_definitions.wording import shown

#: Returns the current time as an aware datetime in UTC.
Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Return the system's time, cut to milliseconds, because SQLite stores no microseconds."""
    return to_milliseconds(datetime.now(UTC))


def age(seconds: float, *, name: str) -> timedelta:
    """Return an age that a caller gives in seconds.

    Raises:
        InvalidValue: `seconds` is not a number from 0 to `MAX_AGE_SECONDS`; the error calls it `name`.
    """
    # Few callers give an age, and the import of the settings takes a tenth of a second.
    from storage.settings import MAX_AGE_SECONDS

    if not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_AGE_SECONDS:
        raise InvalidValue(name, f"must be between 0 and {MAX_AGE_SECONDS}, not {shown(seconds)}")
    return timedelta(seconds=seconds)


def to_milliseconds(moment: datetime) -> datetime:
    """Return `moment` in UTC, cut to milliseconds, because SQLite stores no microseconds.

    Raises:
        ValueError: `moment` has no time zone.
        OverflowError: `moment` is before year 1 or after year 9999 in UTC.
    """
    moment = in_utc(moment)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def format_timestamp(moment: datetime) -> str:
    """Return `moment` as SQLite stores it, for example `2025-10-01T12:00:00.000Z`."""
    return in_utc(moment).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def parse_timestamp(stored: Any) -> datetime | None:
    """Return the time in a stored text, or None if the value is not a text of a valid time.

    Other programs write to the same columns, sometimes without milliseconds, time zone or `T`. A time without a zone is
    read as UTC. For a value that is not valid, the result is None, so that the row stays readable; `photojobs db check`
    reports the value. On PostgreSQL, such values are `infinity` and times before year 1 or after year 9999.
    """
    try:
        moment = datetime.fromisoformat(stored)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def in_utc(moment: datetime) -> datetime:
    """Return `moment` in UTC.

    Raises:
        ValueError: `moment` has no time zone.
        OverflowError: `moment` is before year 1 or after year 9999 in UTC.
    """
    if moment.tzinfo is UTC:
        # This is the usual case, because the clock returns times with this time zone. A conversion would take longer.
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; pass an aware datetime, for example datetime.now(UTC)")
    return moment.astimezone(UTC)
