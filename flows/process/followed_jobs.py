"""Seeing jobs to their ends: each runs here when its turn comes, or is followed where another executor runs it.

No thread waits for a job. As many threads as the setting `concurrency` says run one each.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial

from flows.process.claiming_thread import Dispatcher
from flows.process.heartbeat_thread import Heartbeat
from flows.process.patience import insist
from flows.telemetry.log_fields import about_job
from storage.database.engine import Database
from storage.queue.jobs import JobsRepository
from storage.records import Job

logger = logging.getLogger("photojobs.following")


class Observer(ABC):
    """Runs a followed job when its turn comes, and sees what becomes of it before its end."""

    def refuses(self) -> bool:
        """Whether the job may not run in this way; then it goes back to the queue, and is followed no more."""
        return False

    @abstractmethod
    def run(self, job: Job, stopping: threading.Event, on_handled: Callable[[], None]) -> Job | None:
        """Run a claimed job; returns its row, or None if that is gone.

        Args:
            job: as it was claimed.
            stopping: set when the job is to go back to the queue.
            on_handled: to be called when the handler has ended, before what came of it is written.
        """

    def running_elsewhere(self) -> None:  # noqa: B027 - not everyone cares.
        """Another executor runs the job; must be quick."""

    def queued_again(self, before: Job, job: Job) -> None:  # noqa: B027 - not everyone cares.
        """The job was given back to the queue, for another attempt or because it had to stop."""


class JobFollower:
    """Follows jobs in one process.

    Args:
        database: where the jobs are.
        dispatcher: claims the jobs; it gives out as many at a time as may run.
        heartbeat: beats for what is waited for, too.
        stopping: gives what is set when the process is to stop working on a task.
        give_up_seconds: so long a row is asked for while the database is away.
    """

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        heartbeat: Heartbeat,
        *,
        stopping: Callable[[str | None], threading.Event],
        give_up_seconds: float,
    ) -> None:
        self._jobs = JobsRepository(database)
        self._dispatcher = dispatcher
        self._heartbeat = heartbeat
        self._stopping = stopping
        self._give_up_seconds = give_up_seconds
        self._lock = threading.Lock()
        self._announced: dict[int, Job] = {}
        # Those whose rows say how to go on.
        self._to_read: list[_Followed] = []
        self._is_reading = False

    def announce(self, jobs: Iterable[Job]) -> None:
        """Keep the rows of jobs that will be followed in a moment, so that each is not read again."""
        with self._lock:
            self._announced |= {job.id: job for job in jobs}

    def forget(self, job_id: int) -> None:
        """Forget a row that was announced and that another process followed."""
        with self._lock:
            self._announced.pop(job_id, None)

    def follow(self, job_id: int, observer: Observer) -> Future[Job | None]:
        """See a job to its end. The result is its row, or None if the row was removed.

        The row is not final if this process stopped waiting: the job stays in the queue. Handlers run in the context of
        the caller.
        """
        with self._lock:
            job = self._announced.pop(job_id, None)
        self._heartbeat.start()
        followed = _Followed(job_id, observer)
        if job is None:
            self._read_later(followed)
        else:
            self._wait(followed, job)
        return followed.future

    def _wait(self, followed: _Followed, job: Job) -> None:
        """Wait for the turn of a job."""
        stopping = followed.stopping = followed.stopping or self._stopping(job.task_id)

        def take(claimed: Job | None) -> None:
            if claimed is None:
                self._read_later(followed)
            else:
                self._start(followed, claimed)

        self._dispatcher.wait_for(job, take, stopping=stopping, on_elsewhere=followed.observer.running_elsewhere)

    def _start(self, followed: _Followed, claimed: Job) -> None:
        # A daemon: a handler that never comes to a checkpoint must not keep a process alive that was asked to end.
        name = f"photojobs-run-{claimed.id}"
        # A copy, as the thread of the attempt before may not have ended yet.
        run = followed.context.copy().run
        thread = threading.Thread(target=run, args=(self._run, followed, claimed), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The system has no room for another one at the moment.
            logger.warning(
                "job %d: could not be started and goes back: %s", claimed.id, error, extra=about_job(claimed)
            )
            try:
                self._give_back(claimed)
            finally:
                self._wait(followed, claimed)

    def _give_back(self, claimed: Job) -> None:
        self._dispatcher.release()
        self._jobs.hand_back(claimed.id, claim_token=str(claimed.claim_token))

    def _run(self, followed: _Followed, claimed: Job) -> None:
        job: Job | None = claimed
        try:
            if followed.observer.refuses():
                self._give_back(claimed)
                followed.future.set_result(claimed)
                return
            with ExitStack() as room:
                room.callback(self._dispatcher.release)
                # Before its lane's slot is free: a process without room leaves a free slot to lower ranks.
                job = followed.observer.run(claimed, followed.stopping or threading.Event(), room.close)
            if job is not None and not job.is_final:
                followed.observer.queued_again(claimed, job)
                self._wait(followed, job)
                return
        except BaseException as error:  # noqa: BLE001 - it is raised where the future is waited for.
            followed.future.set_exception(error)
        else:
            followed.future.set_result(job)

    def _read_later(self, followed: _Followed) -> None:
        """Have a row read in a thread of its own: the callers must be quick, and the database may be away."""
        with self._lock:
            self._to_read.append(followed)
            if self._is_reading:
                return
            self._is_reading = True
        try:
            threading.Thread(target=self._read, name="photojobs-following", daemon=True).start()
        except RuntimeError:
            # The system has no room for another one at the moment.
            self._read()

    def _read(self) -> None:
        while batch := self._next_to_read():
            ids = [followed.job_id for followed in batch]
            try:
                jobs = insist(partial(self._jobs.get_many, ids), give_up_seconds=self._give_up_seconds)
            except BaseException as error:  # noqa: BLE001 - it is raised where the futures are waited for.
                for followed in batch:
                    followed.future.set_exception(error)
                continue
            for followed in batch:
                job = jobs.get(followed.job_id)
                # One that was never waited for has only been asked for so far.
                if job is not None and not job.is_final and followed.stopping is None:
                    self._wait(followed, job)
                else:
                    followed.future.set_result(job)

    def _next_to_read(self) -> list[_Followed]:
        with self._lock:
            batch, self._to_read = self._to_read, []
            self._is_reading = bool(batch)
        return batch


class _Followed:
    """A job on its way to its end."""

    def __init__(self, job_id: int, observer: Observer) -> None:
        self.job_id = job_id
        self.observer = observer
        self.future: Future[Job | None] = Future()
        self.context = copy_context()
        #: Set when this process stops following it; None until it has been waited for.
        self.stopping: threading.Event | None = None
