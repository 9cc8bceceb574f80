"""Formats values, words, numbers and durations for messages: on one line, and shortened if they are long.

`did_you_mean` chooses the similar word that a message suggests.
"""

import difflib
import json
import os
from collections.abc import Iterable, Mapping

#: The maximum number of characters of a user's value in a message; more would hide the sentence around the value.
MAX_SHOWN_CHARACTERS = 60


def printable(text: str) -> str:
    """Return `text` with line breaks, control characters and lone surrogates escaped.

    A hostile name must not be able to forge a second line in a log or stop a terminal from printing the message.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(value: object) -> str:
    """Return a user's value as text for a message: as JSON, on one line, shortened if it is long."""
    if isinstance(value, str):
        text = printable(json.dumps(value[: MAX_SHOWN_CHARACTERS * 2], ensure_ascii=False))
    elif isinstance(value, int) and abs(value) > 2**64:
        text = "a very large number"
    elif value is None or isinstance(value, bool | int | float):
        text = json.dumps(value)
    elif isinstance(value, dict):
        text = "{}" if not value else "a mapping"
    elif isinstance(value, list | tuple):
        text = "[]" if not value else "a list"
    else:
        text = f"a Python {type(value).__name__}"
    return shortened(text)


def shortened(text: str) -> str:
    """Return a user's text for a message, shortened if it is long."""
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean "…"?` for the most similar known word; empty if no word is similar."""
    # The time of a comparison is proportional to the product of both lengths, so only the beginning of a long word is
    # compared.
    by_lower = {candidate.lower(): candidate for candidate in sorted(known)}
    near = difflib.get_close_matches(word[:100].lower(), by_lower, n=1, cutoff=0.6)
    return f' Did you mean "{by_lower[near[0]]}"?' if near else ""


def listed(words: Iterable[str], *, last: str = "or") -> str:
    """Return `a, b or c`."""
    *front, end = words
    return f"{', '.join(front)} {last} {end}" if front else end


def os_error_in_words(error: OSError) -> str:
    """Return an error of the operating system as a message, with what to check."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return f"{reason}. Check the disk that the output is written to, and the servers that the settings name."
    paths = [path for path in (error.filename, error.filename2) if path is not None]
    shown_paths = " → ".join(os.fsdecode(path) if isinstance(path, str | bytes) else str(path) for path in paths)
    return f"{shown_paths}: {reason}. Check the path, its permissions and its disk."


def quantity(number: int, noun: str) -> str:
    """Return `1 job`, `2000 jobs`: a number with its noun, whose plural ends in s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def portion(part: int, total: int, noun: str) -> str:
    """Return `2 of 3 jobs`: a part of a total; if the total is 1, only the part, as in `1 job`."""
    return quantity(part, noun) if total == 1 else f"{part} of {quantity(total, noun)}"


def tally(counts: Mapping[str, int]) -> str:
    """Return counts by name, as in `photos found: 3, projects made: 1`, a form without singular and plural."""
    return ", ".join(f"{what}: {number}" for what, number in sorted(counts.items()))


def lasting(seconds: float) -> str:
    """Return a duration as text for people: `0.4 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.

    A negative duration is that of something that ended after its clock was set back; it counts as 0.
    """
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size_in_words(size_bytes: int) -> str:
    """Return a size as text for people: `0 B`, `3.4 MB`."""
    value, unit = float(size_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
