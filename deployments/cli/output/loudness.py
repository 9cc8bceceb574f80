"""How much the command prints besides results and errors; each command line sets it for the whole process."""

from __future__ import annotations

from enum import StrEnum


class Loudness(StrEnum):
    """QUIET: only results and errors. NORMAL: also progress and remarks. VERBOSE: also logs."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


_loudness = Loudness.NORMAL


def set_loudness(loudness: Loudness) -> None:
    """Set how much the command prints from now on."""
    global _loudness
    _loudness = loudness


def is_verbose() -> bool:
    """Whether logs and the origin of an error are shown."""
    return _loudness is Loudness.VERBOSE


def is_quiet() -> bool:
    """Whether only results and errors are printed."""
    return _loudness is Loudness.QUIET
