"""The body of every compiled flow: it maps the jobs of a task step by step, and ends in the state of the task.

`final_state` decides the state. `TaskSummary.message` in `storage.reports.task_summary` is its message.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Pause, TerminationSignal
from prefect.futures import PrefectFuture, wait
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from flows.execution.rolling_window import RollingWindow, StepSource, follow_steps
from flows.execution.sweep import Sweeper
from flows.execution.task_stops import cancel_here, pause_here
from flows.orchestration.artifacts import await_publication, publish_step
from flows.orchestration.cancellation_watch import CancellationWatch
from flows.orchestration.dask_cluster import raise_if_none_ran
from flows.orchestration.job_task import task_for
from flows.orchestration.prefect_events import emit_to_prefect
from flows.orchestration.server_clock import server_lead
from flows.orchestration.supervision import end_within
from flows.process.database_retry import retry_while_unavailable
from flows.process.runtime import Runtime
from flows.starting.deployment_names import task_run_position
from flows.telemetry.step_markdown import step_line
from storage.default_tenant import DEFAULT_TENANT
from storage.queue.pauses import resume_paused_task
from storage.queue.tasks import TasksRepository
from storage.records import Job, Task
from storage.reports.task_summary import TaskSummary, summarize_task

logger = logging.getLogger("photojobs.flows")

#: How long Prefect's threads may take to end in a process that was asked to end, in addition to `drain_seconds`.
END_SECONDS = 15.0

#: The message of the state in which a dead flow run waits for its restart. The state after a user's Retry has another
#: message.
RESTARTED = "The process of the flow run died; photojobs starts it again."

#: The cancellation reason of a task whose flow run was canceled.
BY_FLOW_RUN = "its flow run was canceled"


def resume_task(task_id: str, runtime: Runtime) -> State[Any]:
    """Follow a task from its current step to its end, and return the final state of the flow run."""
    tasks = TasksRepository(runtime.database)
    task = tasks.get(task_id)
    if task.status in ("failed", "canceled") and _is_retried(task, runtime):
        # The user pressed "Retry": only the failed jobs run again.
        task = tasks.retry(task_id)
    flow_run_id = flow_run.id
    if flow_run_id and task.flow_run_id != flow_run_id:
        tasks.link_flow_run(task_id, flow_run_id)
    # If the task was paused, it continues now, because the user has pressed Resume or Retry.
    resume_paused_task(runtime.database, task_id)
    runtime.events.listen(emit_to_prefect)
    runtime.events.task_running(task)
    with CancellationWatch(
        flow_run_id,
        lambda: cancel_here(task_id, runtime, reason=BY_FLOW_RUN),
        pause=lambda is_to_end: pause_here(task_id, runtime, is_to_end=is_to_end),
        resume=lambda: resume_paused_task(runtime.database, task_id),
    ) as watch:
        ended = follow_task(task_id, runtime).is_final
    if not ended:
        # Prefect treats this exception as a suspension: the process ends, and the run stays paused until a user
        # resumes it.
        raise Pause(state=watch.suspended)
    summary = retry_while_unavailable(partial(summarize_task, runtime.database, task_id))
    runtime.events.task_ended(summary.task, message=summary.message)
    _log_steps(summary)
    await_publication()
    return final_state(summary)


def _is_retried(task: Task, runtime: Runtime) -> bool:
    """Return whether a user has scheduled the current flow run again after its task had ended.

    `photojobs up` restarts flow runs whose process died. If the task was canceled meanwhile, it stays canceled.
    """
    if task.finished_at is None or (flow_run.run_count or 1) == 1:
        return False
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(flow_run.id))
        ended_at = task.finished_at + server_lead(client, runtime.database)
    by_users = (state for state in states if state.is_scheduled() and state.message != RESTARTED)
    return any(state.timestamp > ended_at for state in by_users)


def follow_task(task_id: str, runtime: Runtime) -> Task:
    """Map Prefect task runs over the jobs of each step until the task has ended. Return the task.

    The returned task is unfinished if this process was asked to stop following it (`Runtime.stop_task`).

    Several processes may follow the same task, at any time; jobs that have ended are not run again. Ctrl-C cancels the
    task and waits for its handlers to stop; a second Ctrl-C ends the process. After any other interruption (Prefect
    raises an exception for SIGTERM) the running jobs are handed back, and another process can go on with the task.
    """
    window = RollingWindow["PrefectFuture[Any]"](runtime.followed, size=runtime.settings.window_size)

    def follow() -> Task:
        return follow_steps(
            task_id,
            runtime,
            window,
            lambda task: _MappedStep(task, runtime),
            on_step_end=lambda task, step_index: publish_step(runtime.database, task, step_index),
        )

    # The sweeper is needed because the task may wait for a job whose executor has died.
    with runtime.following(task_id), runtime.heartbeat.for_task(task_id), Sweeper(runtime):
        try:
            return follow()
        except KeyboardInterrupt:
            with _interrupted_at_once(task_id):
                try:
                    cancel_here(task_id, runtime, reason="canceled by Ctrl-C")
                    wait(list(window.followed.values()))
                    return follow()
                except BaseException:
                    # Threads that wait for an unavailable database must not keep this process alive.
                    runtime.stop_task(task_id)
                    raise
        except TerminationSignal:
            end_within(runtime.settings.drain_seconds + END_SECONDS)
            runtime.stop_task(task_id)
            raise
        except Pause:
            # Functions of Prefect raise this error as soon as a user has suspended the run of a deployment. If that run
            # is the parent of this one, only the parent is suspended, and the task of this run is not paused.
            if flow_run.parent_flow_run_id is None:
                retry_while_unavailable(partial(pause_here, task_id, runtime, is_to_end=True))
            runtime.stop_task(task_id)
            raise
        except BaseException:
            runtime.stop_task(task_id)
            raise


class _MappedStep(StepSource["PrefectFuture[Any]"]):
    """The jobs of a step. A mapped Prefect task run represents each job."""

    def __init__(self, task: Task, runtime: Runtime) -> None:
        super().__init__(task, runtime)
        self._begun = 0
        self._latest: deque[PrefectFuture[Any]] = deque(maxlen=runtime.settings.window_size)

    def begin(self, jobs: Sequence[Job]) -> Iterator[PrefectFuture[Any]]:
        """Map the generic Prefect task over the jobs."""
        self._begun += len(jobs)
        for group in _by_type(jobs):
            yield from task_for(group[0]).map([job.id for job in group], [task_run_position(job) for job in group])

    def note_ended(self, futures: Sequence[PrefectFuture[Any]]) -> None:
        """Raise an error if none of the latest jobs was run.

        Raises:
            ClusterFailed: the Dask cluster ran none of the latest jobs.
        """
        # The futures have ended, but Prefect warns about futures without a call of `wait`, so `wait` is called.
        wait(list(futures))
        self._latest += futures
        if futures and len(self._latest) == min(self._begun, self._latest.maxlen or 1):
            raise_if_none_ran(self._latest)


@contextmanager
def _interrupted_at_once(task_id: str) -> Iterator[None]:
    """Make Ctrl-C end the process at once while the block runs.

    By default, Python would wait for the threads. The next start repairs work that was interrupted.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    # At a prompt or in a notebook, Ctrl-C must not end the process.
    if not in_main_thread or hasattr(sys, "ps1") or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    logger.warning("canceling task %s; press Ctrl-C again to end the process at once", task_id)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def task_of(flow_run: FlowRun, tasks: TasksRepository) -> Task | None:
    """Return the task of a flow run; None if the run has written no task yet, or names a task of another tenant."""
    task = tasks.get_by_id(str(flow_run.parameters.get("task_id") or flow_run.id))
    is_own = task is not None and task.tenant_id == flow_run.parameters.get("tenant_id", DEFAULT_TENANT)
    return task if is_own else None


def cancel_with_flow_run(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel the task of a flow run that was canceled in the UI or by the API. Prefect calls this hook."""
    tasks = TasksRepository(Runtime.current().database)
    cancel_task_of(flow_run, task_of(flow_run, tasks), tasks)


def cancel_task_of(flow_run: FlowRun, task: Task | None, tasks: TasksRepository) -> None:
    """Cancel the task of a canceled flow run, if there is one.

    A task that a user has retried in the meantime has another flow run, and is not canceled.
    """
    if task is not None and task.flow_run_id in (None, str(flow_run.id)):
        tasks.cancel(task.id, reason=BY_FLOW_RUN)


def final_state(summary: TaskSummary) -> State[Any]:
    """Return the Prefect state for a task that has ended."""
    task = summary.task
    if summary.found_nothing:
        return Completed(name="Skipped", message=summary.message)
    if task.status == "completed":
        return Completed(message=summary.message)
    if task.status == "canceled":
        return Cancelled(message=summary.message)
    return Failed(message=summary.message)


def _log_steps(summary: TaskSummary) -> None:
    # Prefect's page of the flow run shows the lines of this logger only, and not the log of the process.
    if flow_run.id:
        for step in summary.steps:
            get_run_logger().info("%s", step_line(step))


def _by_type(window: Sequence[Job]) -> Iterator[list[Job]]:
    for _, group in groupby(window, key=lambda job: (job.type, job.priority)):
        yield list(group)
