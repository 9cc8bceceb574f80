"""How much the command says besides results and errors; for the whole process, set once by each command line."""

from __future__ import annotations

from enum import StrEnum


class Loudness(StrEnum):
    """QUIET: results that were asked for, and errors. NORMAL: progress and remarks too. VERBOSE: logs as well."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


_loudness = Loudness.NORMAL


def set_loudness(loudness: Loudness) -> None:
    """Set how much the command says from now on."""
    global _loudness
    _loudness = loudness


def is_verbose() -> bool:
    """Whether logs are shown, and where an error came from."""
    return _loudness is Loudness.VERBOSE


def is_quiet() -> bool:
    """Whether nothing is said but results that were asked for, and errors."""
    return _loudness is Loudness.QUIET
