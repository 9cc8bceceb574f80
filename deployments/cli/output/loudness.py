"""Stores how much this process prints.

Warnings, errors and requested data, such as lists and JSON, are always printed. Progress, remarks and what the command
did are printed unless the process is quiet, logs and tracebacks only if it is verbose.
"""

from __future__ import annotations

_is_quiet = _is_verbose = False


def set_loudness(*, quiet: bool = False, verbose: bool = False) -> None:
    """Set how much the command prints from now on."""
    global _is_quiet, _is_verbose
    _is_quiet, _is_verbose = quiet, verbose


def is_verbose() -> bool:
    """Return True if logs and tracebacks are shown."""
    return _is_verbose


def is_quiet() -> bool:
    """Return True if only requested data, warnings and errors are printed."""
    return _is_quiet
