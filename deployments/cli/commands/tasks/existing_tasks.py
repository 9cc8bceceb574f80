"""`photojobs tasks`, `cancel` and `retry`: list, show, cancel and retry tasks.

`storage.lifecycle.state_machine` decides what canceling and retrying do to the jobs of a task.
"""

from __future__ import annotations

from typing import Literal

from cyclopts import App

from deployments.cli.options.opening import opened_database, opened_runtime
from deployments.cli.options.parameters import Count, Json, Offset, TaskId, TaskTenant
from deployments.cli.output.job_cells import task_section, took
from deployments.cli.output.summary import print_summary, print_summary_json
from deployments.cli.output.terminal import confirm, print_fields, print_json, print_section, remark, say
from flows.api import task_control
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.queue.tasks import TasksRepository
from storage.reports.task_summary import summarize_task
from storage.settings import Settings
from task_definitions.wording import quantity

TaskStatusName = Literal["queued", "running", "completed", "failed", "canceled"]

app = App(name="tasks")
cancel_app = App(name="cancel")
retry_app = App(name="retry")


@app.command(name="list")
def list_tasks(
    *,
    status: TaskStatusName | None = None,
    type: str | None = None,
    tenant: str | None = None,
    limit: Count = 20,
    offset: Offset = 0,
    json: Json = False,
) -> None:
    """List tasks, the newest first.

    Args:
        status: Only tasks in this status.
        type: Only tasks of this definition.
        tenant: Only tasks of this tenant.
        limit: How many tasks to list at most.
        offset: How many of the newest tasks to skip.
    """
    with opened_database() as database:
        found = TasksRepository(database).list_newest(
            limit=limit, offset=offset, tenant_id=tenant, status=status, type=type
        )
    if json:
        print_json(found)
        return
    if not found:
        remark("No tasks match these options." if status or type or tenant or offset else "There are no tasks.")
        return
    print_section(task_section(found))


@app.command(name="show")
def show_task(task: TaskId, /, *, tenant: TaskTenant = None, json: Json = False) -> None:
    """Show a task with its steps and their progress."""
    with opened_database() as database:
        task_id = TasksRepository(database).whole_id(task, tenant_id=tenant)
        TasksRepository(database).get(task_id, tenant_id=tenant)
        summary = summarize_task(database, task_id)
    if json:
        print_json(summary)
        return
    found = summary.task
    print_fields(
        {
            "task": found.id,
            "definition": found.type,
            "status": found.status,
            "error": found.error_message,
            "tenant": found.tenant_id,
            "project": found.project_id,
            "scope": found.scope,
            "started by": found.source,
            "created": found.created_at,
            "started": found.started_at,
            "finished": found.finished_at,
            "took": took(found) or None,
            "flow run": found.flow_run_id,
        }
    )
    say("")
    print_summary(summary)


@cancel_app.default
def cancel_task(
    task: TaskId, /, *, reason: str = "canceled by the user", tenant: TaskTenant = None, json: Json = False
) -> None:
    """Cancel a task and all its jobs; finished work is kept.

    Args:
        reason: The reason that is stored with the task.
    """
    with opened_runtime(Settings.load()) as runtime:
        task = TasksRepository(runtime.database).whole_id(task, tenant_id=tenant)
        before = task_control.task_status(task, tenant_id=tenant).task
        summary = task_control.cancel_task(task, reason=reason, tenant_id=tenant)
    if json:
        print_summary_json(summary)
        return
    if before.is_final:
        confirm(f"task {task} has already ended; it is {before.status}")
        return
    canceled = quantity(summary.jobs.get("canceled", 0), "job")
    confirm(f"task {task} is canceled with {canceled}; running jobs stop before their next change")


@retry_app.default
def retry_task(task: TaskId, /, *, from_: str | None = None, tenant: TaskTenant = None, json: Json = False) -> None:
    """Run the failed and canceled jobs of a task again.

    Without --from, finished items are not repeated.

    Args:
        from_: Run this step and all steps after it again; give the step's type, or its number, which counts from 0.
    """
    is_number = from_ is not None and from_.isascii() and from_.isdigit()
    with opened_runtime(Settings.load()) as runtime:
        task = TasksRepository(runtime.database).whole_id(task, tenant_id=tenant)
        step = int(from_) if from_ is not None and is_number else from_
        summary = task_control.retry_task(task, from_step=step, tenant_id=tenant)
    if json:
        print_summary_json(summary)
        return
    steps = PinnedDefinition.from_json(summary.task.definition_json).steps
    step_index = summary.task.step_index
    where = steps[step_index].type if step_index < len(steps) else "its follow-up jobs"
    queued = summary.jobs.get("queued", 0)
    who = "Prefect" if summary.task.flow_run_id is not None else "`photojobs up` or a worker"
    confirm(
        f"task {task} continues at {where} with {quantity(queued, 'job')}; {who} runs {'it' if queued == 1 else 'them'}"
    )
