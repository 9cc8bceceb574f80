"""Jobs for the workers: as many wait as keep all of them at work, or more arrive than they can do."""

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

#: So many seconds of work wait, at least.
BACKLOG_SECONDS = 2.0

_PAUSE_SECONDS = 0.1
_MOST_AT_ONCE = 500


class Load:
    """Adds jobs from a thread of its own. Use it as a context manager.

    Args:
        database: whose jobs they are.
        work_seconds: what a job waits.
        capacity: jobs a second that the workers could do if they cost nothing else.
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
        """For the time of the block, add jobs at a rate, whatever waits: the capacity times so much."""
        self._offered = factor * self._capacity
        try:
            yield
        finally:
            self._offered = None

    def add(self, count: int) -> None:
        """Add jobs, all that there is room for in a transaction at a time."""
        while count > 0:
            self._jobs.enqueue_many([self._job] * min(count, _MOST_AT_ONCE))
            count -= _MOST_AT_ONCE

    def completed_between(self, begin: datetime, end: datetime) -> int:
        """How many jobs were completed in this time."""
        within = (jobs.c.status == "completed") & (jobs.c.finished_at >= begin) & (jobs.c.finished_at < end)
        with self._database.connect() as connection:
            return int(connection.execute(select(func.count()).where(within)).scalar_one())

    def running(self) -> list[int]:
        """The ids of the jobs that run."""
        with self._database.connect() as connection:
            return list(connection.execute(select(jobs.c.id).where(jobs.c.status == "running")).scalars())

    def are_completed(self, job_ids: Sequence[int]) -> bool:
        """Whether all of these are completed."""
        ended = select(func.count()).where(jobs.c.id.in_(job_ids), jobs.c.status == "completed")
        with self._database.connect() as connection:
            return bool(connection.execute(ended).scalar_one() == len(job_ids))

    def statuses(self) -> dict[str, int]:
        """How many jobs have each status."""
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
                # The server is away.
                continue

    def _waiting(self) -> int:
        with self._database.connect() as connection:
            return int(connection.execute(select(func.count()).where(jobs.c.status == "queued")).scalar_one())
