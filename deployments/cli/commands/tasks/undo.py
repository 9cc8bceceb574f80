"""`photojobs undo`: undo a task, after a preview of what can and cannot be restored.

`flows.api.undo` decides which tasks can be undone, and `flows.undoing` what is restored.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping
from typing import Any

from cyclopts import App

from deployments.cli.commands.tasks.plan import plan_document, print_plan
from deployments.cli.commands.tasks.running import run_here
from deployments.cli.options.errors import BadInput
from deployments.cli.options.exit_codes import CANCELED, TASK_FAILED
from deployments.cli.options.named_server import check_named_server
from deployments.cli.options.opening import opened_runtime
from deployments.cli.options.parameters import Flag, Json, TaskTenant
from deployments.cli.options.signals import removing_temporary_files
from deployments.cli.options.task_options import TaskRequest
from deployments.cli.output.progress import BY_CTRL_C
from deployments.cli.output.summary import print_result
from deployments.cli.output.terminal import confirm, print_json, remark, warn
from flows.api.undo import left_by, undo_arguments
from flows.errors import named
from flows.planning.plan import Plan, plan_task
from flows.starting.known_definitions import find_definition
from flows.starting.new_task import new_task
from storage.queue.tasks import TasksRepository
from storage.reports.task_summary import TaskSummary
from storage.settings import Settings

#: The largest number of warnings about files and rows that cannot be restored.
MAX_SHOWN = 20

app = App(name="undo")


@app.default
def undo(
    task: str, /, *, dry_run: Flag = False, yes: Flag = False, tenant: TaskTenant = None, json: Json = False
) -> int:
    """Undo a task: put its files back where they were, and restore its rows.

    Args:
        task: The task's id, or the first characters of its id; `photojobs status` lists the latest tasks.
        dry_run: Only show what would be restored and what would not.
        yes: Do not ask for confirmation.
    """
    settings = Settings.load()
    if not (dry_run or yes or sys.stdin.isatty()):
        raise BadInput(
            "undo: there is no terminal to ask for a confirmation. Use --yes to undo the task, or --dry-run for a "
            "preview."
        )
    if not dry_run:
        check_named_server()
    with opened_runtime(settings, upgrade=not dry_run) as runtime:
        task = TasksRepository(runtime.database).whole_id(task, tenant_id=tenant)
        with removing_temporary_files():
            arguments = undo_arguments(task, tenant_id=tenant)
            made = None if yes and not dry_run else plan_task(**arguments)
        if made is not None and (dry_run or not json):
            _show(made, json=json)
        if dry_run:
            return TASK_FAILED if made is not None and _left_of(made) else 0
        if not yes and not _is_wanted():
            confirm("nothing was changed")
            return CANCELED
        request = _request(arguments)
        summary = run_here(request, runtime, is_shown=not json)
    print_result(summary, json=json)
    return _exit_code(summary, is_shown=not json)


def _show(made: Plan, *, json: bool) -> None:
    if json:
        print_json(plan_document(made))
        return
    print_plan(made)
    _warn_of_left(_left_of(made), "cannot be restored")


def _warn_of_left(left: Mapping[str, str], words: str) -> None:
    for name, reason in list(left.items())[:MAX_SHOWN]:
        warn(f"{words}: {named(name, reason)}")
    if len(left) > MAX_SHOWN:
        remark(f"… and {len(left) - MAX_SHOWN} more; --json lists all.")


def _left_of(made: Plan) -> dict[str, str]:
    return {name: reason for step in made.steps for name, reason in step.left.items()}


def _is_wanted() -> bool:
    sys.stderr.write("Undo the task? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _request(arguments: dict[str, Any]) -> TaskRequest:
    definition = find_definition(arguments["type"])
    new = new_task(
        definition, task_id=str(uuid.uuid4()), tenant_id=arguments["tenant_id"], payload=arguments["payload"]
    )
    return TaskRequest(definition=definition, new=new)


def _exit_code(summary: TaskSummary, *, is_shown: bool) -> int:
    if summary.task.status != "completed":
        return CANCELED if summary.task.error_message == BY_CTRL_C else TASK_FAILED
    left = left_by(summary)
    if is_shown:
        _warn_of_left(left, "was not restored")
    return TASK_FAILED if left else 0
