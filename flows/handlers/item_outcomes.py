"""The outcomes of a job's items: gathered, written in batches with the progress, and reported by events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from flows.handlers.job_progress import PROGRESS_INTERVAL_SECONDS
from flows.process.runtime import Runtime
from storage.lifecycle.job_items import ItemOutcome, record_outcomes

if TYPE_CHECKING:
    from flows.handlers.step_context import StepContext

#: Shortest time between two events on items. An event for each small batch would hide all other events.
EVENT_INTERVAL_SECONDS = 1.0

#: A job that takes longer stores its report together with the outcomes of its items.
KEPT_REPORT_SECONDS = 1.0

#: Outcomes of items are written once this many have gathered, or once `PROGRESS_INTERVAL_SECONDS` have passed.
OUTCOME_BATCH_SIZE = 200


class ItemOutcomes:
    """The outcomes of the items of one job.

    Args:
        ctx: the job's context.
        runtime: emits the events.
        store_report: stores the report of a job that takes long, in the transaction of its outcomes.
    """

    def __init__(self, ctx: StepContext, runtime: Runtime, store_report: Callable[[Connection], None]) -> None:
        self._ctx = ctx
        self._runtime = runtime
        self._store_report = store_report
        self._unwritten: list[ItemOutcome] = []
        self._unreported: list[ItemOutcome] = []
        self._began_at = self._written_at = self._event_emitted_at = time.monotonic()

    def add(self, *outcomes: ItemOutcome) -> None:
        """Add outcomes, to be written with the next batch."""
        self._unwritten += outcomes

    def write_if_due(self) -> None:
        """Write the outcomes if there are many, or if the last write was some time ago."""
        if (
            len(self._unwritten) >= OUTCOME_BATCH_SIZE
            or time.monotonic() - self._written_at >= PROGRESS_INTERVAL_SECONDS
        ):
            self.write()

    def write(self) -> None:
        """Write the outcomes that were added since the last write, and the progress."""
        self._written_at = time.monotonic()
        if not self._unwritten:
            return
        # A database that is unreachable for a moment must not lose finished work.
        done = self._ctx.claim.insist(self._record)
        self._unreported += self._unwritten
        self._unwritten = []
        if time.monotonic() - self._event_emitted_at >= EVENT_INTERVAL_SECONDS:
            self.emit_event()
        self._ctx.progress(done, self._ctx.job.progress_total)

    def emit_event(self) -> None:
        """Emit one event for the items whose outcomes were written since the last such event."""
        self._event_emitted_at = time.monotonic()
        if self._unreported:
            self._runtime.events.items_recorded(self._ctx.job, self._unreported)
            self._unreported = []

    def _record(self) -> int:
        with self._ctx.transaction() as connection:
            record_outcomes(connection, self._unwritten, now=self._ctx.now())
            if time.monotonic() - self._began_at >= KEPT_REPORT_SECONDS:
                # In the same transaction: another attempt does not repeat these items, so it could not count them.
                self._store_report(connection)
            return self._ctx.targets.count_closed_items(connection)
