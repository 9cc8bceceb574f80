"""Waiting for slots: one thread claims for all that a process waits for, so that rank decides and polling is cheap."""

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

#: How long the bounds of the lanes are remembered; their slots are read at every claim.
LANES_SECONDS = 5.0

#: Called with the claimed job, or with None if nothing is to be waited for any more; must be quick.
Answer = Callable[[Job | None], None]


@dataclass(slots=True, eq=False)
class _Waiter:
    job: Job
    answer: Answer
    on_elsewhere: Callable[[], None] | None


class Dispatcher:
    """Claims the queued jobs that are waited for, in rank order among all processes. No thread waits for one job.

    Args:
        database: where the jobs are.
        worker_id: who claims.
        wakeups: wakes this process when a job was enqueued; polled where the database cannot tell.
        poll_seconds: the longest time between two looks, with jitter; how the jobs stand that are waited for is not
            looked at more often, but when one is due.
        concurrency: how many jobs are given out at a time, at most.
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
        """Have `answer` called once with the job when it is claimed; call `release` when it has been run.

        It is called with None when the job has ended or is gone, or when this process stops waiting: a caller of
        `abandon` sets `stopping` before. While the database is away, the job is waited for.

        Args:
            job: as it was read, queued or running.
            answer: called in this thread or in one of the dispatcher.
            stopping: once it is set, nothing more is waited for.
            on_elsewhere: called whenever another executor is seen to run the job; must be quick.
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
        """Say that an acquired job has been run, so that the next may start at once.

        Call it before the job's end is written: in between, this process would have no room for the slot that frees,
        and leave it to a lower rank elsewhere.
        """
        with self._lock:
            self._capacity += 1
        self._changed.set()

    def not_ready(self, task_id: str | None) -> int:
        """How many of the waited-for jobs of a task, or of none, cannot begin here now.

        Another process runs them, or their next attempt is to come later.
        """
        with self._lock:
            return sum(
                self._waiters[job_id][0].job.task_id == task_id for job_id in self._not_ready & set(self._waiters)
            )

    def wake(self) -> None:
        """Claim now: something has changed that no wakeup tells."""
        self._changed.set()

    def look_now(self) -> None:
        """See at once which of the jobs that are waited for have ended."""
        self._looked_at = -math.inf
        self._changed.set()

    def abandon(self, task_id: str | None) -> None:
        """Stop waiting for the jobs of a task, or for those that have none; they stay queued and hold nobody back."""
        with self._lock:
            job_ids = [id_ for id_, waiters in self._waiters.items() if waiters[0].job.task_id == task_id]
            waiters = [waiter for job_id in job_ids for waiter in self._waiters.pop(job_id)]
        self._dismiss(job_ids, waiters)

    def attended(self) -> list[int]:
        """The ids of the queued jobs that are waited for, and that this process beats for."""
        with self._lock:
            return [job_id for job_id in self._attended if job_id in self._waiters]

    def close(self) -> None:
        """Stop waiting; every waiter returns, and its job holds nobody back any more."""
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
            # Without a beat the rows stop holding others back by themselves.
            logger.warning("could not leave the queue: %s", error)
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
                # Without this thread nothing that is waited for here would ever run.
                logger.exception("could not claim; trying again")

    def _listen(self) -> None:
        while not self._stopped.is_set():
            if self._wakeups.wait(self._poll_seconds * 20):
                self._changed.set()

    def _serve(self, waiting: list[Job]) -> float:
        """Claim what may be claimed for those who wait; returns after how many seconds to do so again unless woken."""
        for lane in self._known_lanes():
            own = [job for job in waiting if lane.covers(job.priority)]
            if own:
                self._serve_lane(lane, own)
        if time.monotonic() >= min(self._looked_at + self._poll_seconds, self._due_at):
            self._look(waiting)
        return max(0.0, min(self._looked_at + self._poll_seconds, self._due_at) - time.monotonic())

    def _look(self, waiting: list[Job]) -> None:
        """See which of the jobs have ended, and when the first of the delayed ones is due."""
        self._looked_at, self._due_at = time.monotonic(), math.inf
        now = self._database.clock()
        standings = heartbeats.standings(self._database, [job.id for job in waiting])
        not_ready = set[int]()
        for job in waiting:
            standing = standings.get(job.id)
            if standing is None or standing.status not in ("queued", "running"):
                self._tell_ended(job.id)
            elif standing.run_after is not None and standing.run_after > now:
                due_in_seconds = (standing.run_after - now).total_seconds()
                self._due_at = min(self._due_at, self._looked_at + due_in_seconds)
                not_ready.add(job.id)
            elif standing.status == "running":
                not_ready.add(job.id)
                self._tell_elsewhere(job.id)
        self._not_ready = not_ready

    def _serve_lane(self, lane: Lane, own: list[Job]) -> None:
        capacity = self._capacity
        if capacity > 0:
            for claimed in self._claim(lane, own, capacity):
                self._hand_out(claimed)
        elif lane.slots is not None and self._has_idle_slot(lane) and self._capacity <= 0:
            # This process cannot use it, not even now that it was found, so its jobs must not keep others from it.
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
            # Nobody waits for it any more: another executor shall have it now, not when it counts as stale.
            self._hand_back(claimed)
            return
        waiter.answer(claimed)

    def _hand_back(self, claimed: Job) -> None:
        assert claimed.claim_token is not None  # noqa: S101 - a claim always writes one.
        try:
            JobsRepository(self._database).hand_back(claimed.id, claim_token=claimed.claim_token)
        except StorageError as error:
            logger.warning(
                "job %d: could not be handed back and will be rescued: %s", claimed.id, error, extra=about_job(claimed)
            )

    def _tell_ended(self, job_id: int) -> None:
        with self._lock:
            waiters = self._waiters.pop(job_id, [])
            self._attended.discard(job_id)
        for waiter in waiters:
            waiter.answer(None)

    def _tell_elsewhere(self, job_id: int) -> None:
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
