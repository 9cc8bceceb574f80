"""Waiting for the end of a thread that works with the database, as its server may never answer."""

from __future__ import annotations

import threading

#: Such a thread has so long to notice that it is to end.
END_SECONDS = 1.0


def wait_for_end(thread: threading.Thread) -> bool:
    """Wait briefly for a daemon thread that was asked to end; False if it goes on, until its server answers."""
    thread.join(END_SECONDS)
    return not thread.is_alive()
