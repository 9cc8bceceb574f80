"""Stores how much this process prints besides results and errors."""

from __future__ import annotations

from enum import StrEnum


class Loudness(StrEnum):
    """What a command prints. QUIET: results and errors. NORMAL: also progress and remarks. VERBOSE: also logs."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


_loudness = Loudness.NORMAL


def set_loudness(loudness: Loudness) -> None:
    """Set how much the command prints from now on."""
    global _loudness
    _loudness = loudness


def is_verbose() -> bool:
    """Return True if logs and tracebacks are shown."""
    return _loudness is Loudness.VERBOSE


def is_quiet() -> bool:
    """Return True if only results and errors are printed."""
    return _loudness is Loudness.QUIET
