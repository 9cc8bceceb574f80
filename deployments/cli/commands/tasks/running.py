"""Runs a task in the process of a command: without Prefect if that is possible, else through Prefect.

A run goes through Prefect if `PREFECT_API_URL` is set, the setting `task_runner` is not `threads`, or `RunHistory.of`
in `deployments.embedded_server.run_history` returns None.
"""

from __future__ import annotations

import os
import sqlite3

from deployments.cli.options.errors import RunBrokenOff
from deployments.cli.options.task_options import TaskRequest
from deployments.cli.output.progress import BY_CTRL_C, following
from deployments.cli.output.terminal import remark, warn
from deployments.embedded_server.run_history import RunHistory
from deployments.server.prefect_server import prefect_server
from deployments.server.running_up import server_home
from flows.errors import RunBroken
from flows.process.runtime import Runtime
from storage.errors import StorageError
from storage.queue.tasks import TasksRepository
from storage.records import TaskStatus
from storage.reports.task_summary import TaskSummary
from task_definitions.errors import PhotojobsError
from task_definitions.wording import os_error_in_words


def run_here(request: TaskRequest, runtime: Runtime, *, is_shown: bool) -> TaskSummary:
    """Start a task, run it to its end, and return its summary.

    Afterwards, Prefect's pages show a flow run for the task. If Prefect's history cannot be written, a warning is
    printed. `runtime` must be the current runtime.

    Raises:
        PhotojobsError: the task cannot be started.
        RunBrokenOff: the run broke off. If the task had not ended, it was canceled, if possible.
    """
    tasks = TasksRepository(runtime.database)
    # This call reports unknown projects and photos at once, so it precedes the start of the server, which takes long.
    tasks.start(request.new)
    if is_shown:
        remark(f"task {request.new.id} begins")
    try:
        try:
            history = _history(runtime)
        except (OSError, sqlite3.Error) as error:
            # A run needs the folder of Prefect's server only for its history. A home folder may be read-only.
            _warn_of_history(error)
            return _run_plainly(request, runtime, is_shown=is_shown)
        if history is not None:
            return _run_plainly(request, runtime, history, is_shown=is_shown)
        with prefect_server(server_home(runtime.database)):
            return run_followed(request, runtime, is_shown=is_shown)
    except (PhotojobsError, OSError) as error:
        raise _broken_off(request.new.id, error, tasks) from error
    except BaseException as error:
        reason = BY_CTRL_C if isinstance(error, KeyboardInterrupt) else f"the run ended early: {error}"
        tasks.cancel(request.new.id, reason=reason)
        raise


def run_followed(request: TaskRequest, runtime: Runtime, *, is_shown: bool) -> TaskSummary:
    """Run a task through Prefect in this process, show its progress, and return its summary.

    `runtime` must be the current runtime.

    Raises:
        RunBroken: the flow run ended, although the task had not ended.
    """
    from flows.api.start import run_task

    with following(runtime, request.new.id, is_shown=is_shown):
        return run_task(**request.arguments())


def _broken_off(task_id: str, error: Exception, tasks: TasksRepository) -> RunBrokenOff:
    """Cancel the task of a run that broke off, and return the error for the user."""
    says = os_error_in_words(error) if isinstance(error, OSError) else str(error)
    says = error.reason if isinstance(error, RunBroken) else says
    try:
        task = tasks.cancel(task_id, reason=f"the run ended early: {says}")
    except StorageError:
        return RunBrokenOff(f"task {task_id}: its run broke off: {says} `photojobs up` or a worker continues the task.")
    if task.status != TaskStatus.CANCELED:
        return RunBrokenOff(
            f"task {task_id} is {task.status}, but its run broke off: {says} `photojobs tasks show {task_id}` shows "
            "the task."
        )
    return RunBrokenOff(
        f"task {task_id} was canceled, because its run broke off: {says} `photojobs retry {task_id}` continues it."
    )


def _history(runtime: Runtime) -> RunHistory | None:
    if os.environ.get("PREFECT_API_URL") or runtime.settings.task_runner != "threads":
        return None
    return RunHistory.of(server_home(runtime.database))


def _run_plainly(
    request: TaskRequest, runtime: Runtime, history: RunHistory | None = None, *, is_shown: bool
) -> TaskSummary:
    from flows.execution.plain_run import run_plainly

    with following(runtime, request.new.id, is_shown=is_shown):
        summary = run_plainly(request.new.id, runtime)
    if history is not None:
        try:
            flow_run_id = history.record(summary, runtime.database)
            TasksRepository(runtime.database).link_flow_run(request.new.id, flow_run_id)
        except (OSError, sqlite3.Error, StorageError) as error:
            _warn_of_history(error)
    return summary


def _warn_of_history(error: Exception) -> None:
    if isinstance(error, StorageError):
        warn(f"Prefect's pages may not show this task: {error} `photojobs tasks show` shows the task.")
        return
    warn(
        f"Prefect's pages do not show this task, because Prefect's history cannot be written: {error}. Correct "
        "this, or name another folder in PREFECT_HOME. `photojobs tasks show` shows the task."
    )
