"""A job that this process follows, and the follower that runs the job when it gets a slot in this process.

To follow a job is to wait for its end, in whichever process it runs.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from concurrent.futures import Future
from contextvars import copy_context

from flows.process.executor import EndWriter
from storage.records import Job


class JobFollower(ABC):
    """Runs a followed job when the job gets a slot, and is notified of other changes of the job."""

    def refuses(self) -> bool:
        """Return whether this follower must not run the job.

        If so, the job goes back to the queue, and this process no longer follows the job.
        """
        return False

    @abstractmethod
    def run(self, job: Job, stopping: threading.Event, write_end: EndWriter) -> Job | None:
        """Run a claimed job. Return the job's row, or None if the row was removed.

        Args:
            job: the job's row when it was claimed.
            stopping: set when the job is to go back to the queue.
            write_end: a function that writes the end of the job.
        """

    def running_elsewhere(self) -> None:  # noqa: B027 - optional.
        """Called when another executor runs the job. Does nothing by default. The method must return quickly."""

    def queued_again(self, before: Job, job: Job) -> None:  # noqa: B027 - optional.
        """Called when the job went back to the queue, for another attempt or because it had to stop.

        Does nothing by default.

        Args:
            before: the job's row when it was claimed.
            job: the job's row now.
        """


class Followed:
    """A job that this process follows, with its follower and the future of its end."""

    def __init__(self, job_id: int, follower: JobFollower) -> None:
        self.job_id = job_id
        self.follower = follower
        self.future: Future[Job | None] = Future()
        self.context = copy_context()
        #: The row of the job as it was last read.
        self.job: Job | None = None
        #: Set when this process stops following the job.
        self.stopping = threading.Event()

    def note(self, job: Job, stopping: threading.Event) -> None:
        """Keep the row of the job, and the event that stops its task."""
        self.job, self.stopping = job, stopping
