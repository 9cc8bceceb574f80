"""Adds jobs for the workers: enough to keep all of them busy, or more than they can do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import func, select

from storage import Database, JobsRepository
from storage.database.tables import jobs
from storage.errors import StorageError

#: The queue always has at least this many seconds of work.
BACKLOG_SECONDS = 2.0

_PAUSE_SECONDS = 0.1
_MOST_AT_ONCE = 500


class Load:
    """Adds jobs from a separate thread. Use it as a context manager.

    Args:
        database: the database to which the jobs are added.
        work_seconds: how long the handler of each job waits.
        capacity: the jobs per second that the workers could do if a job took no other time.
    """

    def __init__(self, database: Database, *, work_seconds: float, capacity: float) -> None:
        self._database = database
        self._jobs = JobsRepository(database)
        self._job = {
            "tenant_id": "user_0",
            "type": "pressure_wait",
            "scope": "global",
            "priority": 50,
            "max_attempts": 100,
            "payload": {"seconds": work_seconds},
        }
        self._capacity = capacity
        self._offered: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def offering(self, factor: float) -> Iterator[None]:
        """During the block, add jobs at `factor` times the capacity, however many jobs wait."""
        self._offered = factor * self._capacity
        try:
            yield
        finally:
            self._offered = None

    def add(self, count: int) -> None:
        """Add this many jobs, in transactions that are not too large."""
        while count > 0:
            self._jobs.enqueue_many([self._job] * min(count, _MOST_AT_ONCE))
            count -= _MOST_AT_ONCE

    def completed_between(self, begin: datetime, end: datetime) -> int:
        """Return how many jobs were completed in this time."""
        within = (jobs.c.status == "completed") & (jobs.c.finished_at >= begin) & (jobs.c.finished_at < end)
        with self._database.connect() as connection:
            return int(connection.execute(select(func.count()).where(within)).scalar_one())

    def running(self) -> list[int]:
        """Return the ids of the running jobs."""
        with self._database.connect() as connection:
            return list(connection.execute(select(jobs.c.id).where(jobs.c.status == "running")).scalars())

    def are_completed(self, job_ids: Sequence[int]) -> bool:
        """Return True if all of these jobs are completed."""
        ended = select(func.count()).where(jobs.c.id.in_(job_ids), jobs.c.status == "completed")
        with self._database.connect() as connection:
            return bool(connection.execute(ended).scalar_one() == len(job_ids))

    def statuses(self) -> dict[str, int]:
        """Return how many jobs have each status."""
        with self._database.connect() as connection:
            return {
                status: int(count)
                for status, count in connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status))
            }

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        looked_at = time.monotonic()
        while not self._ended.wait(_PAUSE_SECONDS):
            now = time.monotonic()
            offered, passed, looked_at = self._offered, now - looked_at, now
            try:
                waiting = self._waiting()
                missing = BACKLOG_SECONDS * self._capacity - waiting
                self.add(int(max(missing, 0) if offered is None else offered * passed))
            except StorageError:
                # The server does not answer.
                continue

    def _waiting(self) -> int:
        with self._database.connect() as connection:
            return int(connection.execute(select(func.count()).where(jobs.c.status == "queued")).scalar_one())
