"""The executor: so many threads that run the jobs of a source, without Prefect.

A thread that has run a job hands its end in and takes the next job by one exchange with the database. While an exchange
is under way, the threads that come to their end meanwhile wait for it, and the first of them then makes one exchange
for all. So ends are never held back for company, and a busy executor makes one transaction for several jobs. A thread
for which there is no job ends.

What is to be run is a `Source`; who wants to know what becomes of it is a `Reporter`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from flows.execution.job_run import run_claimed_job
from flows.process.patience import insist
from flows.process.runtime import Runtime
from flows.telemetry.log_fields import about_job
from storage.errors import DatabaseFault, DatabaseUnavailable, StorageError
from storage.lifecycle.job_rows import checked_result
from storage.queue.exchange import End, Exchanged
from storage.queue.jobs import JobsRepository
from storage.records import Job

logger = logging.getLogger("photojobs.executor")

#: Handlers that are asked to stop have so long to come to a checkpoint and hand their jobs back; it is the last part of
#: the drain time, as whatever stops the process may kill it then.
HAND_BACK_SECONDS = 5.0

#: How often an executor looks whether it was asked to stop.
LOOK_SECONDS = 0.1


class Source(Protocol):
    """Where the jobs of an executor come from. Its methods are called by any of the threads, one at a time."""

    def exchange(self, ended: Sequence[End], limit: int) -> Exchanged:
        """Hand in ended jobs and take up to `limit` jobs, by one transaction as far as possible; `limit` may be 0.

        Jobs that were taken are begun at once. An error means that nothing was done, or that the answer got lost: the
        ends are handed in again. `JobsRepository.claim` does this for lanes.
        """

    def next_due_seconds(self) -> float:
        """After how many seconds there may be a job although no wakeup tells of it; infinite if that is not known."""


class Reporter(Protocol):
    """Learns what an executor does; called by the thread that runs the job."""

    def began(self, job: Job) -> Callable[[int, int | None], None] | None:
        """A claimed job begins; returns what is to be called with `done` and `total` of its progress, if anything."""

    def ended(self, job: Job, row: Job | None) -> None:
        """A job that began is over: its row, which is queued if it is to be repeated, or None if it is gone."""


@dataclass(slots=True, eq=False)
class _Turn:
    """What a thread asks of an exchange, and what it got. One that asks for jobs alone has no end."""

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
        runtime: what the executors of this process share.
        source: gives the jobs.
        reporter: learns of them.
        concurrency: how many run at a time; by default as the setting says.
        stopping: what handlers see; set when they are to stop at their next checkpoint and hand their jobs back.
    """

    def __init__(
        self,
        runtime: Runtime,
        source: Source,
        *,
        reporter: Reporter | None = None,
        concurrency: int | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self._runtime = runtime
        self._source = source
        self._reporter = reporter
        self._concurrency = concurrency or runtime.settings.concurrency
        self._stopping = stopping or threading.Event()
        # Plain flags: a signal handler must take no lock, which the code that it interrupts may hold.
        self._is_draining = False
        self._is_stopping = False
        self._changed = threading.Condition()
        self._turns: list[_Turn] = []
        self._is_exchanging = False
        #: Threads that run a job or wait for their turn.
        self._busy = 0
        self._threads: set[threading.Thread] = set()

    def run(self, *, until_empty: bool) -> None:
        """Run jobs until `stop` is called, or with `until_empty` until nothing is left.

        Then it waits for the jobs that run. Those that run when the drain time is almost over are handed back.

        Raises:
            StorageError: the schema does not match; with `until_empty` also a database that stayed away for long.
        """
        try:
            self._serve_source(until_empty=until_empty)
        finally:
            # Whatever ended it: handlers at work are waited for, or hand their jobs back.
            self._is_draining = True
            self._finish()

    def stop(self) -> None:
        """Take nothing more; safe to call from a signal handler, and more than once."""
        self._is_draining = True

    def stop_now(self) -> None:
        """Have running handlers stop at their next checkpoint; their jobs go back to the queue. As safe as `stop`."""
        self._is_stopping = True
        self.stop()

    def _serve_source(self, *, until_empty: bool) -> None:
        settings = self._runtime.settings
        give_up_seconds = settings.stale_seconds if until_empty else math.inf
        while not self._is_draining:
            # A thread that has no job left still tells what became of its last one.
            was_idle, turn = not self._threads, _Turn(is_of_thread=False)
            if self._busy < self._concurrency:
                try:
                    turn = insist(self._take_jobs, give_up_seconds=give_up_seconds, unless=lambda: self._is_draining)
                except DatabaseFault:
                    if not self._is_draining:
                        raise
            if turn.started:
                continue
            if until_empty and was_idle:
                return
            self._rest(min(settings.poll_seconds, self._due_seconds()))

    def _take_jobs(self) -> _Turn:
        turn = self._take_turn(_Turn(is_of_thread=False))
        if turn.error is not None:
            raise turn.error
        return turn

    def _due_seconds(self) -> float:
        try:
            return self._source.next_due_seconds() if self._busy < self._concurrency else math.inf
        except DatabaseFault as error:
            logger.warning("trying again: %s", error)
            return math.inf

    def _rest(self, seconds: float) -> None:
        """Wait for work, in short pieces: `stop` only sets a flag, and wakes nothing."""
        rest_until = time.monotonic() + seconds
        while not self._is_draining and (left := rest_until - time.monotonic()) > 0:
            if self._runtime.wakeups.wait(min(left, LOOK_SECONDS)):
                return

    # Exchanges.

    def _take_turn(self, turn: _Turn) -> _Turn:
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
            # Of the process, in its main thread: the ends of the others are handed in again.
            for each in turns:
                each.error = DatabaseUnavailable("the exchange with the database was interrupted")
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
                # One end that the database refuses, or a claim, costs the others nothing.
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
        """Give the threads that wait their next jobs, out of `claimed`; a thread that gets none will end."""
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
            # A daemon: a handler that never comes to a checkpoint must not keep a process alive that was asked to end.
            thread = threading.Thread(target=self._work, args=(job,), name=f"photojobs-job-{job.id}", daemon=True)
            with self._changed:
                self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError as error:
                # The system has no room for another one at the moment.
                logger.warning("job %d: could not be started and goes back: %s", job.id, error, extra=about_job(job))
                self._leave(thread)
                JobsRepository(self._runtime.database).hand_back(job.id, claim_token=str(job.claim_token))
                self._rest(self._runtime.settings.poll_seconds)
        return len(claimed)

    # Threads.

    def _work(self, first: Job) -> None:
        thread, job = threading.current_thread(), first
        try:
            while True:
                turn = self._run_one(job)
                if turn is None:
                    # It has ended in another way than by an exchange.
                    turn = self._take_turn(_Turn())
                    if turn.error is not None:
                        with self._changed:
                            self._busy -= 1
                if turn.next is None:
                    break
                job = turn.next
        finally:
            with self._changed:
                self._threads.discard(thread)
            self._runtime.wakeups.notify()

    def _run_one(self, job: Job) -> _Turn | None:
        """Run a job; returns the turn in which its end was handed in, None if it did not end so."""
        handed_in: list[_Turn] = []

        def hand_in(end: End) -> Job | None:
            checked = None if end.result is None else checked_result(end.result)
            turn = self._take_turn(_Turn(replace(end, result=checked)))
            if turn.error is not None:
                raise turn.error
            handed_in.append(turn)
            return turn.ended

        try:
            on_progress = None if self._reporter is None else self._reporter.began(job)
            ended = run_claimed_job(
                job, self._runtime, stopping=self._stopping, on_progress=on_progress, write_end=hand_in
            )
            if self._reporter is not None:
                self._reporter.ended(job, ended)
        except StorageError as error:
            # The next sweep counts it as an attempt.
            logger.error("job %d: its end could not be stored: %s", job.id, error, extra=about_job(job))
        except Exception:
            logger.exception("job %d: its run broke off", job.id, extra=about_job(job))
        return handed_in[-1] if handed_in else None

    def _leave(self, thread: threading.Thread) -> None:
        with self._changed:
            self._threads.discard(thread)
            self._busy -= 1

    def _finish(self) -> None:
        finish_seconds = max(0.0, self._runtime.settings.drain_seconds - HAND_BACK_SECONDS)
        self._wait_for_threads(finish_seconds, unless=lambda: self._is_stopping)
        self._stopping.set()
        for thread in self._wait_for_threads(HAND_BACK_SECONDS):
            logger.warning("%s: came to no checkpoint; its job will be rescued", thread.name)

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
