"""The executor: a limited number of threads that run the jobs of a source, without Prefect.

A thread that has run a job writes the end of the job and takes its next job in one exchange with the database. If an
exchange is running, the thread waits for its end; then one of the waiting threads makes one exchange for all of them.
So no end is delayed to fill a batch, and a busy executor makes one transaction for several jobs. A thread that gets no
job ends.

A `Source` provides the jobs and runs each of them in a thread of the executor. `storage.queue.exchange` decides which
jobs the source gets. The setting `concurrency` limits how many run at a time. `drain_seconds` is the time that running
jobs get to finish when the executor stops.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from flows.process.database_retry import retry_while_unavailable
from flows.telemetry.log_fields import about_job
from storage.errors import DatabaseFault, DatabaseUnavailable, StorageError
from storage.lifecycle.job_rows import checked_result
from storage.queue.exchange import End, Exchanged
from storage.queue.wakeups import Wakeups
from storage.records import Job
from storage.settings import Settings

logger = logging.getLogger("photojobs.executor")

#: How long handlers that are asked to stop may take to reach a checkpoint and hand their jobs back. This time is the
#: last part of the setting `drain_seconds`, because the process may be killed at the end of that time.
HAND_BACK_SECONDS = 5.0

#: How often an executor checks whether it was asked to stop.
LOOK_SECONDS = 0.1


#: A function that ends a claimed job and returns the job's row, or None if the claim was lost.
EndWriter = Callable[[End], Job | None]


class Source(Protocol):
    """Provides the jobs of an executor, and runs them."""

    def exchange(self, ended: Sequence[End], limit: int) -> Exchanged:
        """Write the ends of jobs and claim up to `limit` jobs, in one transaction if possible; `limit` may be 0.

        The executor starts the claimed jobs at once. After an error it passes the same ends again, because the answer
        of a successful call may have been lost. Any of its threads may call this, but only one at a time.
        """

    def seconds_to_wait(self, *, has_room: bool) -> float:
        """Return the longest time for which the executor may wait for a wakeup; infinite if there is no limit.

        The limit is needed for delayed jobs, because a job that becomes due sends no wakeup.

        Args:
            has_room: whether a thread is free for another job.
        """

    def is_over(self) -> bool:
        """Return whether the executor must end. The executor asks when no job runs and no job could be claimed."""

    def run(self, job: Job, write_end: EndWriter) -> None:
        """Run a claimed job to its end, in the thread that calls this."""

    def give_back(self, job: Job) -> None:
        """Queue a claimed job again, because no thread could be started for it."""

    def stop_running(self) -> None:
        """Make running handlers stop at their next checkpoint; their jobs go back to the queue."""


@dataclass(slots=True, eq=False)
class _Turn:
    """The request of one thread to the next exchange with the database, and its result.

    Attributes:
        end: the end to write; None if the thread only asks for a job.
        is_of_thread: whether a thread that runs jobs makes the request. If not, the loop of the executor makes it, and
            the claimed jobs get new threads.
        ended: the row of the ended job; None if the claim was lost.
        next: the next job of the thread; None if the thread must end.
        started: how many threads were started for claimed jobs.
    """

    end: End | None = None
    is_of_thread: bool = True
    is_done: bool = False
    ended: Job | None = None
    next: Job | None = None
    error: Exception | None = None
    started: int = 0


class Executor:
    """Runs the jobs of a source, `concurrency` at a time.

    Args:
        source: provides the jobs.
        settings: its `concurrency` limits how many jobs run at a time.
        wakeups: the wakeups that wake the executor when there may be work.
    """

    def __init__(self, source: Source, *, settings: Settings, wakeups: Wakeups) -> None:
        self._source = source
        self._settings = settings
        self._wakeups = wakeups
        self._concurrency = settings.concurrency
        # These are plain flags, because a signal handler must not take a lock that the interrupted code may hold.
        self._is_draining = False
        self._is_stopping = False
        self._changed = threading.Condition()
        self._turns: list[_Turn] = []
        self._is_exchanging = False
        #: The number of threads that run a job or wait for an exchange.
        self._busy = 0
        self._threads: set[threading.Thread] = set()

    def run(self, *, until_empty: bool) -> None:
        """Run jobs until `stop` is called or the source is over, or with `until_empty` until no job is left.

        Then wait for the running jobs. Jobs that still run when `drain_seconds` are almost over are handed back.

        Raises:
            StorageError: the schema does not match; or, with `until_empty`, the database was unavailable for longer
                than `stale_seconds`.
        """
        try:
            self._serve_source(until_empty=until_empty)
        finally:
            # Running handlers finish or hand their jobs back, even after an error.
            self._is_draining = True
            self._finish()

    def stop(self) -> None:
        """Claim no more jobs. A signal handler may call this, and more than once."""
        self._is_draining = True

    def stop_now(self) -> None:
        """Stop running handlers at their next checkpoint; their jobs go back to the queue.

        A signal handler may call this, and more than once.
        """
        self._is_stopping = True
        self.stop()

    def _serve_source(self, *, until_empty: bool) -> None:
        settings = self._settings
        give_up_seconds = settings.stale_seconds if until_empty else math.inf
        # From here on a wakeup is remembered until the next wait.
        self._wakeups.wait(0.0)
        while not self._is_draining:
            # A thread without a next job may still report the end of its last one, so `until_empty` waits for the
            # thread, too.
            was_idle, turn = not self._threads, _Turn(is_of_thread=False)
            if self._busy < self._concurrency:
                try:
                    turn = retry_while_unavailable(
                        self._take_jobs, give_up_seconds=give_up_seconds, unless=lambda: self._is_draining
                    )
                except DatabaseFault:
                    if not self._is_draining:
                        raise
            if turn.started:
                continue
            if was_idle and (until_empty or self._source.is_over()):
                return
            self._rest(min(settings.poll_seconds, self._seconds_to_wait()))

    def _take_jobs(self) -> _Turn:
        turn = self._take_turn(_Turn(is_of_thread=False))
        if turn.error is not None:
            raise turn.error
        return turn

    def _seconds_to_wait(self) -> float:
        try:
            return self._source.seconds_to_wait(has_room=self._busy < self._concurrency)
        except DatabaseFault as error:
            logger.warning("the database cannot be used now (%s); this process tries again", error)
            return math.inf

    def _rest(self, seconds: float) -> None:
        """Wait for a wakeup in short pieces, because `stop` sets a flag without waking a thread."""
        rest_until = time.monotonic() + seconds
        while not self._is_draining and (left := rest_until - time.monotonic()) > 0:
            if self._wakeups.wait(min(left, LOOK_SECONDS)):
                return

    def _take_turn(self, turn: _Turn) -> _Turn:
        """Return the request with its result. If no exchange is running, make one for all waiting threads."""
        with self._changed:
            self._turns.append(turn)
            while not turn.is_done and self._is_exchanging:
                self._changed.wait()
            if turn.is_done:
                return turn
            turns, self._turns = self._turns, []
            self._is_exchanging = True
            waiting = sum(each.is_of_thread for each in turns)
            limit = 0 if self._is_draining else self._concurrency - self._busy + waiting
        claimed: list[Job] = []
        try:
            claimed = self._exchange(turns, limit)
        except BaseException:
            # A signal interrupted the main thread. The other threads try again to write the ends of their jobs.
            for each in turns:
                each.error = DatabaseUnavailable("a signal interrupted the access to the database")
            raise
        finally:
            with self._changed:
                self._hand_out(turns, claimed)
                self._is_exchanging = False
                self._changed.notify_all()
        turn.started = self._start_threads(claimed)
        return turn

    def _exchange(self, turns: list[_Turn], limit: int) -> list[Job]:
        ends = [each.end for each in turns if each.end is not None]
        try:
            exchanged = self._source.exchange(ends, limit)
        except DatabaseFault as error:
            for each in turns:
                each.error = error
        except Exception as error:  # noqa: BLE001 - it is raised where the turn was taken.
            if not ends or (len(turns) == 1 and limit == 0):
                for each in turns:
                    each.error = error
            else:
                # If the database refuses one end, or the claim, the other ends are still written.
                for each in turns:
                    if each.end is not None:
                        self._exchange([each], 0)
        else:
            ended = {job.id: job for job in exchanged.ended}
            for each in turns:
                each.ended = None if each.end is None else ended.get(each.end.job_id)
            return list(exchanged.claimed)
        return []

    def _hand_out(self, turns: list[_Turn], claimed: list[Job]) -> None:
        """Give the waiting threads their next jobs, and remove these from `claimed`. A thread without a job ends."""
        for each in turns:
            each.is_done = True
            if not each.is_of_thread or each.error is not None:
                continue
            if claimed:
                each.next = claimed.pop(0)
            else:
                self._busy -= 1
        self._busy += len(claimed)

    def _start_threads(self, claimed: list[Job]) -> int:
        for job in claimed:
            # The thread is a daemon, because a handler that reaches no checkpoint must not prevent the process's end.
            thread = threading.Thread(target=self._work, args=(job,), name=_thread_name(job), daemon=True)
            with self._changed:
                self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError as error:
                # The system cannot start another thread now, so the job goes back to the queue.
                logger.warning(
                    "job %d: the system could not start a thread for the job, which goes back to the queue: %s",
                    job.id,
                    error,
                    extra=about_job(job),
                )
                self._leave(thread)
                # If the job stayed claimed without a thread, nothing would end it, and the next jobs would not start.
                retry_while_unavailable(partial(self._source.give_back, job), unless=lambda: self._is_draining)
                self._rest(self._settings.poll_seconds)
        return len(claimed)

    def _work(self, first: Job) -> None:
        thread, job = threading.current_thread(), first
        try:
            while True:
                turn = self._run_one(job)
                if turn is None:
                    # No exchange wrote the end of the job, so this request only asks for the next job.
                    turn = self._take_turn(_Turn())
                    if turn.error is not None:
                        with self._changed:
                            self._busy -= 1
                if turn.next is None:
                    break
                job = turn.next
                thread.name = _thread_name(job)
        finally:
            with self._changed:
                self._threads.discard(thread)
            self._wakeups.notify()

    def _run_one(self, job: Job) -> _Turn | None:
        """Run a job, and return the `_Turn` that wrote its end; None if no exchange wrote the end."""
        handed_in: list[_Turn] = []

        def hand_in(end: End) -> Job | None:
            checked = None if end.result is None else checked_result(end.result)
            turn = self._take_turn(_Turn(replace(end, result=checked)))
            if turn.error is not None:
                raise turn.error
            handed_in.append(turn)
            return turn.ended

        try:
            self._source.run(job, hand_in)
        except StorageError as error:
            # The next sweep counts this run as an attempt.
            logger.error(
                "job %d: its end could not be stored (%s), so this attempt will count as failed",
                job.id,
                error,
                extra=about_job(job),
            )
        except Exception:
            logger.exception(
                "job %d: an unexpected error ended its run, so this attempt will count as failed",
                job.id,
                extra=about_job(job),
            )
        return handed_in[-1] if handed_in else None

    def _leave(self, thread: threading.Thread) -> None:
        with self._changed:
            self._threads.discard(thread)
            self._busy -= 1

    def _finish(self) -> None:
        finish_seconds = max(0.0, self._settings.drain_seconds - HAND_BACK_SECONDS)
        if not self._wait_for_threads(finish_seconds, unless=lambda: self._is_stopping):
            # The source may already have a new executor, whose jobs must continue, so the source is not stopped.
            return
        self._source.stop_running()
        for thread in self._wait_for_threads(HAND_BACK_SECONDS):
            logger.warning(
                "%s: the job did not stop before the end of this process; `photojobs up` or a worker queues it again",
                thread.name,
            )

    def _wait_for_threads(
        self, limit_seconds: float, *, unless: Callable[[], bool] = lambda: False
    ) -> list[threading.Thread]:
        give_up_at = time.monotonic() + limit_seconds
        while True:
            with self._changed:
                running = [thread for thread in self._threads if thread.is_alive()]
            if not running or unless() or time.monotonic() > give_up_at:
                return running
            running[0].join(min(limit_seconds, LOOK_SECONDS))


def _thread_name(job: Job) -> str:
    return f"photojobs-job-{job.id}"
