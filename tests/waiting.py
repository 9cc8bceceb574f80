"""Waits for conditions that threads, processes and servers cause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

#: A test fails if it waits longer than this.
LIMIT_SECONDS = 120.0


def wait_until(
    condition: Callable[[], Found],
    *,
    what: str | Callable[[], str],
    limit_seconds: float = LIMIT_SECONDS,
    pause_seconds: float = 0.01,
) -> Found:
    """Wait until a condition returns something true, and return that value.

    Args:
        condition: called again and again.
        what: the awaited event as a text for the error message, or a function that returns this text.
        limit_seconds: the longest wait.
        pause_seconds: the pause between two calls; it is longer after a slow call, to spare a busy server.

    Raises:
        AssertionError: the condition did not become true in time.
    """
    give_up_at = time.monotonic() + limit_seconds
    while True:
        began_at = time.monotonic()
        if found := condition():
            return found
        ended_at = time.monotonic()
        if ended_at > give_up_at:
            raise AssertionError(f"not within {limit_seconds:g} s: {what() if callable(what) else what}")
        threading.Event().wait(max(pause_seconds, 3 * (ended_at - began_at)))
