"""How commands that make temporary files end on SIGTERM: as by an exception, so that the files are removed.

Not for commands that run tasks, which survive the end of their process, and not for those that stay.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def removing_temporary_files() -> Iterator[None]:
    """Have SIGTERM end the command as an exception does, while the block runs."""

    def end(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
