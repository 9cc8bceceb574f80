"""What makes the spans of tasks and jobs, as executors see it, and the one that makes none."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from storage.records import Job
from storage.reports.task_summary import TaskSummary


class JobSpan(Protocol):
    """The span of a job that runs."""

    def ended(self, job: Job | None) -> None:
        """The job's row is now like this, or it is gone."""
        ...


class Tracing(Protocol):
    """Makes spans, or none."""

    #: Whether it makes any.
    is_on: bool

    def job(self, job: Job) -> AbstractContextManager[JobSpan]:
        """The span of a job, and the current one while the block runs."""
        ...

    def task_ended(self, summary: TaskSummary) -> None:
        """Make the spans of a task and its steps, whose ends are known only now."""
        ...

    def close(self) -> None:
        """Hand over what has not been handed over yet."""
        ...


class NoTracing:
    """Makes no spans."""

    is_on = False

    def ended(self, job: Job | None) -> None:
        """Nothing."""

    def job(self, job: Job) -> AbstractContextManager[JobSpan]:
        """Nothing."""
        return _NOTHING

    def task_ended(self, summary: TaskSummary) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


_NOTHING: AbstractContextManager[JobSpan] = nullcontext(NoTracing())
