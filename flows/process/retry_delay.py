"""The delay before another attempt: it grows exponentially up to a limit, with jitter.

`flows.execution.job_run` decides whether a failed job runs again, and passes the delays of its step.
`flows.errors.is_repeatable` decides after which errors no job runs again. The defaults are the settings
`retry_delay_seconds` and `max_retry_delay_seconds`.
"""

from __future__ import annotations

import random

#: The delay varies by this share in both directions, so that jobs that failed together do not return together.
JITTER = 0.25


def backoff_seconds(failures: int, *, first_seconds: float, longest_seconds: float) -> float:
    """Return the seconds to wait after a failure.

    Args:
        failures: the number of failures so far, at least 1.
        first_seconds: the delay after the first failure. The delay doubles with each further failure.
        longest_seconds: the limit, before jitter.
    """
    # 2 ** 64 exceeds every limit; much larger exponents would overflow a float.
    wait = min(first_seconds * 2.0 ** min(failures - 1, 64), longest_seconds)
    return wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret.
