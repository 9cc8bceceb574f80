"""`photojobs status`: what runs, what waits, and what came of the latest tasks."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from deployments.cli.definitions import Json
from deployments.cli.lanes import LANE_COLUMNS, LANE_NUMBERS, lane_rows
from deployments.cli.opening import opened_database
from deployments.cli.terminal import duration, output, print_json, print_table, say
from deployments.queue_figures import lane_figures
from storage.holds import HoldsRepository
from storage.records import Task
from storage.statistics import Statistics
from storage.tasks import TasksRepository

app = App(name="status")


@app.default
def show_status(
    *,
    tenant: str | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 10,
    json: Json = False,
) -> None:
    """Show lanes, the latest tasks, holds, and how many jobs are in which status.

    Parameters
    ----------
    tenant
        Only tasks of this tenant.
    limit
        How many tasks, at most; unfinished ones come first.
    """
    with opened_database() as database:
        lanes = lane_figures(database)
        counts = Statistics(database).count_by_status()
        holds = HoldsRepository(database).list()
        repository = TasksRepository(database)
        tasks = [
            task
            for status in ("running", "queued")
            for task in repository.list_newest(limit=limit, tenant_id=tenant, status=status)
        ]
        latest = repository.list_newest(limit=limit, tenant_id=tenant)
        tasks += [task for task in latest if task.is_final]
        place = database.url
    if json:
        print_json({"database": place, "lanes": lanes, "tasks": tasks[:limit], "holds": holds, "jobs": counts})
        return
    say(f"Database {place}")
    say(f"Jobs     {', '.join(f'{number} {status}' for status, number in counts.items())}")
    output().print()
    print_table(LANE_COLUMNS, lane_rows(lanes), numbers=LANE_NUMBERS)
    if tasks:
        output().print()
        rows = [
            (
                task.id,
                task.type,
                task.status,
                task.tenant_id,
                task.project_id,
                task.created_at,
                duration(_seconds(task)),
            )
            for task in tasks[:limit]
        ]
        print_table(
            ("task", "definition", "status", "tenant", "project", "created", "took"), rows, numbers=("project", "took")
        )
    if holds:
        output().print()
        print_table(
            ("held", "name", "since", "reason"),
            [(hold.kind, hold.name, hold.created_at, hold.reason) for hold in holds],
        )


def _seconds(task: Task) -> float | None:
    if task.started_at is None or task.finished_at is None:
        return None
    return (task.finished_at - task.started_at).total_seconds()
