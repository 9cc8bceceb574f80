"""Following jobs to their ends: each runs in this process when its turn comes, or is watched while another runs it.

A waiting job takes no thread. Only running jobs do: one each, at most as many as the setting `concurrency`.
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
    """Runs a followed job when its turn comes, and is notified of what happens to it before its end."""

    def refuses(self) -> bool:
        """Return whether this observer must not run the job; it then goes back to the queue and is not followed."""
        return False

    @abstractmethod
    def run(self, job: Job, stopping: threading.Event, on_handled: Callable[[], None]) -> Job | None:
        """Run a claimed job. Returns its row, or None if the row was removed.

        Args:
            job: its row when it was claimed.
            stopping: set when the job is to go back to the queue.
            on_handled: to be called when the handler has ended, before its outcome is written.
        """

    def running_elsewhere(self) -> None:  # noqa: B027 - optional.
        """Take note that another executor runs the job; must be quick."""

    def queued_again(self, before: Job, job: Job) -> None:  # noqa: B027 - optional.
        """Take note that the job went back to the queue, for another attempt or because it had to stop.

        Args:
            before: its row when it was claimed.
            job: its row now.
        """


class JobFollower:
    """Follows jobs in one process.

    Args:
        database: the database that holds the jobs.
        dispatcher: claims the jobs, and limits how many run at a time.
        heartbeat: sends heartbeats for waiting and running jobs.
        stopping: returns the event of a task that is set when the process is to stop working on it.
        give_up_seconds: how long the read of a row is repeated while the database is unavailable.
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
        # Their rows must be read to decide how to go on.
        self._to_read: list[_Followed] = []
        self._is_reading = False

    def announce(self, jobs: Iterable[Job]) -> None:
        """Keep the rows of jobs that the caller is about to follow, so that they are not read again."""
        with self._lock:
            self._announced |= {job.id: job for job in jobs}

    def forget(self, job_id: int) -> None:
        """Drop an announced row that `follow` did not use, because another process followed the job."""
        with self._lock:
            self._announced.pop(job_id, None)

    def follow(self, job_id: int, observer: Observer) -> Future[Job | None]:
        """Follow a job to its end. The future's result is its row, or None if the row was removed.

        The row is not final if this process stopped waiting; the job then stays in the queue. The handler runs in the
        context variables of the caller.
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
        # A daemon: a handler that never reaches a checkpoint must not keep the process from ending.
        name = f"photojobs-run-{claimed.id}"
        # A copy, because the thread of the previous attempt may not have ended yet.
        run = followed.context.copy().run
        thread = threading.Thread(target=run, args=(self._run, followed, claimed), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The system cannot start another thread now.
            logger.warning(
                "job %d: no thread could be started; it goes back to the queue: %s",
                claimed.id,
                error,
                extra=about_job(claimed),
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
                # Released before the lane's slot is free: a full process leaves a free slot to jobs of lower ranks.
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
        """Read a row in a separate thread: the callers must be quick, and the database may be unavailable."""
        with self._lock:
            self._to_read.append(followed)
            if self._is_reading:
                return
            self._is_reading = True
        try:
            threading.Thread(target=self._read, name="photojobs-following", daemon=True).start()
        except RuntimeError:
            # The system cannot start another thread now.
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
                # `stopping` is None before the first wait. After a wait, the row is the result, final or not.
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
    """A job that this process follows."""

    def __init__(self, job_id: int, observer: Observer) -> None:
        self.job_id = job_id
        self.observer = observer
        self.future: Future[Job | None] = Future()
        self.context = copy_context()
        #: Set when this process stops following it; None before its first wait.
        self.stopping: threading.Event | None = None
