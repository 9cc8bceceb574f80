"""Runs one claimed job: finds its handler, calls the handler, and writes the end of the job.

`_fail_or_retry` decides whether a failed job runs again. `flows.errors.is_repeatable` decides after which errors no job
runs again, and `flows.process.retry_delay` computes the delay before the next attempt.
`run_policy` decides which time limit, attempts and delays a job has. At the time limit, `ctx.checkpoint()` raises an
error; `flows.process.heartbeat_thread` interrupts a handler that does not call it. `flows.handlers.failures` decides
whether failed photos fail their job.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from flows.errors import ClaimLost, ExecutorStop, StepTimeout, StopRequested, classed_reason_of, is_repeatable
from flows.execution.task_notes import note_end_of_task, note_start_of_task
from flows.handlers.step import handler_of
from flows.handlers.step_context import StepContext
from flows.process.database_retry import retry_while_unavailable
from flows.process.executor import HAND_BACK_SECONDS, EndWriter
from flows.process.job_claim import JobClaim
from flows.process.retry_delay import backoff_seconds
from flows.telemetry.log_fields import at_work_on
from storage.errors import ConstraintViolated, CorruptDefinition, InvalidValue, UnknownTask
from storage.queue.exchange import End
from storage.queue.jobs import JobsRepository
from storage.records import Job, JobStatus
from task_definitions.errors import PhotojobsError

if TYPE_CHECKING:
    from flows.process.runtime import Runtime

logger = logging.getLogger("photojobs.jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPolicy:
    """The limits and parameters of a job: from its row and its step, and from the settings if these have none."""

    max_attempts: int
    retry_delay_seconds: float
    max_retry_delay_seconds: float
    timeout_seconds: float | None
    params: dict[str, Any]


def run_claimed_job(
    job: Job,
    runtime: Runtime,
    *,
    stopping: threading.Event | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
    write_end: EndWriter | None = None,
) -> Job | None:
    """Run a claimed job to its end, or requeue it for another attempt. Return its new row; None if the row was removed.

    Errors of the handler are stored in the row and not raised, except an interruption of the process, such as Ctrl-C.
    After a claim, the caller must call this function or hand the job back; otherwise the job stays `running` until its
    heartbeat is stale.

    Args:
        job: the job's row as the claim returned it, with its `claim_token`.
        runtime: the runtime of this process.
        stopping: once set, the handler stops at its next checkpoint and the job goes back to the queue.
        on_progress: called with `done` and `total` after each write of the progress, and once before the first write if
            the handler takes long to report progress.
        write_end: a function that writes the end of the job; by default `JobsRepository.end`.

    Raises:
        StorageError: the end of the job could not be stored; the next sweep counts the run as an attempt.
    """
    claim = JobClaim(
        runtime.database,
        job,
        trusted_seconds=2 * runtime.settings.heartbeat_seconds,
        stopping=stopping or threading.Event(),
    )
    # Heartbeats begin first: if an error ends the run, a sweep finds the claim and counts an attempt. Heartbeats
    # continue until the job's end is written, so that no other process rescues a job whose work is done.
    with runtime.heartbeat.for_claim(claim), at_work_on(job), runtime.tracing.job(job) as span:
        runtime.events.job_running(job)
        note_start_of_task(job, runtime)
        ended = _run_to_an_end(claim, runtime, on_progress, write_end)
        if ended is None:
            ended = retry_while_unavailable(
                lambda: JobsRepository(runtime.database).get_by_id(job.id), unless=claim.stopping.is_set
            )
        span.ended(ended)
        if ended is not None:
            runtime.events.job_ended(ended)
            note_end_of_task(ended, runtime)
    return ended


def run_policy(job: Job, runtime: Runtime) -> RunPolicy:
    """Return the limits and parameters of a job. The runtime caches the definitions of recent tasks."""
    settings = runtime.settings
    step = None
    if job.task_id is not None and job.step_index is not None:
        pinned = runtime.pinned_definition(str(job.task_id))
        if job.step_index < pinned.follow_up_index:
            step = pinned.steps[job.step_index].definition
    delay = step.retry_delay_seconds if step is not None else None
    return RunPolicy(
        max_attempts=job.max_attempts or settings.max_attempts,
        retry_delay_seconds=settings.retry_delay_seconds if delay is None else delay,
        max_retry_delay_seconds=settings.max_retry_delay_seconds,
        timeout_seconds=None if step is None else step.timeout_seconds,
        params={} if step is None else dict(step.params),
    )


def _run_to_an_end(
    claim: JobClaim,
    runtime: Runtime,
    on_progress: Callable[[int, int | None], None] | None,
    write_end: EndWriter | None,
) -> Job | None:
    """Run the handler and write the outcome. Return the job's new row, or None if the claim was lost."""
    job, jobs = claim.job, JobsRepository(runtime.database)
    end = partial(_end, claim, write_end or jobs.end)
    try:
        policy = claim.retry_while_unavailable(lambda: run_policy(job, runtime))
    except (UnknownTask, CorruptDefinition) as error:
        # Another attempt would fail in the same way, so the job fails at once.
        return end(JobStatus.FAILED, f"the job cannot be run: {error}")
    if policy.timeout_seconds is not None:
        claim.deadline = time.monotonic() + policy.timeout_seconds
    context = StepContext(
        claim,
        runtime,
        params=policy.params,
        logger=logging.LoggerAdapter(
            logging.getLogger(f"photojobs.steps.{job.type}"),
            {"task_id": job.task_id, "job_id": job.id, "tenant_id": job.tenant_id},
        ),
        on_progress=on_progress,
    )
    try:
        with runtime.heartbeat.time_limit(claim):
            _run_handler(context)
    except BaseException as error:
        if isinstance(error, ClaimLost) and claim.lost.is_set():
            logger.info("%s", error)
            return None
        if isinstance(error, StopRequested) and claim.stopping.is_set():
            context.keep_report()
            return retry_while_unavailable(
                lambda: jobs.hand_back(job.id, claim_token=claim.token), give_up_seconds=HAND_BACK_SECONDS
            )
        if _interrupts_the_process(error):
            # The job did not cause the error, so this run is not counted as an attempt.
            jobs.hand_back(job.id, claim_token=claim.token)
            raise
        return _fail_or_retry(context, runtime, policy, error, end)
    return end(JobStatus.COMPLETED, result=context.report.to_json())


def _interrupts_the_process(error: BaseException) -> bool:
    # A signal raises such an error only in the main thread. In any other thread, the handler of the step raised it.
    is_from_outside = not isinstance(error, Exception | SystemExit | ExecutorStop)
    return is_from_outside and threading.current_thread() is threading.main_thread()


def _run_handler(context: StepContext) -> None:
    handler = handler_of(context.job.type)
    _ = context.payload
    context.checkpoint()
    try:
        handler(context)
    finally:
        try:
            if not context.claim.lost.is_set():
                context.finish()
        finally:
            context.outcomes.emit_event()
    context.failures.raise_if_any()


def _fail_or_retry(
    context: StepContext, runtime: Runtime, policy: RunPolicy, error: BaseException, end: Callable[..., Job | None]
) -> Job | None:
    job, token = context.job, context.claim.token
    message = classed_reason_of(error)
    deadline = context.claim.deadline
    if isinstance(error, StepTimeout) and deadline is not None and time.monotonic() >= deadline:
        limit = f"{policy.timeout_seconds:g} s"
        message = (
            f"timed out: the job ran for longer than the timeout_seconds of its step ({limit}); "
            "raise this limit for slow work"
        )
    known = isinstance(error, PhotojobsError | OSError)
    logger.warning("job %d (%s): %s", job.id, job.type, message, exc_info=None if known else error)
    jobs = JobsRepository(runtime.database)
    failures = job.attempts + 1
    if not is_repeatable(error) or failures >= policy.max_attempts:
        return end(JobStatus.FAILED, message, result=context.report.to_json())
    wait_seconds = backoff_seconds(
        failures, first_seconds=policy.retry_delay_seconds, longest_seconds=policy.max_retry_delay_seconds
    )
    context.keep_report()
    run_after = runtime.database.clock() + timedelta(seconds=wait_seconds)
    return context.claim.retry_while_unavailable(
        lambda: jobs.retry_later(job.id, message, run_after=run_after, claim_token=token),
        stopping_seconds=HAND_BACK_SECONDS,
    )


def _end(
    claim: JobClaim,
    write_end: EndWriter,
    status: JobStatus,
    message: str | None = None,
    *,
    result: Mapping[str, Any] | None = None,
) -> Job | None:
    """Write the end of a job. If the database refuses the message or the result, fail the job with the reason."""
    job, token = claim.job, claim.token
    end = End(job_id=job.id, claim_token=token, status=status, error_message=message, result=result)
    try:
        return claim.retry_while_unavailable(partial(write_end, end), stopping_seconds=HAND_BACK_SECONDS)
    except (InvalidValue, ConstraintViolated) as error:
        reason = f"the job ran, but its end could not be stored: {error}"
        logger.warning("job %d (%s): %s", job.id, job.type, reason)
        failure = End(job_id=job.id, claim_token=token, status=JobStatus.FAILED, error_message=reason)
        return claim.retry_while_unavailable(partial(write_end, failure), stopping_seconds=HAND_BACK_SECONDS)
