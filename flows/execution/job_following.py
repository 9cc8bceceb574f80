"""Running the jobs that a process follows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.execution.job_run import run_claimed_job
from flows.process.followed_jobs import Observer
from flows.process.runtime import Runtime
from storage.records import Job

#: Shows the progress of a job; called with `done` and `total`.
OnProgress = Callable[[int, int | None], None]


class FollowedRun(Observer):
    """Runs a followed job when its turn comes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def run(self, job: Job, stopping: threading.Event, on_handled: Callable[[], None]) -> Job | None:
        """Run a claimed job; returns its row, or None if that is gone."""
        with self.running(job) as on_progress:
            return run_claimed_job(
                job, self._runtime, stopping=stopping, on_progress=on_progress, on_handled=on_handled
            )

    @contextmanager
    def running(self, job: Job) -> Iterator[OnProgress | None]:
        """Run the job in the block; gives what shows its progress, if anything does."""
        yield None
