"""Gives readable names to scheduled runs that are not due yet, in place of Prefect's names such as `brave-lynx`."""

from __future__ import annotations

from functools import cache

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType

from deployments.serving.our_flow_runs import our_runs
from flows.starting.deployment_names import flow_run_name

#: The tag of runs that Prefect's scheduler planned.
PLANNED_TAG = "auto-scheduled"


def name_scheduled_runs() -> None:
    """Give planned runs of our deployments their final names."""
    with get_client(sync_client=True) as client:
        flow_name = cache(lambda flow_id: client.read_flow(flow_id).name)
        for run in our_runs(client, StateType.SCHEDULED, tags=[PLANNED_TAG]):
            name = flow_run_name(flow_name(run.flow_id), run.parameters)
            if run.name != name:
                client.update_flow_run(run.id, name=name)
