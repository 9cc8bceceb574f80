"""`photojobs run`: a definition run here, followed on the screen, and summed up."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from deployments.cli.definitions import Json
from deployments.cli.errors import BadInput
from deployments.cli.exit_codes import BAD_INPUT, CANCELED, TASK_FAILED
from deployments.cli.loudness import is_quiet
from deployments.cli.named_server import check_named_server
from deployments.cli.opening import opened_database, prefect_home
from deployments.cli.progress import BY_CTRL_C, following
from deployments.cli.summary import print_summary, print_summary_json
from deployments.cli.task_options import TaskOptions, TaskRequest, read_request
from deployments.cli.terminal import confirm, print_json, warn
from deployments.prefect_server import prefect_server
from flows.log_lines import structure_logs
from flows.planning.planned_run import prepare_run
from flows.planning.refusals import Refusal
from flows.planning.saved_plan import SavedPlan
from flows.runtime import Runtime
from flows.start import run_task
from storage.settings import Settings
from storage.task_summary import TaskSummary
from storage.tasks import TasksRepository

app = App(name="run")


@app.default
def run(
    name: str | None = None,
    /,
    options: TaskOptions | None = None,
    *,
    plan: Path | None = None,
    json: Json = False,
) -> int:
    """Run a definition here to its end.

    Parameters
    ----------
    name
        The definition; `photojobs definitions list` shows all.
    plan
        In place of a definition: the file of a plan. What has changed since it was saved is refused, the rest is done.
    """
    settings = Settings.load()
    structure_logs(settings)
    saved, request = None, None
    if plan is not None:
        saved = _read_plan(plan, name, options)
    elif name is None:
        raise BadInput(
            "run what? Give the NAME of a definition, or a plan by --plan. `photojobs definitions list` shows all."
        )
    else:
        request = read_request(name, options or TaskOptions(), settings)
    check_named_server()
    refusals: tuple[Refusal, ...] = ()
    with (
        opened_database(settings=settings, create=request is not None and not request.needs_rows) as database,
        Runtime(database, settings=settings) as runtime,
    ):
        if saved is not None:
            prepared = prepare_run(saved, runtime)
            refusals = prepared.refusals
            for refusal in refusals:
                warn(f"refused {refusal.name}: {refusal.reason}")
            if prepared.new is None:
                return _nothing_left(refusals, json=json)
            request = TaskRequest(definition=saved.definition.definition, new=prepared.new)
        assert request is not None  # noqa: S101 - of a definition, or of a plan.
        summary = run_here(request, runtime, is_shown=not json and not is_quiet())
    if json:
        print_summary_json(summary, refusals=None if saved is None else refusals)
    elif not is_quiet():
        print_summary(summary)
    if summary.task.status == "completed":
        return TASK_FAILED if refusals else 0
    return CANCELED if summary.task.error_message == BY_CTRL_C else TASK_FAILED


def _read_plan(path: Path, name: str | None, options: TaskOptions | None) -> SavedPlan:
    if name is not None or (options is not None and options != TaskOptions()):
        raise BadInput("--plan: the plan says what is run and on what; leave the definition and its options out.")
    return SavedPlan.read(path)


def _nothing_left(refusals: tuple[Refusal, ...], *, json: bool) -> int:
    if json:
        print_json({"task_id": None, "status": "refused" if refusals else "completed", "refused": refusals})
    else:
        confirm("nothing was started: " + ("all of the plan was refused" if refusals else "the plan has nothing to do"))
    return BAD_INPUT if refusals else 0


def run_here(request: TaskRequest, runtime: Runtime, *, is_shown: bool) -> TaskSummary:
    """Start a task and run it to its end, with a Prefect server of its own where none is named.

    Raises:
        PhotojobsError: it cannot be started.
        RunBroken: the flow run ended before the task.
    """
    tasks = TasksRepository(runtime.database)
    # Before the server, whose start takes long: what does not exist is refused at once.
    tasks.start(request.new)
    try:
        with prefect_server(prefect_home(runtime.database)):
            return run_followed(request, runtime, is_shown=is_shown)
    except BaseException as error:
        reason = BY_CTRL_C if isinstance(error, KeyboardInterrupt) else f"its run broke off: {error}"
        tasks.cancel(request.new.id, reason=reason)
        raise


def run_followed(request: TaskRequest, runtime: Runtime, *, is_shown: bool) -> TaskSummary:
    """Run a task through Prefect in this process, and show its progress meanwhile.

    Raises:
        RunBroken: the flow run ended before the task.
    """
    with runtime.as_current(), following(runtime, request.new.id, is_shown=is_shown):
        return run_task(**request.arguments())
