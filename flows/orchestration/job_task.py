"""The generic Prefect task. Each of its runs represents one job, and ends in the state of the job.

The task run runs the job, or waits until another process has run it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Failed

from flows.execution.followed_run import FollowedRun, OnProgress
from flows.orchestration.artifacts import ProgressBar
from flows.orchestration.prefect_events import emit_to_prefect
from flows.process.runtime import Runtime
from flows.starting.deployment_names import task_run_tags
from storage.records import Job


def _without_empty_traceback(record: logging.LogRecord) -> bool:
    # Prefect logs a returned state like an exception, with "NoneType: None" in place of the traceback.
    if record.exc_info is not None and record.exc_info[0] is None:
        record.exc_info = None
    return True


logging.getLogger("prefect.task_runs").addFilter(_without_empty_traceback)


def state_unless_completed(job: Job | None, job_id: int) -> State[Any] | None:
    """Return the final state of a task run whose job was followed; None means that the job completed."""
    if job is None:
        return Cancelled(message=f"job {job_id} was removed from the database before it ended")
    if not job.is_final:
        return Cancelled(message=f"this process stopped waiting for job {job_id}; the job stays in the queue")
    if job.status == "failed":
        return Failed(
            message=job.error_message
            or f"job {job_id} failed, and its row has no reason; `photojobs jobs show {job_id}` shows the job"
        )
    if job.status == "canceled":
        return Cancelled(message=job.error_message or f"job {job_id} was canceled")
    return None


class _WithProgress(FollowedRun):
    """Runs a followed job and shows its progress."""

    @contextmanager
    def running(self, job: Job) -> Iterator[OnProgress]:
        """Show the progress of the job as an artifact."""
        yield ProgressBar(job).show


@task(persist_result=False, cache_policy=NO_CACHE)
def run_job(job_id: int, position: str) -> Any:
    """Follow a job to its end. Return the final state of the task run; None if the job completed.

    The calling thread waits for the job. `position`, such as `3/40`, is a part of the task run's name.

    Dask's workers and Prefect's own task engine call this function. In all other cases `JobTaskRunner` follows the job.
    """
    runtime = Runtime.current()
    # In a Dask worker, no other code listens to the events, so a listener is added here.
    runtime.events.listen(emit_to_prefect)
    return state_unless_completed(runtime.followed.follow(job_id, _WithProgress(runtime)).result(), job_id)


def task_for(job: Job) -> Task[[int, str], Any]:
    """Return the generic task for jobs of the same task, type and priority; `job` is one of them."""
    return run_job.with_options(name=job.type, task_run_name=f"{job.type} {{position}}", tags=task_run_tags(job))
