"""How long to wait before another attempt: exponential, with jitter, and never longer than a limit."""

from __future__ import annotations

import random

#: The wait is spread by this share in both directions, so that jobs that failed together do not return together.
JITTER = 0.25


def backoff_seconds(
    failures: int, *, first_seconds: float, longest_seconds: float, spread: float | None = None
) -> float:
    """Seconds to wait after the `failures`-th failure (from 1).

    Args:
        failures: how often it has failed.
        first_seconds: the wait after the first failure; it doubles with each further one.
        longest_seconds: the limit, before jitter.
        spread: between -1 and 1, in place of chance.
    """
    # 2 ** 64 seconds are past every limit; larger exponents would overflow a float.
    wait = min(first_seconds * 2.0 ** min(failures - 1, 64), longest_seconds)
    return wait * (1 + JITTER * (random.uniform(-1, 1) if spread is None else spread))  # noqa: S311 - no secret.
