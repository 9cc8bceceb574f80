"""`photojobs start`: create a task that Prefect, `photojobs up` or a worker runs.

`flows.starting.outbox` decides when Prefect is asked for a flow run of the task.
"""

from __future__ import annotations

from cyclopts import App

from deployments.cli.options.opening import opened_runtime
from deployments.cli.options.parameters import DefinitionName, Json
from deployments.cli.options.task_options import TaskOptions, read_request
from deployments.cli.output.terminal import print_json, remark, say
from flows.api.start import start_task
from flows.starting.start_targets import check_targets
from storage.settings import Settings

app = App(name="start")


@app.default
def start(name: DefinitionName, /, options: TaskOptions | None = None, *, json: Json = False) -> None:
    """Start a definition, and return at once.

    The command prints the task's id. Prefect, `photojobs up` or a worker runs the task.
    """
    settings = Settings.load()
    request = read_request(name, options or TaskOptions(), settings)
    with opened_runtime(settings, create=not request.needs_rows, needs_library=True) as runtime:
        check_targets(request.new, runtime.database)
        started = start_task(**request.arguments())
    if json:
        print_json(started)
        return
    say(started.task_id)
    if started.flow_run_id is None:
        remark("No flow run was created in Prefect; `photojobs up` or `photojobs worker` runs the task.")
