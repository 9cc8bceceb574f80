"""Patience with a database that is away, busy, full or read-only for a while: a write is repeated, and no work lost."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from flows.process.retry_delay import backoff_seconds
from storage.errors import DatabaseFault

logger = logging.getLogger("photojobs.patience")

#: How often the condition is looked at that ends a wait.
LOOK_SECONDS = 0.1

_Result = TypeVar("_Result")


def insist(
    call: Callable[[], _Result], *, give_up_seconds: float = math.inf, unless: Callable[[], bool] = lambda: False
) -> _Result:
    """Repeat a call while the database has a fault that may pass; what it does must do no harm when it is done twice.

    Args:
        call: reads or writes, in a transaction of its own.
        give_up_seconds: after so long its error is raised; by default never.
        unless: when this says true, the error is raised at once.

    Raises:
        DatabaseFault: the fault lasted for longer.
    """
    give_up_at = time.monotonic() + give_up_seconds
    failures = 0
    while True:
        try:
            return call()
        except DatabaseFault as error:
            failures += 1
            if time.monotonic() > give_up_at or unless():
                raise
            logger.warning("trying again: %s", error)
            _wait(backoff_seconds(failures, first_seconds=0.1, longest_seconds=5.0), unless)
            if unless():
                raise


def _wait(seconds: float, unless: Callable[[], bool]) -> None:
    """Wait in short pieces: what ends the wait may be a flag that a signal handler sets, which wakes nothing."""
    wait_until = time.monotonic() + seconds
    while not unless() and (left := wait_until - time.monotonic()) > 0:
        threading.Event().wait(min(left, LOOK_SECONDS))
