"""`photojobs run`: a definition run here, followed on the screen, and summed up."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from deployments.cli.commands import CANCELED, TASK_FAILED
from deployments.cli.definitions import Json
from deployments.cli.named_server import check_named_server
from deployments.cli.opening import opened_database, prefect_home
from deployments.cli.progress import BY_CTRL_C, following
from deployments.cli.summary import print_summary, print_summary_json
from deployments.cli.task_options import TaskOptions, TaskRequest, read_request
from deployments.prefect_server import prefect_server
from flows.runtime import Runtime
from flows.start import run_task
from storage.settings import Settings
from storage.task_summary import TaskSummary
from storage.tasks import TasksRepository

app = App(
    name="run",
    help_epilogue="Exit codes: 0 completed, 1 failed, 2 nothing was started, 130 canceled by Ctrl-C. Examples:\n\n"
    "photojobs run maintenance --project 3\n\n"
    "photojobs run process_photos --all --missing preview\n\n"
    "photojobs run image_move --project 7 --item 12 13 14",
)


@app.default
def run(
    name: str,
    /,
    options: TaskOptions | None = None,
    *,
    json: Json = False,
    quiet: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Run a definition here to its end.

    Parameters
    ----------
    name
        The definition; `photojobs definitions list` shows all.
    quiet
        Print nothing but errors.
    """
    settings = Settings.load()
    request = read_request(name, options or TaskOptions(), settings)
    check_named_server()
    with (
        opened_database(settings=settings, create=not request.needs_rows) as database,
        Runtime(database, settings=settings) as runtime,
    ):
        # Before the server, whose start takes long: what does not exist is refused at once.
        TasksRepository(database).start(request.new)
        try:
            with prefect_server(prefect_home(database)):
                summary = run_followed(request, runtime, is_shown=not quiet and not json)
        except BaseException as error:
            reason = BY_CTRL_C if isinstance(error, KeyboardInterrupt) else f"its run broke off: {error}"
            TasksRepository(database).cancel(request.new.id, reason=reason)
            raise
    if json:
        print_summary_json(summary)
    elif not quiet:
        print_summary(summary)
    if summary.task.status == "completed":
        return 0
    return CANCELED if summary.task.error_message == BY_CTRL_C else TASK_FAILED


def run_followed(request: TaskRequest, runtime: Runtime, *, is_shown: bool) -> TaskSummary:
    """Run a task through Prefect in this process, and show its progress meanwhile.

    Raises:
        RunBroken: the flow run ended before the task.
    """
    with runtime.as_current(), following(runtime, request.new.id, is_shown=is_shown):
        return run_task(**request.arguments())
