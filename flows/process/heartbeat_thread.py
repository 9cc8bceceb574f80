"""The thread that writes the heartbeats of a process: of the jobs it runs or waits for, and the tasks it follows.

The thread also interrupts handlers that run for longer than the time limit of their step. `storage.queue.rescue`
decides what becomes of jobs whose heartbeats stop. The setting `heartbeat_seconds` is the time between two heartbeats
of a running job.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flows.errors import StepTimeout, reason_of
from flows.process.job_claim import JobClaim, awake_or_asleep
from storage.database.answer_watch import wait_for_end
from storage.database.engine import Database
from storage.errors import StorageError
from storage.lifecycle import heartbeats
from storage.lifecycle.heartbeats import WAITER_STALE_SECONDS
from storage.queue.tasks import TasksRepository

logger = logging.getLogger("photojobs.heartbeat")

#: How long after its deadline a handler that reaches no checkpoint is interrupted by an exception.
TIMEOUT_GRACE_SECONDS = 1.0


class Heartbeat:
    """Writes heartbeats from its own thread, so that a handler that computes for hours does not delay them.

    The thread starts with the first job or task.

    Args:
        database: the database with the jobs.
        worker_id: the id of this process.
        interval_seconds: the time between two heartbeats of a running job. The queued jobs in `waiting`, and the tasks
            that this process follows, get one at least every five seconds.
        waiting: returns the ids of the queued jobs for which this process keeps the next slots.
    """

    def __init__(
        self, database: Database, *, worker_id: str, interval_seconds: float, waiting: Callable[[], Sequence[int]]
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._interval_seconds = interval_seconds
        self._waiting_interval_seconds = min(interval_seconds, WAITER_STALE_SECONDS / 3)
        self._waiting = waiting
        # The key is the token, because this process may lose a job and claim it again while the first handler runs.
        self._claims: dict[str, JobClaim] = {}
        self._broken_off: dict[JobClaim, str] = {}
        self._limits: dict[int, float] = {}
        self._tasks: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def for_claim(self, claim: JobClaim) -> Iterator[None]:
        """Send heartbeats for a claim while the block runs. If the block raises, `broken_off` lists the claim."""
        with self._lock:
            self._claims[claim.token] = claim
        self.start()
        try:
            yield
        except BaseException as error:
            with self._lock:
                self._broken_off[claim] = reason_of(error)
            raise
        finally:
            with self._lock:
                self._claims.pop(claim.token, None)

    @contextmanager
    def time_limit(self, claim: JobClaim) -> Iterator[None]:
        """Raise `StepTimeout` in the block if it still runs `TIMEOUT_GRACE_SECONDS` after the claim's deadline."""
        if claim.deadline is None:
            yield
            return
        thread_id = threading.get_ident()
        try:
            # Interrupts are sent under the lock, so that none can arrive within `_wake.set` and leave `_wake` locked.
            with self._lock:
                self._limits[thread_id] = claim.deadline + TIMEOUT_GRACE_SECONDS
                self._wake.set()
            yield
        finally:
            try:
                self._lift_limit(thread_id)
            except StepTimeout:
                # The interrupt arrived while the limit was being removed. A second interrupt cannot follow so soon.
                self._lift_limit(thread_id)

    @contextmanager
    def for_task(self, task_id: str) -> Iterator[None]:
        """Record regularly, while the block runs, that this process follows a task."""
        TasksRepository(self._database).heartbeat([task_id])
        with self._lock:
            self._tasks[task_id] += 1
        self.start()
        try:
            yield
        finally:
            with self._lock:
                self._tasks -= Counter([task_id])

    def start(self) -> None:
        """Start the thread if it does not run yet."""
        with self._lock:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="photojobs-heartbeat", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop the thread, so that this process writes no more heartbeats."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            wait_for_end(self._thread)

    def running(self) -> list[JobClaim]:
        """Return the claims that get heartbeats now."""
        with self._lock:
            return list(self._claims.values())

    def known_tokens(self) -> set[str]:
        """Return the tokens of all claims that this process has begun and not ended."""
        with self._lock:
            return {*self._claims, *(claim.token for claim in self._broken_off)}

    def broken_off(self) -> dict[JobClaim, str]:
        """Return the claims whose block raised an error, each with the reason.

        The ends of their jobs may not have been written. After the caller has given up a claim, it calls `forget`.
        """
        with self._lock:
            return dict(self._broken_off)

    def forget(self, claim: JobClaim) -> None:
        """Remove a claim from `broken_off`."""
        with self._lock:
            self._broken_off.pop(claim, None)

    def _run(self) -> None:
        next_for_running = time.monotonic() + self._interval_seconds
        next_for_waiting = time.monotonic() + self._waiting_interval_seconds
        while not self._stopped.is_set():
            wake_at = min(next_for_running, next_for_waiting, self._next_interrupt_at())
            self._wake.wait(max(0.0, wake_at - time.monotonic()))
            self._wake.clear()
            self._interrupt_overdue()
            if time.monotonic() >= next_for_running:
                self._try(self._write_for_running)
                next_for_running = time.monotonic() + self._interval_seconds
            if time.monotonic() >= next_for_waiting:
                self._try(self._write_for_waiting)
                next_for_waiting = time.monotonic() + self._waiting_interval_seconds

    def _write_for_running(self) -> None:
        claims = self.running()
        asked_at = awake_or_asleep()
        lost = heartbeats.write_heartbeats(self._database, [(claim.job.id, claim.token) for claim in claims])
        for claim in claims:
            if claim.token in lost:
                claim.lost.set()
            else:
                claim.confirm(asked_at)
        heartbeats.renew_project_claims(self._database, lost)

    def _write_for_waiting(self) -> None:
        heartbeats.record_waiting(self._database, self._waiting(), worker_id=self._worker_id)
        with self._lock:
            task_ids = list(self._tasks)
        TasksRepository(self._database).heartbeat(task_ids)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except StorageError as error:
            # The database may come back before the jobs count as stale. Until then, each handler asks the database at
            # its checkpoints whether its claim is still valid.
            logger.warning("heartbeats could not be written (%s); this process tries again", error)
        except Exception:
            # The thread must continue, because all jobs of this process would otherwise count as stale.
            logger.exception("heartbeats could not be written; this process tries again")

    def _next_interrupt_at(self) -> float:
        with self._lock:
            return min(self._limits.values(), default=float("inf"))

    def _interrupt_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            for thread_id, interrupt_at in self._limits.items():
                if now >= interrupt_at:
                    # The handler gets time to unwind before it is interrupted again.
                    self._limits[thread_id] = now + max(self._interval_seconds, TIMEOUT_GRACE_SECONDS)
                    _interrupt(thread_id)

    def _lift_limit(self, thread_id: int) -> None:
        """Remove the limit of the calling thread. An interrupt that was sent before is raised here."""
        # An interrupt is not withdrawn by sending None: on Python 3.12 and earlier, this would slow down all calls of
        # the process from then on, or stop it if it is traced or profiled.
        with self._lock:
            self._limits.pop(thread_id, None)


def _interrupt(thread_id: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(StepTimeout))
