"""Writes the progress of a job to its row and shows it in Prefect, both at most once a second.

`flows.orchestration.artifacts` decides which jobs have a progress bar in Prefect.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from flows.process.job_claim import JobClaim
from flows.process.runtime import Runtime
from storage.database.column_types import MAX_COUNT, check_integer
from storage.database.tables import jobs

#: If a handler reports no progress for this long after its job's start, Prefect shows the progress that the row has.
FIRST_PROGRESS_SECONDS = 2.5

#: Shortest time between two writes of the progress. The last progress of a job is always written.
PROGRESS_INTERVAL_SECONDS = 1.0


class JobProgress:
    """The progress of one claimed job. `on_progress` is called with `done` and `total` after each write."""

    def __init__(
        self, claim: JobClaim, runtime: Runtime, on_progress: Callable[[int, int | None], None] | None
    ) -> None:
        self._claim = claim
        self._database = runtime.database
        self._on_progress = on_progress
        self._latest: tuple[int, int | None] | None = None
        self._written_at = 0.0
        self._first_shown_at = time.monotonic() + FIRST_PROGRESS_SECONDS

    def show_if_late(self) -> None:
        """Show the progress of the row if the handler has reported none for `FIRST_PROGRESS_SECONDS`."""
        if self._on_progress is not None and time.monotonic() >= self._first_shown_at:
            self._first_shown_at = math.inf
            # The progress is not written here, because the caller may have an open transaction.
            self._on_progress(self._claim.job.progress_done or 0, self._claim.job.progress_total)

    def report(self, done: int, total: int | None) -> None:
        """Set the progress, and write it if the last write is at least `PROGRESS_INTERVAL_SECONDS` ago.

        Raises:
            InvalidValue: a number is negative, or is too large to be stored.
        """
        check_integer(done, name="done", minimum=0, maximum=MAX_COUNT)
        if total is not None:
            check_integer(total, name="total", minimum=0, maximum=MAX_COUNT)
        self._latest = (done, total)
        if time.monotonic() - self._written_at >= PROGRESS_INTERVAL_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the latest progress, if the handler has reported any."""
        if self._latest is None:
            return
        done, total = self._latest
        values: dict[str, Any] = {"progress_done": done, "updated_at": self._database.clock()}
        if total is not None:
            values["progress_total"] = total
        job, token = self._claim.job, self._claim.token
        claimed = (jobs.c.id == job.id, jobs.c.claim_token == token, jobs.c.status == "running")

        def write() -> int:
            with self._database.begin() as connection:
                return connection.execute(jobs.update().where(*claimed).values(values)).rowcount

        if self._claim.retry_while_unavailable(write) == 0:
            self._claim.lost.set()
        self._written_at = time.monotonic()
        self._first_shown_at = math.inf
        if self._on_progress is not None:
            self._on_progress(done, total)
