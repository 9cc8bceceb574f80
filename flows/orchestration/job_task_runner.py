"""The task runner of our flows: a waiting task run takes no thread, and states are sent to Prefect in batches.

Prefect's own task engine runs all other tasks, and the task runs that `JobTaskRunner.submit` leaves to it. This runner
writes the log lines and states of a run with copies of the engine's texts; only the texts about another attempt differ.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, Self, cast

from prefect import Task
from prefect.client.schemas.objects import FlowRun, RunInput, State
from prefect.context import FlowRunContext, TagsContext, TaskRunContext
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.logging.loggers import task_run_logger
from prefect.states import AwaitingRetry, Completed, Failed, Pending, Retrying, Running
from prefect.task_engine import run_task_sync
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.execution.followed_run import FollowedRun, OnProgress
from flows.execution.rolling_window import MOST_FOLLOWED
from flows.orchestration.artifacts import ProgressBar
from flows.orchestration.job_task import run_job, state_unless_completed
from flows.orchestration.prefect_link import link
from flows.orchestration.tag_limits import TagLimits
from flows.orchestration.task_run_record import TaskRunRecord
from flows.process.runtime import Runtime
from storage.records import Job


class JobTaskRunner(TaskRunner["PrefectFuture[Any]"]):
    """Follows jobs for the task runs that represent them, and records the task runs as Prefect's engine would."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        threads: Any = ThreadPoolTaskRunner
        self._others: TaskRunner[PrefectFuture[Any]] = threads(max_workers=MOST_FOLLOWED)
        self._unfinished: set[Future[State[Any]]] = set()

    def duplicate(self) -> Self:
        """Return a new runner, as Prefect requires. A runner has no configuration to copy."""
        return type(self)()

    def submit(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[RunInput]] | None = None,
    ) -> PrefectFuture[Any]:
        """Follow the job of a `run_job` call. Any other task goes to a thread of Prefect's engine.

        A `run_job` call also goes to the engine if it is outside of a flow run, waits for other futures, or has a tag
        with a concurrency limit, or if the setting `task_runner` is `prefect`.
        """
        context = FlowRunContext.get()
        if (
            task.fn is not run_job.fn
            or context is None
            or context.flow_run is None
            or wait_for
            or Runtime.current_settings().task_runner == "prefect"
            or self._limits.apply_to(task.tags | TagsContext.get().current_tags)
        ):
            return self._others.submit(task, parameters, wait_for, dependencies)
        run = _JobRun(Runtime.current(), task, parameters, dependencies or {}, context, self._limits)
        outcome = run.follow()
        self._unfinished.add(outcome)
        outcome.add_done_callback(self._unfinished.discard)
        return PrefectConcurrentFuture(task_run_id=run.record.task_run.id, wrapped_future=outcome)

    def __enter__(self) -> Self:
        super().__enter__()
        self._others.__enter__()
        # The limits are not created in `__init__`, because Prefect may send the flow and its runner to another process.
        self._limits = TagLimits()
        return self

    def __exit__(self, *error: Any) -> None:
        # The runner waits for the unfinished jobs, as Prefect's own runner does. If the flow must stop, the wait is
        # short: handlers stop at their next checkpoint.
        wait(list(self._unfinished))
        self._limits.close()
        self._others.__exit__(*error)
        super().__exit__(*error)


class _JobRun(FollowedRun):
    """The task run that represents a job, and the follower that runs this job."""

    def __init__(
        self,
        runtime: Runtime,
        task: Task[..., Any],
        parameters: dict[str, Any],
        dependencies: dict[str, set[RunInput]],
        context: FlowRunContext,
        limits: TagLimits,
    ) -> None:
        super().__init__(runtime)
        flow_run = cast("FlowRun", context.flow_run)
        self.record = TaskRunRecord(
            task, parameters, dependencies, flow_run, send=partial(link.send, flow_run=flow_run)
        )
        self._task = task
        self._parameters = parameters
        self._context = context
        self._dependencies = dependencies
        self._limits = limits
        self._is_refused = False
        self._outcome: Future[State[Any]] = Future()
        self._logger = task_run_logger(self.record.task_run, task, flow_run, context.flow)

    def follow(self) -> Future[State[Any]]:
        """Follow the job. The future's result is the final state of the task run."""
        self._runtime.followed.follow(self._parameters["job_id"], self).add_done_callback(self._end)
        return self._outcome

    def refuses(self) -> bool:
        """Return whether one of the tags got a concurrency limit after the task run was submitted."""
        self._is_refused = self._limits.apply_to(self.record.task_run.tags)
        return self._is_refused

    @contextmanager
    def running(self, job: Job) -> Iterator[OnProgress | None]:
        """Record that the task run is running, and make it Prefect's current task run in the block."""
        self._record_running()
        with TaskRunContext(
            task=self._task,
            task_run=self.record.task_run,
            parameters=self._parameters,
            client=self._context.client,
            result_store=self._context.result_store,
            persist_result=False,
            log_prints=self._context.log_prints,
        ):
            yield ProgressBar(job).show

    def running_elsewhere(self) -> None:
        """Record that the task run is running."""
        if not self.record.state.is_running():
            self._record_running()

    def queued_again(self, before: Job, job: Job) -> None:
        """Record that the job is queued again: as `AwaitingRetry` if an attempt was counted, else as `Pending`."""
        if job.attempts == before.attempts:
            self.record.set_state(
                Pending(message=f"job {job.id} is queued again; its interrupted run does not count as an attempt")
            )
            return
        state: State[Any] = AwaitingRetry(scheduled_time=job.run_after, message=job.error_message)
        self._logger.info("Task run failed: %s - the next attempt starts at %s", job.error_message, job.run_after)
        self.record.set_state(state)

    def _record_running(self) -> None:
        self.record.set_state(Retrying() if self.record.state.name == "AwaitingRetry" else Running())

    def _end(self, followed: Future[Job | None]) -> None:
        try:
            if self._is_refused:
                # Prefect's engine waits until the job has run, so it must not use this thread of the executor.
                run = copy_context().run
                threading.Thread(target=run, args=(self._leave_to_prefect,), name="photojobs-limited").start()
            else:
                self._outcome.set_result(self._final_state(followed))
        except BaseException as error:  # noqa: BLE001 - the future's result raises it.
            self._outcome.set_exception(error)

    def _leave_to_prefect(self) -> None:
        try:
            state: Any = run_task_sync(
                self._task,
                task_run_id=self.record.task_run.id,
                parameters=self._parameters,
                return_type="state",
                dependencies=self._dependencies,
            )
            self._outcome.set_result(state)
        except BaseException as error:  # noqa: BLE001 - the future's result raises it.
            self._outcome.set_exception(error)

    def _final_state(self, followed: Future[Job | None]) -> State[Any]:
        error = followed.exception()
        state: State[Any]
        if error is not None:
            state = Failed(message=f"Task run encountered an exception {type(error).__name__}: {error}")
        else:
            job = followed.result()
            state = state_unless_completed(job, self._parameters["job_id"]) or Completed()
            if job is not None and job.started_at is not None and self.record.task_run.start_time is None:
                # The state Running is missing if another executor began and ended the job between two reads of its row.
                self.record.set_state(Running(timestamp=job.started_at))
        if state.is_failed():
            self._logger.error("Task run failed with state: %r", state)
        self.record.set_state(state)
        self._logger.log(logging.INFO if state.is_completed() else logging.ERROR, "Finished in state %s", state)
        return state
