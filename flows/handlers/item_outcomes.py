"""Collects the outcomes of a job's items, writes them in batches with the progress, and emits events about them."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from flows.handlers.job_progress import PROGRESS_INTERVAL_SECONDS
from flows.process.runtime import Runtime
from storage.lifecycle.job_items import ItemOutcome, record_outcomes

if TYPE_CHECKING:
    from flows.handlers.step_context import StepContext

#: Shortest time between two events about items. If each small batch had an event, the other events would be hard to
#: find.
EVENT_INTERVAL_SECONDS = 1.0

#: A job that has run for longer than this stores its report whenever it writes outcomes of items.
KEPT_REPORT_SECONDS = 1.0

#: Outcomes of items are written after this many items, or after `PROGRESS_INTERVAL_SECONDS`.
OUTCOME_BATCH_SIZE = 200


class ItemOutcomes:
    """The outcomes of the items of one job.

    If the job runs longer than `KEPT_REPORT_SECONDS`, `store_report` stores the job's report together with the
    outcomes.
    """

    def __init__(self, ctx: "StepContext", runtime: Runtime, store_report: Callable[[Connection], None]) -> None:
        self._ctx = ctx
        self._runtime = runtime
        self._store_report = store_report
        self._unwritten: list[ItemOutcome] = []
        self._unreported: list[ItemOutcome] = []
        self._began_at = self._written_at = self._event_emitted_at = time.monotonic()

    def add(self, *outcomes: ItemOutcome) -> None:
        """Add outcomes to the next batch."""
        self._unwritten += outcomes

    def write_if_due(self) -> None:
        """Write the outcomes if a batch is full or the last write was at least `PROGRESS_INTERVAL_SECONDS` ago."""
        if (
            len(self._unwritten) >= OUTCOME_BATCH_SIZE
            or time.monotonic() - self._written_at >= PROGRESS_INTERVAL_SECONDS
        ):
            self.write()

    def write(self) -> None:
        """Write the outcomes that were added since the last write, then the progress; do nothing without outcomes."""
        self._written_at = time.monotonic()
        if not self._unwritten:
            return
        # The write is repeated while the database is unreachable, so that no finished work is lost.
        done = self._ctx.claim.retry_while_unavailable(self._record)
        self._unreported += self._unwritten
        self._unwritten = []
        if time.monotonic() - self._event_emitted_at >= EVENT_INTERVAL_SECONDS:
            self.emit_event()
        self._ctx.progress(done, self._ctx.job.progress_total)

    def emit_event(self) -> None:
        """Emit one event for the items whose outcomes were written since the last event about items."""
        self._event_emitted_at = time.monotonic()
        if self._unreported:
            self._runtime.events.items_recorded(self._ctx.job, self._unreported)
            self._unreported = []

    def _record(self) -> int:
        with self._ctx.transaction() as connection:
            record_outcomes(connection, self._unwritten, now=self._ctx.now())
            if time.monotonic() - self._began_at >= KEPT_REPORT_SECONDS:
                # A later attempt skips these items, so their counts must be stored together with their outcomes.
                self._store_report(connection)
            return self._ctx.targets.count_closed_items(connection)
