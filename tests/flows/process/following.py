"""Simulated processes that follow jobs; a test ends the turn of each job."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from flows.process.executor import EndWriter
from flows.process.followed_jobs import FollowedJobs
from flows.process.job_follower import JobFollower
from storage import Database
from storage.queue.claims import new_worker_id
from storage.queue.exchange import End
from storage.queue.wakeups import Wakeups
from storage.records import Job, JobStatus
from tests.flows.conftest import quick_settings
from tests.waiting import wait_until


class Turn(JobFollower):
    """The turn of a job: it runs until the test ends it."""

    def __init__(self) -> None:
        self.claimed: Future[Job] = Future()
        self.may_end = threading.Event()
        self.elsewhere = threading.Event()
        self.status = JobStatus.COMPLETED

    def run(self, job: Job, stopping: threading.Event, write_end: EndWriter) -> Job | None:
        self.claimed.set_result(job)
        assert self.may_end.wait(600)
        return write_end(End(job_id=job.id, claim_token=job.claim_token, status=self.status))

    def running_elsewhere(self) -> None:
        self.elsewhere.set()


class Process:
    """The followed jobs and wake-ups of one simulated process."""

    def __init__(self, database: Database, folder: Path, **settings: Any) -> None:
        self.wakeups = Wakeups(database)
        self.stopping = threading.Event()
        self.followed = FollowedJobs(
            database,
            settings=quick_settings(folder, **settings),
            worker_id=new_worker_id("test"),
            wakeups=self.wakeups,
            stopping=lambda _task_id: self.stopping,
            on_followed=lambda: None,
        )
        self._turns: list[Turn] = []

    def follow(self, job: Job) -> tuple[Turn, Future[Job | None]]:
        """Follow a job. Returns its turn, and the future of its end."""
        self._turns.append(turn := Turn())
        return turn, self.followed.follow(job.id, turn)

    def is_serving(self) -> bool:
        """Return whether the executor runs."""
        thread = self.followed._thread
        return thread is not None and thread.is_alive()

    def close(self) -> None:
        self.stopping.set()
        self.followed.abandon(None)
        for turn in self._turns:
            turn.may_end.set()
        wait_until(lambda: not self.is_serving(), what="the executor has ended")
        self.followed.close()
        self.wakeups.close()
