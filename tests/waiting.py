"""Waiting for what threads, processes and servers do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

#: A test that waits longer has failed.
LIMIT_SECONDS = 120.0


def wait_until(
    condition: Callable[[], Found],
    *,
    what: str | Callable[[], str],
    limit_seconds: float = LIMIT_SECONDS,
    pause_seconds: float = 0.01,
) -> Found:
    """Wait until a condition gives something true, and return that.

    Args:
        condition: is asked again and again.
        what: is waited for; the words of the failure, or what makes them.
        limit_seconds: after which it has failed.
        pause_seconds: between two looks; longer after a look that took long, which may have cost a server as much.

    Raises:
        AssertionError: it did not become true in time.
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
