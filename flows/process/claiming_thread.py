"""Waiting for slots: one thread claims all jobs that a process waits for, so that rank decides and polling is cheap."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flows.telemetry.log_fields import about_job
from storage.database.engine import Database
from storage.database.thread_ends import wait_for_end
from storage.errors import StorageError
from storage.lifecycle import heartbeats
from storage.queue.claims import Claimant, claim_awaited
from storage.queue.jobs import JobsRepository
from storage.queue.lanes import LanesRepository, free_slots
from storage.queue.wakeups import Wakeups
from storage.records import Job, Lane

logger = logging.getLogger("photojobs.dispatcher")

#: How long the bounds of the lanes are cached. Their slots are read at every claim.
LANES_SECONDS = 5.0

#: Called with the claimed job, or with None if the wait ended without a claim. It must be quick.
Answer = Callable[[Job | None], None]


@dataclass(slots=True, eq=False)
class _Waiter:
    job: Job
    answer: Answer
    on_elsewhere: Callable[[], None] | None


class Dispatcher:
    """Claims the queued jobs that this process waits for, in rank order among all processes.

    Two threads serve all waits; no wait takes a thread of its own.

    Args:
        database: the database that holds the jobs.
        worker_id: the id under which this process claims.
        wakeups: wakes this process when a job was enqueued; it polls if the database sends no notifications.
        poll_seconds: the longest time between two claims, before jitter. The statuses of the waiting jobs are read at
            this interval, and when a delayed job is due.
        concurrency: the highest number of jobs that run at a time.
    """

    def __init__(
        self, database: Database, *, worker_id: str, wakeups: Wakeups, poll_seconds: float, concurrency: int
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._wakeups = wakeups
        self._poll_seconds = poll_seconds
        self._capacity = concurrency
        self._waiters: dict[int, list[_Waiter]] = {}
        self._attended: set[int] = set()
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._looked_at = -math.inf
        self._due_at = math.inf
        self._not_ready: set[int] = set()
        self._lanes: list[Lane] = []
        self._lanes_read_at = -LANES_SECONDS

    def wait_for(
        self,
        job: Job,
        answer: Answer,
        *,
        stopping: threading.Event,
        on_elsewhere: Callable[[], None] | None = None,
    ) -> None:
        """Call `answer` once: with the job when this process has claimed it, or with None if the wait ends otherwise.

        It ends otherwise when the job has ended or was removed, or when this process stops waiting. While the database
        is unavailable, the wait goes on. The caller calls `release` after it has run the job, and sets `stopping`
        before it calls `abandon`.

        Args:
            job: its row as last read, queued or running.
            answer: called in the caller's thread or in one of the dispatcher's threads.
            stopping: once it is set, a new wait ends at once.
            on_elsewhere: called each time that another executor is found to run the job; must be quick.
        """
        with self._lock:
            is_stopped = self._stopped.is_set() or stopping.is_set()
            if not is_stopped:
                self._waiters.setdefault(job.id, []).append(_Waiter(job, answer, on_elsewhere))
                self._start()
        if is_stopped:
            answer(None)
        else:
            self._changed.set()

    def release(self) -> None:
        """Report that a claimed job no longer runs, so that the next may start at once.

        Call it before the end of the job is written. The end frees a slot of the lane; a process that is still full
        could not take it, and would leave it to a job of a lower rank in another process.
        """
        with self._lock:
            self._capacity += 1
        self._changed.set()

    def not_ready(self, task_id: str | None) -> int:
        """Return how many of the waiting jobs of a task cannot begin in this process now; None means standalone jobs.

        Such a job runs in another process, or its next attempt is not due yet.
        """
        with self._lock:
            return sum(
                self._waiters[job_id][0].job.task_id == task_id for job_id in self._not_ready & set(self._waiters)
            )

    def wake(self) -> None:
        """Claim now, without a wakeup: the caller knows of a change that sends none."""
        self._changed.set()

    def look_now(self) -> None:
        """Check at once which of the waiting jobs have ended."""
        self._looked_at = -math.inf
        self._changed.set()

    def abandon(self, task_id: str | None) -> None:
        """Stop waiting for the jobs of a task; None means standalone jobs.

        They stay queued, and no longer keep jobs of lower ranks from being claimed.
        """
        with self._lock:
            job_ids = [id_ for id_, waiters in self._waiters.items() if waiters[0].job.task_id == task_id]
            waiters = [waiter for job_id in job_ids for waiter in self._waiters.pop(job_id)]
        self._dismiss(job_ids, waiters)

    def attended(self) -> list[int]:
        """Return the ids of the queued jobs that this process waits for and sends heartbeats for."""
        with self._lock:
            return [job_id for job_id in self._attended if job_id in self._waiters]

    def close(self) -> None:
        """End all waits and the threads; the jobs no longer keep jobs of lower ranks from being claimed."""
        with self._lock:
            self._stopped.set()
            job_ids = list(self._waiters)
            waiters = [waiter for waiting in self._waiters.values() for waiter in waiting]
            self._waiters.clear()
        self._dismiss(job_ids, waiters)
        self._changed.set()
        self._wakeups.notify()
        for thread in self._threads:
            wait_for_end(thread)

    def _dismiss(self, job_ids: list[int], waiters: list[_Waiter]) -> None:
        try:
            self._leave(job_ids)
        except StorageError as error:
            # Without heartbeats the rows soon stop keeping other jobs back.
            logger.warning("jobs that this process no longer waits for could not be released: %s", error)
        for waiter in waiters:
            waiter.answer(None)

    def _start(self) -> None:
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._run, name="photojobs-dispatcher", daemon=True),
                threading.Thread(target=self._listen, name="photojobs-wakeups", daemon=True),
            ]
            for thread in self._threads:
                thread.start()

    def _run(self) -> None:
        wait_seconds = self._poll_seconds
        while not self._stopped.is_set():
            self._changed.wait(wait_seconds * random.uniform(1.0, 1.25))  # noqa: S311 - no secret.
            self._changed.clear()
            with self._lock:
                waiting = [waiters[0].job for waiters in self._waiters.values()]
            wait_seconds = self._poll_seconds
            if not waiting or self._stopped.is_set():
                continue
            try:
                wait_seconds = self._serve(waiting)
            except StorageError as error:
                logger.warning("waiting for the database: %s", error)
            except Exception:
                # Without this thread no waiting job of this process would ever run.
                logger.exception("jobs could not be claimed; trying again")

    def _listen(self) -> None:
        while not self._stopped.is_set():
            if self._wakeups.wait(self._poll_seconds * 20):
                self._changed.set()

    def _serve(self, waiting: list[Job]) -> float:
        """Claim as many of the waiting jobs as may run. Returns the seconds until the next call, if no wakeup comes."""
        for lane in self._known_lanes():
            own = [job for job in waiting if lane.covers(job.priority)]
            if own:
                self._serve_lane(lane, own)
        if time.monotonic() >= min(self._looked_at + self._poll_seconds, self._due_at):
            self._look(waiting)
        return max(0.0, min(self._looked_at + self._poll_seconds, self._due_at) - time.monotonic())

    def _look(self, waiting: list[Job]) -> None:
        """Find out which of the jobs have ended, and when the first delayed job is due."""
        self._looked_at, self._due_at = time.monotonic(), math.inf
        now = self._database.clock()
        standings = heartbeats.standings(self._database, [job.id for job in waiting])
        not_ready = set[int]()
        for job in waiting:
            standing = standings.get(job.id)
            if standing is None or standing.status not in ("queued", "running"):
                self._answer_ended(job.id)
            elif standing.run_after is not None and standing.run_after > now:
                due_in_seconds = (standing.run_after - now).total_seconds()
                self._due_at = min(self._due_at, self._looked_at + due_in_seconds)
                not_ready.add(job.id)
            elif standing.status == "running":
                not_ready.add(job.id)
                self._report_elsewhere(job.id)
        self._not_ready = not_ready

    def _serve_lane(self, lane: Lane, own: list[Job]) -> None:
        capacity = self._capacity
        if capacity > 0:
            for claimed in self._claim(lane, own, capacity):
                self._hand_out(claimed)
        elif lane.slots is not None and self._has_idle_slot(lane) and self._capacity <= 0:
            # This process is still full, so its waiting jobs must not keep other processes from the idle slot.
            self._leave([job.id for job in own])
            return
        with self._lock:
            newly = [job.id for job in own if job.id in self._waiters and job.id not in self._attended]
            self._attended.update(newly)
        heartbeats.attend(self._database, newly, worker_id=self._worker_id)

    def _claim(self, lane: Lane, own: list[Job], limit: int) -> list[Job]:
        claimant = Claimant(worker_id=self._worker_id, now=self._database.clock())
        return claim_awaited(self._database, claimant, lane=lane, job_ids=[job.id for job in own], limit=limit)

    def _has_idle_slot(self, lane: Lane) -> bool:
        with self._database.begin() as connection:
            return free_slots(connection, lane) > 0

    def _hand_out(self, claimed: Job) -> None:
        with self._lock:
            waiters = self._waiters.get(claimed.id)
            waiter = waiters.pop(0) if waiters else None
            if waiter is not None:
                self._capacity -= 1
            if not waiters:
                self._waiters.pop(claimed.id, None)
            self._attended.discard(claimed.id)
        if waiter is None:
            # No caller waits for it any more. Another executor can take it now, and not only when it counts as stale.
            self._hand_back(claimed)
            return
        waiter.answer(claimed)

    def _hand_back(self, claimed: Job) -> None:
        assert claimed.claim_token is not None  # noqa: S101 - a claim always writes one.
        try:
            JobsRepository(self._database).hand_back(claimed.id, claim_token=claimed.claim_token)
        except StorageError as error:
            logger.warning(
                "job %d: could not go back to the queue; a sweep will requeue it: %s",
                claimed.id,
                error,
                extra=about_job(claimed),
            )

    def _answer_ended(self, job_id: int) -> None:
        with self._lock:
            waiters = self._waiters.pop(job_id, [])
            self._attended.discard(job_id)
        for waiter in waiters:
            waiter.answer(None)

    def _report_elsewhere(self, job_id: int) -> None:
        with self._lock:
            waiters = list(self._waiters.get(job_id, ()))
        for waiter in waiters:
            if waiter.on_elsewhere is not None:
                waiter.on_elsewhere()

    def _leave(self, job_ids: list[int]) -> None:
        with self._lock:
            left = [job_id for job_id in job_ids if job_id in self._attended]
            self._attended.difference_update(left)
        heartbeats.leave(self._database, left)

    def _known_lanes(self) -> list[Lane]:
        if time.monotonic() - self._lanes_read_at > LANES_SECONDS:
            self._lanes = list(LanesRepository(self._database).list())
            self._lanes_read_at = time.monotonic()
        return self._lanes
