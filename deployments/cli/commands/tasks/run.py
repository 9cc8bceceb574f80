"""`photojobs run`: run a definition in this process, show its progress, and print a summary.

Most imports are inside functions, so that bad input is reported at once.

`deployments.cli.commands.tasks.running` decides whether the task runs through Prefect, and `flows.api.saved_plan_run`
what the run of a saved plan leaves out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from deployments.cli.options.errors import BadInput
from deployments.cli.options.exit_codes import BAD_INPUT, CANCELED, TASK_FAILED
from deployments.cli.options.named_server import check_named_server
from deployments.cli.options.parameters import Json
from deployments.cli.options.task_options import TaskOptions, TaskRequest, read_request
from deployments.cli.output.terminal import confirm, print_json, warn
from storage.settings import Settings

if TYPE_CHECKING:
    from flows.planning.refusals import Refusal
    from flows.planning.saved_plan import SavedPlan

app = App(name="run")


@app.default
def run(
    name: str | None = None, /, options: TaskOptions | None = None, *, plan: Path | None = None, json: Json = False
) -> int:
    """Run a definition in this process, and wait until it ends.

    Args:
        name: The definition; `photojobs definitions list` shows all.
        plan: Carry out this saved plan instead of a definition, except for files and rows that have changed since.
    """
    settings = Settings.load()
    check_named_server()
    if plan is not None:
        return _run(_read_plan(plan, name, options), settings, json=json)
    if name is None:
        raise BadInput(
            "run what? Give the NAME of a definition, or a saved plan with --plan. `photojobs definitions list` lists "
            "the definitions."
        )
    return _run(read_request(name, options or TaskOptions(), settings), settings, json=json)


def _run(asked: TaskRequest | SavedPlan, settings: Settings, *, json: bool) -> int:
    from deployments.cli.commands.tasks.running import run_here
    from deployments.cli.options.opening import opened_runtime
    from deployments.cli.options.signals import removing_temporary_files
    from deployments.cli.output.progress import BY_CTRL_C
    from deployments.cli.output.summary import print_result
    from flows.api.saved_plan_run import prepare_run
    from flows.starting.start_targets import check_targets
    from flows.telemetry.log_lines import structure_logs

    structure_logs(settings)
    refusals: tuple[Refusal, ...] | None = None
    creates = isinstance(asked, TaskRequest) and not asked.needs_rows
    with opened_runtime(settings, create=creates, needs_library=True) as runtime:
        if isinstance(asked, TaskRequest):
            request = asked
            check_targets(request.new, runtime.database)
        else:
            # Archived projects of a saved plan are among the refusals.
            with removing_temporary_files():
                prepared = prepare_run(asked, runtime)
            refusals = prepared.refusals
            for refusal in refusals:
                warn(f"refused {refusal.name}: {refusal.reason}")
            if prepared.new is None:
                return _nothing_left(refusals, json=json)
            request = TaskRequest(definition=prepared.new.definition.definition, new=prepared.new)
        summary = run_here(request, runtime, is_shown=not json)
    print_result(summary, json=json, refusals=refusals)
    if summary.task.status == "completed":
        return TASK_FAILED if refusals else 0
    return CANCELED if summary.task.error_message == BY_CTRL_C else TASK_FAILED


def _read_plan(path: Path, name: str | None, options: TaskOptions | None) -> SavedPlan:
    if name is not None or (options is not None and options != TaskOptions()):
        raise BadInput("--plan: a saved plan contains the definition and its options; leave out NAME and options.")
    from flows.planning.saved_plan import SavedPlan

    return SavedPlan.read(path)


def _nothing_left(refusals: tuple[Refusal, ...], *, json: bool) -> int:
    if json:
        print_json({"task_id": None, "status": "refused" if refusals else "completed", "refused": refusals})
    else:
        refused = "every change of the plan was refused; make a new plan"
        confirm(f"nothing was started: {refused if refusals else 'the plan has no changes'}")
    return BAD_INPUT if refusals else 0
