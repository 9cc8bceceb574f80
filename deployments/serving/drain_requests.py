"""Asks Prefect for a run of Drain Queue if standalone jobs are ready and no such run is under way.

`flows.orchestration.drain_flow` runs the jobs. `deployments.serving.up` decides how often this module is called.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound

from deployments.serving.flow_run_recovery import RECENTLY, delay_after
from deployments.serving.our_flow_runs import all_flow_runs, has_ended_within, in_state, is_due
from flows.starting.deployment_names import DRAIN_PATH
from flows.starting.prefect_requests import request_drain
from storage.database.engine import Database
from storage.queue.jobs import JobsRepository

logger = logging.getLogger("photojobs.drain")

#: After a user has canceled a run, the next run is requested this much later.
CANCELED_SECONDS = 600.0

_UNFINISHED = (
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
)


class DrainRequests:
    """Requests runs of Drain Queue, and logs once why standalone jobs wait.

    A canceled run delays the next one only until `photojobs up` is restarted.
    """

    def __init__(self, database: Database) -> None:
        self._jobs = JobsRepository(database)
        self._began_at = datetime.now(UTC)
        self._logged = ""

    def request_if_needed(self) -> None:
        """Request a run if standalone jobs are ready, unless there is a reason to wait."""
        if not self._jobs.list_ready(limit=1, standalone=True):
            return
        with get_client(sync_client=True) as client:
            reason = self._reason_to_wait(client)
        if reason is None:
            request_drain()
        elif reason not in ("", self._logged):
            logger.warning("standalone jobs wait: %s", reason)
        self._logged = reason or ""

    def _reason_to_wait(self, client: SyncPrefectClient) -> str | None:
        """Return why no run may be requested now; an empty text if a run is under way, None if there is no reason."""
        try:
            deployment = client.read_deployment_by_name(DRAIN_PATH)
        except ObjectNotFound:
            return "the deployment Drain Queue is missing; restart `photojobs up`, or start `photojobs worker`"
        if deployment.paused:
            return "the deployment Drain Queue is paused in Prefect; resume it, or start `photojobs worker`"
        of_drain = FlowRunFilterDeploymentId(any_=[deployment.id])
        unfinished = all_flow_runs(client, FlowRunFilter(deployment_id=of_drain, state=in_state(*_UNFINISHED)))
        under_way = [run for run in unfinished if is_due(run) and _is_for_all_jobs(run)]
        if under_way:
            # If a user paused the run, the jobs must wait, and another run would take them. A run that is not paused
            # takes all jobs itself.
            is_paused = all(run.state_type == StateType.PAUSED for run in under_way)
            return f"the flow run {under_way[0].name} is paused in Prefect; resume it" if is_paused else ""
        ended = all_flow_runs(
            client,
            FlowRunFilter(
                deployment_id=of_drain,
                state=in_state(StateType.CRASHED, StateType.CANCELLED),
                end_time=has_ended_within(RECENTLY),
            ),
        )
        crashed = [run for run in ended if run.state_type == StateType.CRASHED]
        if any(_ended_within(run, delay_after(len(crashed))) for run in crashed):
            return "the process of the last run of Drain Queue crashed; the next run starts after a while"
        # A missed run of a schedule is `Skipped`, and not `Cancelled`.
        canceled = [run for run in ended if run.state_name == "Cancelled" and _is_for_all_jobs(run)]
        limit_seconds = min(CANCELED_SECONDS, (datetime.now(UTC) - self._began_at).total_seconds())
        if any(_ended_within(run, limit_seconds) for run in canceled):
            return (
                f"a run of Drain Queue was canceled in Prefect, so the next run starts {CANCELED_SECONDS:.0f} s later. "
                "Start Drain Queue to run the jobs now, or pause its deployment to keep them waiting"
            )
        return None


def _is_for_all_jobs(run: FlowRun) -> bool:
    # A run for one lane or tenant leaves the other jobs in the queue.
    return not any(run.parameters.values())


def _ended_within(run: FlowRun, seconds: float) -> bool:
    return run.end_time is not None and run.end_time > datetime.now(UTC) - timedelta(seconds=seconds)
