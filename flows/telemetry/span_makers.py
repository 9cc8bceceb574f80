"""The interface by which executors create spans of tasks and jobs, and an implementation that creates no spans."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from storage.records import Job
from storage.reports.task_summary import TaskSummary


class JobSpan(Protocol):
    """The span of a running job."""

    def ended(self, job: Job | None) -> None:
        """Record the job's row after the run. `job` is None if the row no longer exists."""
        ...


class Tracing(Protocol):
    """An object that creates spans, or does nothing if `is_on` is false."""

    #: Whether spans are created.
    is_on: bool

    def job(self, job: Job) -> AbstractContextManager[JobSpan]:
        """Create the span of a job, which is the current span while the block runs."""
        ...

    def task_ended(self, summary: TaskSummary) -> None:
        """Create the spans of a task and its steps. Call it after the task has ended, when their ends are known."""
        ...

    def close(self) -> None:
        """Export the remaining spans."""
        ...


class NoTracing:
    """An implementation of `Tracing` that creates no spans."""

    is_on = False

    def ended(self, job: Job | None) -> None:
        """Record nothing, because there is no span."""

    def job(self, job: Job) -> AbstractContextManager[JobSpan]:
        """Create no span."""
        return _NOTHING

    def task_ended(self, summary: TaskSummary) -> None:
        """Create no spans."""

    def close(self) -> None:
        """Export nothing, because there are no spans."""


_NOTHING: AbstractContextManager[JobSpan] = nullcontext(NoTracing())
