"""Asks Prefect for a run of Drain Queue if standalone jobs are ready and no such run is under way.

`flows.orchestration.drain_flow` runs the jobs. `deployments.serving.up` decides how often this module is called.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound

from deployments.serving.flow_run_recovery import RECENTLY, delay_after
from deployments.serving.our_flow_runs import all_flow_runs, has_ended_within, in_state, is_due
from flows.starting.deployment_names import DRAIN_PATH
from flows.starting.prefect_requests import request_drain
from storage.database.engine import Database
from storage.queue.jobs import JobsRepository

_UNFINISHED = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED)


def request_needed_drain(database: Database) -> None:
    """Request a run of Drain Queue if standalone jobs are ready, unless there is a reason to wait."""
    if JobsRepository(database).list_ready(limit=1, standalone=True):
        with get_client(sync_client=True) as client:
            must_wait = _must_wait(client)
        if not must_wait:
            request_drain()


def _must_wait(client: SyncPrefectClient) -> bool:
    """Return True if no run of Drain Queue may be requested now.

    That is so if such a run for all jobs is unfinished and due, if the last one has just crashed, or if no such
    deployment exists.
    """
    try:
        deployment = client.read_deployment_by_name(DRAIN_PATH)
    except ObjectNotFound:
        return True
    of_drain = FlowRunFilterDeploymentId(any_=[deployment.id])
    unfinished = all_flow_runs(client, FlowRunFilter(deployment_id=of_drain, state=in_state(*_UNFINISHED)))
    # A run for one lane or tenant leaves the other jobs in the queue.
    if any(is_due(run) and not any(run.parameters.values()) for run in unfinished):
        return True
    crashed = all_flow_runs(
        client,
        FlowRunFilter(deployment_id=of_drain, state=in_state(StateType.CRASHED), end_time=has_ended_within(RECENTLY)),
    )
    crashed_at = [run.end_time for run in crashed if run.end_time is not None]
    return bool(crashed_at) and max(crashed_at) + timedelta(seconds=delay_after(len(crashed_at))) > datetime.now(UTC)
