"""A worker: claims the best jobs, lane by lane, and runs them, without Prefect."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flows.execution.job_run import run_claimed_job
from flows.execution.sweep import Sweeper, sweep
from flows.process.patience import insist
from flows.process.runtime import Runtime
from flows.telemetry.log_fields import about_job
from storage.errors import DatabaseFault, StorageError
from storage.queue.claims import Claimant
from storage.queue.claims_from_lanes import claim_from_lanes, next_due_at
from storage.queue.jobs import JobsRepository
from storage.queue.lanes import LanesRepository
from storage.queue.turnover import complete_and_claim
from storage.records import Job

logger = logging.getLogger("photojobs.worker")

#: Handlers that are asked to stop have so long to come to a checkpoint and hand their jobs back; it is the last part of
#: the drain time, as whatever stops the process may kill it then.
HAND_BACK_SECONDS = 5.0

#: How often a worker looks whether it was asked to stop.
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainSummary:
    """How the jobs ended that a worker ran; a job that is to be repeated counts each time as `queued`."""

    ended: dict[str, int]

    @property
    def total(self) -> int:
        """How many runs of jobs there were."""
        return sum(self.ended.values())


class Worker:
    """Runs jobs of any task and standalone ones, as many at a time as the setting `concurrency` says.

    Args:
        runtime: what the executors of this process share.
        lanes: names of the lanes to serve; by default all, the highest first.
        tenant_id: serve only this tenant.
    """

    def __init__(self, runtime: Runtime, *, lanes: Sequence[str] | None = None, tenant_id: str | None = None) -> None:
        self._runtime = runtime
        self._jobs = JobsRepository(runtime.database)
        known = LanesRepository(runtime.database)
        self._lanes = [known.get(name).name for name in lanes] if lanes else [lane.name for lane in known.list()]
        self._tenant_id = tenant_id
        # Plain flags: a signal handler must take no lock, which the code that it interrupts may hold.
        self._is_draining = False
        self._is_stopping = False
        #: What handlers see of it.
        self._stopping = threading.Event()
        # Appended to by several threads; a counter would lose some.
        self._ended: list[str] = []

    def run(self) -> DrainSummary:
        """Work until `stop` is called, then finish what runs, or hand it back, within `drain_seconds`."""
        with Sweeper(self._runtime):
            return self._work(until_empty=False)

    def drain(self) -> DrainSummary:
        """Work off everything that may run now, and return when nothing is left to claim."""
        sweep(self._runtime)
        return self._work(until_empty=True)

    def stop(self) -> None:
        """Claim nothing more; safe to call from a signal handler, and more than once."""
        self._is_draining = True

    def stop_now(self) -> None:
        """Have running handlers stop at their next checkpoint; their jobs go back to the queue. As safe as `stop`."""
        self._is_stopping = True
        self.stop()

    def _work(self, *, until_empty: bool) -> DrainSummary:
        running: set[threading.Thread] = set()
        try:
            self._claim_and_start(running, until_empty=until_empty)
        finally:
            # Whatever ended it: handlers at work are waited for, or hand their jobs back.
            self._finish(running)
        return DrainSummary(ended=dict(Counter(self._ended)))

    def _claim_and_start(self, running: set[threading.Thread], *, until_empty: bool) -> None:
        settings = self._runtime.settings
        while not self._is_draining:
            running.difference_update([thread for thread in running if not thread.is_alive()])
            claimed, rest_seconds = None, settings.poll_seconds
            if len(running) < settings.concurrency:
                claimed, rest_seconds = self._claim_patiently(settings.stale_seconds if until_empty else math.inf)
            if claimed is not None:
                running.add(self._start(claimed))
            elif until_empty and not running:
                break
            else:
                self._rest(rest_seconds)

    def _rest(self, seconds: float) -> None:
        """Wait for work, in short pieces: `stop` only sets a flag, and wakes nothing."""
        rest_until = time.monotonic() + seconds
        while not self._is_draining and (left := rest_until - time.monotonic()) > 0:
            if self._runtime.wakeups.wait(min(left, LOOK_SECONDS)):
                return

    def _claim_patiently(self, give_up_seconds: float) -> tuple[Job | None, float]:
        """The claimed job, or for how long to rest unless woken."""
        try:
            return insist(self._claim, give_up_seconds=give_up_seconds, unless=lambda: self._is_draining)
        except DatabaseFault:
            if not self._is_draining:
                raise
            return None, 0.0

    def _claim(self) -> tuple[Job | None, float]:
        database, rest_seconds = self._runtime.database, self._runtime.settings.poll_seconds
        job = claim_from_lanes(database, self._runtime.worker_id, self._lanes, tenant_id=self._tenant_id)
        if job is not None:
            return job, 0.0
        due_at = next_due_at(database)
        if due_at is not None and (until_due := (due_at - database.clock()).total_seconds()) > 0:
            rest_seconds = min(rest_seconds, until_due)
        return None, rest_seconds

    def _start(self, job: Job) -> threading.Thread:
        # A daemon: a handler that never comes to a checkpoint must not keep a process alive that was asked to end.
        thread = threading.Thread(target=self._run, args=(job,), name=f"photojobs-job-{job.id}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The system has no room for another one at the moment.
            logger.warning("job %d: could not be started and goes back: %s", job.id, error, extra=about_job(job))
            self._jobs.hand_back(job.id, claim_token=str(job.claim_token))
            self._rest(self._runtime.settings.poll_seconds)
        return thread

    def _run(self, first: Job) -> None:
        job: Job | None = first
        while job is not None:
            job = self._run_one(job)
        self._runtime.wakeups.notify()

    def _run_one(self, job: Job) -> Job | None:
        """Run a job; returns the next one, where its end claimed one."""
        claimed: list[Job] = []

        def complete(job: Job, result: dict[str, Any]) -> Job | None:
            if self._runtime.database.is_postgresql and not self._is_draining:
                turnover = complete_and_claim(
                    self._runtime.database,
                    job,
                    Claimant(worker_id=self._runtime.worker_id, now=self._runtime.database.clock()),
                    lanes=self._lanes,
                    tenant_id=self._tenant_id,
                    result=result,
                )
                if turnover is not None:
                    claimed.extend([] if turnover.claimed is None else [turnover.claimed])
                    return turnover.ended
            return self._jobs.complete(job.id, claim_token=job.claim_token, result=result)

        try:
            ended = run_claimed_job(job, self._runtime, stopping=self._stopping, complete=complete)
            self._ended.append(ended.status if ended is not None else "gone")
        except StorageError as error:
            # The next sweep counts it as an attempt.
            logger.error("job %d: its end could not be stored: %s", job.id, error, extra=about_job(job))
        except Exception:
            logger.exception("job %d: its run broke off", job.id, extra=about_job(job))
        return claimed[0] if claimed else None

    def _finish(self, running: set[threading.Thread]) -> None:
        finish_seconds = max(0.0, self._runtime.settings.drain_seconds - HAND_BACK_SECONDS)
        self._wait_for(running, finish_seconds, unless=lambda: self._is_stopping)
        self._stopping.set()
        left = self._wait_for(running, HAND_BACK_SECONDS)
        for thread in left:
            logger.warning("%s: came to no checkpoint; its job will be rescued", thread.name)

    def _wait_for(
        self, running: set[threading.Thread], limit_seconds: float, *, unless: Callable[[], bool] = lambda: False
    ) -> set[threading.Thread]:
        give_up_at = time.monotonic() + limit_seconds
        while True:
            running = {thread for thread in running if thread.is_alive()}
            if not running or unless() or time.monotonic() > give_up_at:
                return running
            next(iter(running)).join(min(limit_seconds, LOOK_SECONDS))


def drain_queue(
    *,
    lane: str | None = None,
    tenant_id: str | None = None,
    runtime: Runtime | None = None,
) -> DrainSummary:
    """Work off the jobs that wait, the best of each lane first, and return when nothing is left to claim.

    Args:
        lane: only this lane; by default all of them, the highest first.
        tenant_id: only this tenant.
        runtime: by default the one of this process.

    Raises:
        UnknownLane: there is no such lane.
    """
    worker = Worker(runtime or Runtime.current(), lanes=None if lane is None else [lane], tenant_id=tenant_id)
    return worker.drain()
