"""Seeing one job to its end: run it here whenever its turn comes, or follow it where another executor runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

from flows.execution.job_run import run_claimed_job
from flows.process.patience import insist
from flows.process.runtime import Runtime
from storage.queue.jobs import JobsRepository
from storage.records import Job

#: Makes the function that shows a claimed job's progress, called with `done` and `total`.
ProgressOf = Callable[[Job], Callable[[int, int | None], None]]


def follow_to_end(job_id: int, runtime: Runtime, *, progress_of: ProgressOf | None = None) -> Job | None:
    """See a job to its end; returns its row, None if the row was removed.

    The row is not final if this process stopped waiting: the job stays in the queue.
    """
    jobs = JobsRepository(runtime.database)

    def read() -> Job | None:
        return insist(lambda: jobs.get_by_id(job_id), give_up_seconds=runtime.settings.stale_seconds)

    # It beats for those who wait, too.
    runtime.heartbeat.start()
    job = runtime.dispatcher.announced(job_id) or read()
    stopping = runtime.stopping(None if job is None else job.task_id)
    while job is not None and not job.is_final:
        claimed = runtime.dispatcher.acquire(job, stopping=stopping)
        if claimed is None:
            job = read()
            if job is not None and not job.is_final:
                return job
        else:
            job = _run_here(claimed, runtime, stopping, progress_of)
    runtime.dispatcher.expect_no_more(job_id)
    return job


def _run_here(claimed: Job, runtime: Runtime, stopping: threading.Event, progress_of: ProgressOf | None) -> Job | None:
    with ExitStack() as room:
        room.callback(runtime.dispatcher.release)
        return run_claimed_job(
            claimed,
            runtime,
            stopping=stopping,
            on_progress=None if progress_of is None else progress_of(claimed),
            # Before its lane's slot is free: a process without room leaves a slot that it finds free to lower ranks.
            on_handled=room.close,
        )
