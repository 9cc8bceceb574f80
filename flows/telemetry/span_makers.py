"""The interface for spans of tasks and jobs that executors use, and its implementation without spans."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from storage.records import Job
from storage.reports.task_summary import TaskSummary


class JobSpan(Protocol):
    """The span of a job that runs."""

    def ended(self, job: Job | None) -> None:
        """Record the job's row after the run; None if the row no longer exists."""
        ...


class Tracing(Protocol):
    """Creates spans, or does nothing."""

    #: Whether spans are created.
    is_on: bool

    def job(self, job: Job) -> AbstractContextManager[JobSpan]:
        """Create the span of a job. It is the current span while the block runs."""
        ...

    def task_ended(self, summary: TaskSummary) -> None:
        """Create the spans of a task and its steps. Their ends are known only when the task has ended."""
        ...

    def close(self) -> None:
        """Export the remaining spans."""
        ...


class NoTracing:
    """Creates no spans."""

    is_on = False

    def ended(self, job: Job | None) -> None:
        """Do nothing."""

    def job(self, job: Job) -> AbstractContextManager[JobSpan]:
        """Do nothing."""
        return _NOTHING

    def task_ended(self, summary: TaskSummary) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


_NOTHING: AbstractContextManager[JobSpan] = nullcontext(NoTracing())
