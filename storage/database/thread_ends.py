"""Waits for a limited time for the end of a thread that uses the database, because the server may never answer."""

from __future__ import annotations

import threading

#: The number of seconds that a thread has to end.
END_SECONDS = 1.0


def wait_for_end(thread: threading.Thread) -> bool:
    """Wait up to `END_SECONDS` for a daemon thread that was asked to end; return False if it still runs."""
    thread.join(END_SECONDS)
    return not thread.is_alive()
