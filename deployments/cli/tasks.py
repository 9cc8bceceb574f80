"""`photojobs cancel` and `photojobs retry`: the end of a task, and its second beginning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cyclopts import App

from deployments.cli.opening import opened_database
from deployments.cli.terminal import confirm
from flows import task_control
from flows.runtime import Runtime
from storage.pinned_definition import PinnedDefinition
from storage.settings import Settings

cancel_app = App(name="cancel")
retry_app = App(name="retry")


@cancel_app.default
def cancel_task(task: str, /, *, reason: str = "canceled by the user") -> None:
    """Cancel a task with all its jobs; what is done stays done.

    Parameters
    ----------
    task
        The task's id.
    reason
        What its row says.
    """
    with _runtime():
        before = task_control.task_status(task).task
        summary = task_control.cancel_task(task, reason=reason)
    if before.is_final:
        confirm(f"task {task} had ended already: {before.status}")
        return
    confirm(
        f"task {task} canceled, {summary.jobs.get('canceled', 0)} jobs with it; what runs stops at its next checkpoint"
    )


@retry_app.default
def retry_task(task: str, /, *, from_: str | None = None) -> None:
    """Run again what failed or was canceled of a task.

    Items that are done stay done.

    Parameters
    ----------
    task
        The task's id.
    from_
        Run everything again from this step on: its type, or its number from 0.
    """
    is_number = from_ is not None and from_.isascii() and from_.isdigit()
    with _runtime():
        summary = task_control.retry_task(task, from_step=int(from_) if from_ is not None and is_number else from_)
    steps = PinnedDefinition.from_json(summary.task.definition_json).steps
    step_index = summary.task.step_index
    where = steps[step_index].type if step_index < len(steps) else "its follow-ups"
    who = "Prefect" if summary.task.flow_run_id is not None else "`photojobs up` or a worker"
    confirm(f"task {task} goes on at {where} with {summary.jobs.get('queued', 0)} jobs; {who} runs them")


@contextmanager
def _runtime() -> Iterator[None]:
    settings = Settings.load()
    with (
        opened_database(settings=settings) as database,
        Runtime(database, settings=settings) as runtime,
        runtime.as_current(),
    ):
        yield
