"""The one place for time: aware UTC datetimes in Python, ISO 8601 text with milliseconds and `Z` on SQLite."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

#: Gives the current moment as an aware datetime in UTC.
Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """The system's time, cut to the milliseconds that the tables keep."""
    return to_milliseconds(datetime.now(UTC))


def to_milliseconds(moment: datetime) -> datetime:
    """`moment` in UTC without the microseconds that no table could give back.

    Raises:
        ValueError: `moment` has no time zone.
    """
    moment = _in_utc(moment)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def format_timestamp(moment: datetime) -> str:
    """`moment` as SQLite stores it, for example `2025-10-01T12:00:00.000Z`."""
    return _in_utc(moment).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def parse_timestamp(text: str) -> datetime | None:
    """The moment that `text` names, or None where it names none.

    Other programs write the same columns, some without milliseconds, zone or `T`: what has no zone is UTC. A text
    that is no moment must not make its row unreadable, so it is None; `photojobs db check` reports it.
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is UTC:
        # Nearly every one is: it comes from the clock.
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; pass an aware datetime, for example datetime.now(UTC)")
    return moment.astimezone(UTC)
