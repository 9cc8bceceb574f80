"""The sweep, which processes repeat: it requeues lost jobs, makes delayed jobs ready, and settles stuck tasks.

To settle a task is to create the jobs of its next step, or to end the task, after all jobs of a step have ended.
`storage.queue.rescue` decides which jobs are lost.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from flows.process.job_claim import JobClaim
from flows.process.runtime import Runtime
from flows.telemetry.log_fields import about_job
from storage.database.answer_watch import wait_for_end
from storage.errors import StorageError
from storage.queue.claims import promote_due
from storage.queue.rescue import Rescued, find_silent, give_back_lost, give_up_attempt, rescue_stale
from storage.queue.tasks import TasksRepository

logger = logging.getLogger("photojobs.sweep")

#: The longest time between two sweeps of a process. Several processes may sweep at the same time.
SWEEP_SECONDS = 5.0

#: The time between the two checks that a job has no recent heartbeat, as a number of heartbeat intervals.
DOUBT_HEARTBEATS = 1.5

#: The age from which a claim counts as lost, as a number of heartbeat intervals. This concerns claims whose rows name
#: this process although the process does not know them, because the database's answer never arrived. The age must be
#: longer than the time for which a process relies on a claim without asking the database.
LOST_HEARTBEATS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How many jobs a sweep requeued, failed and made ready, and how many tasks it settled."""

    requeued: int
    failed: int
    made_ready: int
    settled: int


def sweep(runtime: Runtime, *, stopped: threading.Event | None = None) -> Swept:
    """Rescue jobs of dead executors, make delayed jobs ready, and settle tasks whose jobs other programs ended by SQL.

    Jobs of this process are rescued, too, if the process never got the answer to their claim, or could not store their
    end.

    A rescued job returns to the queue, or fails if no attempt is left. A job whose claim was never answered
    always returns to the queue.

    All other jobs are rescued only if two checks, more than one heartbeat interval apart, find no recent heartbeat. One
    check is not enough: after the machine has slept, or the database was unavailable, no job has a recent heartbeat
    until its executor writes one.
    """
    settings, database = runtime.settings, runtime.database
    with database.begin() as connection:
        made_ready = promote_due(connection, now=database.clock())
    tasks = TasksRepository(database)
    stuck = tasks.list_stuck()
    for task in stuck:
        tasks.settle(task.id)
    unanswered = give_back_lost(
        database,
        worker_id=runtime.worker_id,
        known=runtime.heartbeat.known_tokens(),
        older_than_seconds=LOST_HEARTBEATS * settings.heartbeat_seconds,
    )
    for job_id in unanswered:
        logger.warning(
            "job %d: this process claimed the job, but never got the database's answer; the job is queued again",
            job_id,
            extra={"job_id": job_id},
        )
    given_up = [_give_up(claim, reason, runtime) for claim, reason in runtime.heartbeat.broken_off().items()]
    suspects = find_silent(database, stale_seconds=settings.stale_seconds)
    rescued = Rescued(requeued=(), failed=())
    if suspects and not (stopped or threading.Event()).wait(DOUBT_HEARTBEATS * settings.heartbeat_seconds):
        rescued = rescue_stale(
            database, stale_seconds=settings.stale_seconds, max_attempts=settings.max_attempts, suspects=suspects
        )
    for job_id in rescued.requeued:
        logger.warning(
            "job %d: the process that ran the job sent no heartbeat and has probably died; the job is queued again",
            job_id,
            extra={"job_id": job_id},
        )
    for job_id in rescued.failed:
        logger.warning(
            "job %d: the process that ran the job sent no heartbeat and has probably died; no attempt was "
            "left, so the job failed; `photojobs jobs retry %d` queues it again",
            job_id,
            job_id,
            extra={"job_id": job_id},
        )
    return Swept(
        requeued=len(unanswered) + sum(len(each.requeued) for each in (rescued, *given_up)),
        failed=sum(len(each.failed) for each in (rescued, *given_up)),
        made_ready=made_ready,
        settled=len(stuck),
    )


def _give_up(claim: JobClaim, reason: str, runtime: Runtime) -> Rescued:
    given_up = give_up_attempt(
        runtime.database,
        job_id=claim.job.id,
        claim_token=claim.token,
        max_attempts=runtime.settings.max_attempts,
        reason=f"its end could not be stored: {reason}",
    )
    runtime.heartbeat.forget(claim)
    if given_up.requeued or given_up.failed:
        became = (
            "the job is queued again"
            if given_up.requeued
            else f"no attempt was left, so the job failed; `photojobs jobs retry {claim.job.id}` queues it again"
        )
        logger.warning(
            "job %d: the end of the attempt could not be stored (%s); %s",
            claim.job.id,
            reason,
            became,
            extra=about_job(claim.job),
        )
    return given_up


class Sweeper:
    """Calls `sweep` repeatedly in its own thread while the block of this context manager runs."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._interval_seconds = min(SWEEP_SECONDS, runtime.settings.stale_seconds)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="photojobs-sweeper", daemon=True)

    def __enter__(self) -> Sweeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        wait_for_end(self._thread)

    def _run(self) -> None:
        while True:
            try:
                swept = sweep(self._runtime, stopped=self._stopped)
                if swept.requeued or swept.made_ready or swept.settled:
                    self._runtime.wakeups.notify()
            except StorageError as error:
                logger.warning(
                    "the database failed (%s), so jobs of dead processes could not be searched for; the search "
                    "runs again in %g s",
                    error,
                    self._interval_seconds,
                )
            except Exception:
                # The thread must continue, because this process would otherwise rescue no more jobs.
                logger.exception(
                    "an unexpected error ended the search for jobs of dead processes; the search runs again in %g s",
                    self._interval_seconds,
                )
            if self._stopped.wait(self._interval_seconds):
                return
