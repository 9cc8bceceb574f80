"""`photojobs lanes`: show and change how many jobs may run at the same time, by priority.

`storage.queue.lanes` has the lanes, and `storage.queue.exchange_statements` counts their slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, Parameter

from deployments.cli.options.errors import BadInput
from deployments.cli.options.opening import opened_database
from deployments.cli.options.parameters import Json, WholeNumber
from deployments.cli.output.terminal import Section, print_json, print_section
from deployments.status.listed_rows import LaneFigures, lane_figures
from storage.queue.lanes import LanesRepository
from task_definitions.model import MAX_PRIORITY

app = App(name="lanes")


@app.command(name="list")
def list_lanes(*, json: Json = False) -> None:
    """List the lanes with their slots."""
    with opened_database() as database:
        _print(lane_figures(database), json=json)


@app.command(name="set")
def set_lane(
    name: str,
    /,
    *,
    slots: WholeNumber | None = None,
    aging_seconds: WholeNumber | None = None,
    fair_tenants: Annotated[bool | None, Parameter(negative="--no-fair-tenants")] = None,
    json: Json = False,
) -> None:
    """Change a lane; in every process, the change applies to jobs that start from now on.

    Args:
        name: The lane, such as normal; `photojobs lanes list` lists all.
        slots: How many jobs of the lane may run at the same time; 0 removes the limit.
        aging_seconds: Raise the priority of a waiting job by one each time this many seconds pass; 0 turns aging off.
        fair_tenants: Among jobs of equal priority, start first a job of the tenant with the fewest running jobs.
    """
    if slots is None and aging_seconds is None and fair_tenants is None:
        raise BadInput("lanes set: nothing to change; give --slots, --aging-seconds or --fair-tenants.")
    with opened_database(upgrade=True) as database:
        LanesRepository(database).change(name, slots=slots, aging_seconds=aging_seconds, fair_tenants=fair_tenants)
        _print([lane for lane in lane_figures(database) if lane.name == name], json=json)


def lane_section(lanes: Sequence[LaneFigures]) -> Section:
    """Return the table of lanes."""
    return Section(
        ("lane", "priorities", "slots", "running", "waiting", "aging", "fair tenants", "held"),
        [
            (
                lane.name,
                f"{max(lane.min_priority, 0)} to {min(lane.max_priority, MAX_PRIORITY)}",
                "no limit" if lane.slots is None else lane.slots,
                lane.running,
                lane.queued,
                "off" if lane.aging_seconds is None else f"{lane.aging_seconds} s",
                lane.fair_tenants,
                lane.is_held,
            )
            for lane in lanes
        ],
        numbers=("slots", "running", "waiting"),
    )


def _print(lanes: list[LaneFigures], *, json: bool) -> None:
    if json:
        print_json(lanes)
    else:
        print_section(lane_section(lanes))
