"""Repeats calls while the database is unavailable, busy, full or read-only, so that no work is lost.

A call is repeated after an error of the class `DatabaseFault`. `storage.database.driver_errors` decides which errors of
a driver have this class.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from flows.process.retry_delay import backoff_seconds
from storage.errors import DatabaseFault

logger = logging.getLogger("photojobs.database")

#: How often a wait checks the condition that ends it.
LOOK_SECONDS = 0.1

_Result = TypeVar("_Result")


def retry_while_unavailable(
    call: Callable[[], _Result], *, give_up_seconds: float = math.inf, unless: Callable[[], bool] = lambda: False
) -> _Result:
    """Repeat a call while the database has a fault that may be temporary. It must be harmless to run the call twice.

    Args:
        call: a function that reads or writes in its own transaction.
        give_up_seconds: the time after which the error is raised; by default, the call is repeated forever.
        unless: a function. When it returns True, the error is raised without another repetition.

    Raises:
        DatabaseFault: the fault lasted too long, or `unless` returned True.
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
            logger.warning("the database cannot be used now (%s); this process tries again", error)
            _wait(backoff_seconds(failures, first_seconds=0.1, longest_seconds=5.0), unless)
            if unless():
                raise


def _wait(seconds: float, unless: Callable[[], bool]) -> None:
    """Wait in short pieces, because `unless` may read a flag that a signal handler sets without waking a thread."""
    wait_until = time.monotonic() + seconds
    while not unless() and (left := wait_until - time.monotonic()) > 0:
        threading.Event().wait(min(left, LOOK_SECONDS))
