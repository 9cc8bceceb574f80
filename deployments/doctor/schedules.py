"""Checks that Prefect's server has planned the runs of all schedules, and that its scheduler works.

`deployments.status.scheduled_runs` decides which schedules are late or not planned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deployments.deploying.scheduled_definitions import schedules_without_effect
from deployments.doctor.finding import Area, Finding
from deployments.server.running_up import server_errors, server_of
from deployments.server.server_log import ServerError
from deployments.status.scheduled_runs import Standing, scheduled_runs
from storage.database.engine import Database
from storage.settings import Settings
from task_definitions import load_definitions
from task_definitions.wording import quantity

_area = Area("schedules")
_LOG = "prefect/server.log in the folder of `photojobs up` (--folder, PREFECT_HOME or .photojobs-prefect)"

_WRONG = {
    Standing.NOT_PLANNED: (
        "the server has planned no run",
        f"Look for errors of the scheduler in the log of the server: {_LOG}. `pip install -c constraints.txt "
        "photojobs` installs the tested packages.",
    ),
    Standing.LATE: (
        "its run is due, but has not begun",
        "Start `photojobs up`, or a worker of the deployment's work pool.",
    ),
    Standing.STILL_PLANNED: (
        "it is switched off or paused, but a run is still planned",
        "`photojobs up` and `serve` remove the run within two minutes; for a deployment of a work pool, run "
        "`photojobs deploy` again, or delete the run in Prefect's pages.",
    ),
    Standing.NOT_SERVED: (
        "the server has no such schedule",
        "Start `photojobs up` again; `photojobs definitions lint` shows why a definition cannot be served.",
    ),
}


def examine_schedules(settings: Settings, database: Database) -> Iterator[Finding]:
    """Compare the expected runs with the runs that the server has planned."""
    definitions = load_definitions(settings.definitions, strict=False)
    for says in schedules_without_effect(definitions, settings):
        yield _area.problem("settings", says, "Correct or remove this schedule in the settings.")
    runs = scheduled_runs(definitions, settings, server_of(database))
    for run in runs:
        if run.standing in _WRONG:
            says, remedy = _WRONG[run.standing]
            whose = "without a tenant" if run.tenant_id is None else f"for {run.tenant_id}"
            is_minor = run.standing in (Standing.NOT_SERVED, Standing.STILL_PLANNED)
            make = _area.warning if is_minor else _area.problem
            yield make("planned", f"{run.definition} {whose} ({run.when}): {says}.", remedy)
    if runs and all(run.standing is Standing.NO_SERVER for run in runs):
        says = f"No server runs. Start `photojobs up` to run {quantity(len(runs), 'schedule')}."
        yield _area.fine("planned", says)
    elif not any(run.standing.is_wrong for run in runs):
        planned = sum(run.standing is Standing.PLANNED for run in runs)
        off = sum(run.standing in (Standing.SWITCHED_OFF, Standing.PAUSED) for run in runs)
        yet = len(runs) - planned - off
        counts = (
            f"{planned} with a planned run, {off} switched off or paused{f', {yet} not planned yet' if yet else ''}"
        )
        yield _area.fine("planned", f"{quantity(len(runs), 'schedule')}: {counts}.")
    errors = server_errors(database)
    of_scheduler = [error for error in errors if error.is_of_scheduler]
    if of_scheduler:
        yield _area.problem(
            "scheduler",
            f"The scheduler of Prefect's server logged {quantity(len(of_scheduler), 'error')}, {_last(of_scheduler)}",
            "`pip install -c constraints.txt photojobs` installs the tested packages; then start `photojobs up` again.",
        )
    elif errors:
        yield _area.warning(
            "server",
            f"Prefect's server logged {quantity(len(errors), 'error')}, {_last(errors)}",
            f"If something does not work, look at {_LOG}.",
        )


def _last(errors: Sequence[ServerError]) -> str:
    at = f" at {errors[-1].at}" if errors[-1].at else ""
    return f"the last{at}: {errors[-1].says}."
