"""Runs the jobs that this process follows. To follow a job is to wait for its end, in whichever process it runs.

`flows.process.followed_jobs` calls `FollowedRun` when a followed job gets a slot in this process.
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
    """Runs one followed job in this process. A subclass can show its progress."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def run(self, job: Job, stopping: threading.Event, write_end: EndWriter) -> Job | None:
        """Run a claimed job. Return the job's row, or None if the row was removed."""
        with self.running(job) as on_progress:
            return run_claimed_job(job, self._runtime, stopping=stopping, on_progress=on_progress, write_end=write_end)

    @contextmanager
    def running(self, job: Job) -> Iterator[OnProgress | None]:
        """Yield a function that shows the job's progress; None if no progress is shown. The job runs in the block."""
        yield None
