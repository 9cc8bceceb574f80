"""Runs a task in this process, without Prefect, so that its first job begins immediately.

`deployments.cli.commands.tasks.running` decides whether `photojobs run` uses Prefect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial

from flows.execution.followed_run import FollowedRun
from flows.execution.rolling_window import RollingWindow, StepSource, follow_steps
from flows.execution.sweep import Sweeper
from flows.process.database_retry import retry_while_unavailable
from flows.process.runtime import Runtime
from storage.queue.tasks import TasksRepository
from storage.records import Job
from storage.reports.task_summary import TaskSummary, summarize_task


def run_plainly(task_id: str, runtime: Runtime) -> TaskSummary:
    """Run a stored task to its end, and return its summary.

    Several processes may call this function for the same task, at any time; jobs that have ended are not run again. If
    an error interrupts the call, the running jobs return to the queue, and another process can continue the task.
    """
    tasks = TasksRepository(runtime.database)
    runtime.events.task_running(tasks.get(task_id))
    # The sweeper is needed because the task may wait for a job whose executor has died.
    with runtime.following(task_id), runtime.heartbeat.for_task(task_id), Sweeper(runtime):
        try:
            window = RollingWindow["Future[Job | None]"](runtime.followed, size=runtime.settings.window_size)
            follow_steps(task_id, runtime, window, lambda task: _PlainStep(task, runtime))
        except BaseException:
            runtime.stop_task(task_id)
            raise
    summary = retry_while_unavailable(partial(summarize_task, runtime.database, task_id))
    runtime.events.task_ended(summary.task, message=summary.message)
    return summary


class _PlainStep(StepSource["Future[Job | None]"]):
    """The jobs of a step. A future of this process shows the end of each job."""

    def begin(self, jobs: Sequence[Job]) -> Iterator[Future[Job | None]]:
        """Start to follow the jobs. Yield a future for the end of each job."""
        for job in jobs:
            yield self._runtime.followed.follow(job.id, FollowedRun(self._runtime))

    def note_ended(self, futures: Sequence[Future[Job | None]]) -> None:
        """Raise the first error of a followed job, to end the run."""
        for future in futures:
            future.result()
