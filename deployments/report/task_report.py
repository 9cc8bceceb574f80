"""Reads the content of a report about a task from the tables and the library; `page.py` makes its layout.

`storage.reports.task_history` chooses the jobs, failures and photos of the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from deployments.report.contact_sheet import DEFAULT_PHOTOS, Frame, contact_sheet
from deployments.report.throughput import Throughput, throughput_of
from storage.database.engine import Database
from storage.library.paths import Library
from storage.queue.lanes import LanesRepository
from storage.records import Lane
from storage.reports.library_figures import BeforeAndAfter, LibraryFigures, read_figures, take_figures
from storage.reports.task_history import (
    FailureReason,
    FileChanges,
    JobSpan,
    Slow,
    StepTimes,
    changed_photos,
    failure_reasons,
    file_changes,
    job_spans,
    slowest,
    step_times,
)
from storage.reports.task_summary import TaskSummary, summarize_task


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """The content of a report.

    Attributes:
        made_at: the moment at which the data was read.
        lanes: the current lanes.
        library: the figures of the task's projects, or of the whole tenant, before and after the task.
        is_after_now: whether the figures after the task are current ones, because none were stored at its end.
        frames: the first of the changed photos, with their thumbnails.
        changed: the number of all photos that changed while the task ran, also by other tasks.
    """

    made_at: datetime
    summary: TaskSummary
    lanes: Sequence[Lane]
    spans: Sequence[JobSpan]
    times: Sequence[StepTimes]
    failures: Sequence[FailureReason]
    slowest: Sequence[Slow]
    files: Sequence[FileChanges]
    library: BeforeAndAfter
    is_after_now: bool
    frames: Sequence[Frame]
    changed: int

    @property
    def begin(self) -> datetime | None:
        """The start of the task or of its first job, the earlier of both; None if nothing has started."""
        starts = (self.summary.task.started_at, *(span.started_at for span in self.spans))
        return min((moment for moment in starts if moment is not None), default=None)

    @property
    def throughput(self) -> Throughput:
        """How much was done in each part of the task's time."""
        return throughput_of(self.spans, begin=self.begin or self.end, end=self.end)

    @property
    def end(self) -> datetime:
        """The moment at which the task ended; the current moment if it has not ended."""
        return self.summary.task.finished_at or self.made_at


def read_report(database: Database, library: Library, task_id: str, *, photos: int = DEFAULT_PHOTOS) -> TaskReport:
    """Read the report of a task, which may still run, with the thumbnails of at most `photos` changed photos.

    Raises:
        UnknownTask: no task has this id.
    """
    now = database.clock()
    with database.connect() as connection:
        summary = summarize_task(connection, task_id)
        task = summary.task
        kept = read_figures(connection, task_id)
        now_figures: LibraryFigures | None = take_figures(connection, task) if kept.after is None else None
        spans = job_spans(connection, task, now=now)
        has_begun = task.started_at is not None or spans
        changed, total = changed_photos(connection, task, limit=photos, now=now) if has_begun else ((), 0)
        return TaskReport(
            made_at=now,
            summary=summary,
            lanes=LanesRepository(connection).list(),
            spans=spans,
            times=step_times(connection, task_id),
            failures=failure_reasons(connection, task_id),
            slowest=slowest(connection, task_id),
            files=file_changes(connection, task_id),
            library=BeforeAndAfter(before=kept.before, after=kept.after or now_figures),
            is_after_now=kept.after is None,
            frames=contact_sheet(library, changed),
            changed=total,
        )
