"""Lets commands remove their temporary files on SIGTERM.

Commands that run tasks do not need this, because tasks survive the process. Long-running commands handle the signal
themselves.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def removing_temporary_files() -> Iterator[None]:
    """Raise SystemExit in the block on SIGTERM, so that context managers in it remove their files."""

    def end(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
