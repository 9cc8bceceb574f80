"""`photojobs cancel` and `photojobs retry`: the end of a task, and its second beginning."""

from __future__ import annotations

from cyclopts import App

from deployments.cli.errors import BadInput
from deployments.cli.opening import opened_database
from deployments.cli.terminal import say
from storage.pinned_definition import PinnedDefinition
from storage.records import Task
from storage.tasks import TasksRepository
from task_definitions.wording import did_you_mean, listed

cancel_app = App(name="cancel")
retry_app = App(name="retry")


@cancel_app.default
def cancel_task(task: str, /, *, reason: str = "canceled by the user") -> None:
    """Cancel a task with all its queued and running jobs; what is done stays done.

    Parameters
    ----------
    task
        The task's id.
    reason
        What its row says.
    """
    with opened_database() as database:
        tasks = TasksRepository(database)
        before = tasks.get(task)
        if before.is_final:
            say(f"task {task} had ended already: {before.status}")
            return
        tasks.cancel(task, reason=reason)
        counts = tasks.count_jobs(task)
    say(f"task {task} canceled, {counts.get('canceled', 0)} jobs with it; what runs stops at its next checkpoint")


@retry_app.default
def retry_task(task: str, /, *, from_: str | None = None) -> None:
    """Run again what failed or was canceled of a task; items that are done stay done.

    Parameters
    ----------
    task
        The task's id.
    from_
        Run everything again from this step on: its type, or its number from 0.
    """
    with opened_database() as database:
        tasks = TasksRepository(database)
        found = tasks.get(task)
        reopened = tasks.retry(task, from_step=None if from_ is None else _step_index(found, from_))
        counts = tasks.count_jobs(task)
        step_type = _step_types(reopened)
        where = step_type[reopened.step_index] if reopened.step_index < len(step_type) else "its follow-ups"
    say(f"task {task} goes on at {where} with {counts.get('queued', 0)} jobs; `photojobs up` or a worker runs them")


def _step_types(task: Task) -> list[str]:
    return [step.type for step in PinnedDefinition.from_json(task.definition_json).steps]


def _step_index(task: Task, step: str) -> int:
    types = _step_types(task)
    if step.isascii() and step.isdigit() and int(step) < len(types):
        return int(step)
    if step in types:
        return types.index(step)
    raise BadInput(
        f'--from: "{step}" is not a step of task {task.id}.{did_you_mean(step, types)} '
        f"Its steps are {listed(types, last='and')}."
    )
