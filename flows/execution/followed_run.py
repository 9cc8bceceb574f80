"""Runs a followed job, whose end this process waits for.

`flows.process.followed_jobs` calls `FollowedRun` when the job gets a slot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.execution.job_run import run_claimed_job
from flows.process.executor import EndWriter
from flows.process.job_follower import JobFollower
from flows.process.runtime import Runtime
from storage.records import Job

#: A function that shows the progress of a job. Its arguments are `done` and `total`.
OnProgress = Callable[[int, int | None], None]


class FollowedRun(JobFollower):
    """Runs a followed job, whose end this process waits for, when the job gets a slot in this process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def run(self, job: Job, stopping: threading.Event, write_end: EndWriter) -> Job | None:
        """Run a claimed job. Return the job's row, or None if the row was removed."""
        with self.running(job) as on_progress:
            return run_claimed_job(job, self._runtime, stopping=stopping, on_progress=on_progress, write_end=write_end)

    @contextmanager
    def running(self, job: Job) -> Iterator[OnProgress | None]:
        """Yield, while the job runs, a function that shows the job's progress; None if no progress is shown."""
        yield None
