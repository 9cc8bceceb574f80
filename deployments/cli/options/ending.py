"""Raises an exception on SIGTERM in commands with temporary files, so that the files are removed.

Commands that run tasks do not need this: their tasks survive the process. Long-running commands handle it themselves.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def removing_temporary_files() -> Iterator[None]:
    """Raise an exception in the block on SIGTERM."""

    def end(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
