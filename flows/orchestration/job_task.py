"""The one generic Prefect task: it stands for a job, runs it here or follows it where it runs, and ends as it ended."""

from __future__ import annotations

import logging
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Failed

from flows.execution.job_following import follow_to_end
from flows.orchestration.artifacts import ProgressBar
from flows.orchestration.prefect_events import emit_to_prefect
from flows.process.runtime import Runtime
from storage.queue.lanes import lane_name


def _without_empty_traceback(record: logging.LogRecord) -> bool:
    # Prefect logs a state that is returned as it logs an exception, and "NoneType: None" in place of the traceback.
    if record.exc_info is not None and record.exc_info[0] is None:
        record.exc_info = None
    return True


logging.getLogger("prefect.task_runs").addFilter(_without_empty_traceback)


def follow_job(job_id: int, runtime: Runtime) -> State[Any] | None:
    """See a job to its end, running it whenever its turn comes; returns the state of its task run.

    None stands for completed. The job may be run by another executor in part or as a whole.
    """
    job = follow_to_end(job_id, runtime, progress_of=lambda claimed: ProgressBar(claimed).show)
    if job is None:
        return Cancelled(message=f"job {job_id} was removed")
    if not job.is_final:
        return Cancelled(message="The process stopped waiting; the job stays in the queue.")
    if job.status == "failed":
        return Failed(message=job.error_message or "failed")
    if job.status == "canceled":
        return Cancelled(message=job.error_message or f"job {job_id} was canceled")
    return None


@task(persist_result=False, cache_policy=NO_CACHE)
def run_job(job_id: int, position: str) -> Any:
    """Run, or follow, the job of that id; `position` (like `3/40`) is for people."""
    runtime = Runtime.current()
    # In a Dask worker, nobody else has asked for it.
    runtime.events.listen(emit_to_prefect)
    return follow_job(job_id, runtime)


def task_for(type: str, *, priority: int, tags: tuple[str, ...] = ()) -> Task[[int, str], Any]:
    """The generic task as a step shows itself: named by its type, tagged with its priority and lane."""
    return run_job.with_options(
        name=type,
        task_run_name=f"{type} {{position}}",
        tags=[f"priority:{priority}", f"lane:{lane_name(priority)}", *tags],
    )
