"""The interface by which executors create spans of tasks and jobs. The classes here create none.

The subclasses in `flows.telemetry.spans` create spans.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from storage.records import Job
from storage.reports.task_summary import TaskSummary


class JobSpan:
    """The span of a running job."""

    def ended(self, job: Job | None) -> None:
        """Record the job's row after the run. `job` is None if the row no longer exists."""


class Tracing:
    """An object that creates spans if `is_on` is true."""

    is_on = False

    def job(self, job: Job) -> AbstractContextManager[JobSpan]:
        """Create the span of a job, which is the current span while the block runs."""
        return nullcontext(JobSpan())

    def task_ended(self, summary: TaskSummary) -> None:
        """Create the spans of a task and its steps. Call it after the task has ended, when their ends are known."""

    def close(self) -> None:
        """Export the remaining spans."""
