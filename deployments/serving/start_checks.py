"""Checks a flow run before its process starts: it must run a flow of ours, and overlap no earlier scheduled run.

Every user with the server's password can change a deployment. A changed entrypoint, or steps that "pull" code, would
run foreign programs on this machine. Workers of a work pool do not make these checks.

The flow of a scheduled run also refuses a second task of the same definition and tenant (`storage.queue.new_tasks`),
but only after its process has started. If runs take longer than the interval of their schedule, there would be more and
more such processes. Prefect's concurrency limit does not fit: it counts all runs of a deployment, and a deployment has
one schedule for each tenant.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.states import Completed, Failed

from deployments.errors import ForeignDeployment, ScheduleOverlap
from deployments.serving.our_flow_runs import in_state
from flows.starting.deployment_names import CATALOG

#: States in which a run has a process, or will soon have one.
_AT_WORK = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


def checked_start(start: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap the function that starts the process of a flow run.

    A run whose deployment does not run a flow of photojobs ends as `Failed`. A scheduled run that overlaps an earlier
    one ends as `Skipped`.
    """
    # Prefect logs a traceback for each exception at the start of a process, but a skipped run is not an error.
    logging.getLogger("prefect.runner.flow_run_executor").addFilter(_is_no_overlap)

    async def start_checked(command: list[str], *, env: Mapping[str, str], **options: Any) -> Any:
        async with get_client() as client:
            run = await client.read_flow_run(UUID(env["PREFECT__FLOW_RUN_ID"]))
            await _refuse_foreign(client, run)
            await _skip_overlapping(client, run)
        return await start(command, env=env, **options)

    return start_checked


def foreign_reason(deployment: DeploymentResponse | RunnerDeployment) -> str | None:
    """Return the reason why a deployment does not run one of our flows; None if it runs one."""
    if getattr(deployment, "pull_steps", None):
        return "its deployment has pull steps"
    module, _, flow = (deployment.entrypoint or "").rpartition(".")
    if not (module == CATALOG and flow.isidentifier()):
        return f"the entrypoint of its deployment is not in {CATALOG}"
    return None


async def _refuse_foreign(client: PrefectClient, run: FlowRun) -> None:
    if run.deployment_id is None:
        reason: str | None = "it belongs to no deployment"
    else:
        reason = foreign_reason(await client.read_deployment(run.deployment_id))
    if reason is not None:
        message = (
            f"photojobs does not start this flow run: {reason}. Start a run of a deployment of photojobs; if such a "
            "deployment was changed, restart `photojobs up` to restore it."
        )
        await client.set_flow_run_state(run.id, Failed(message=message), force=True)
        raise ForeignDeployment(f"flow run {run.id}: {message}")


async def _skip_overlapping(client: PrefectClient, run: FlowRun) -> None:
    # A run that was restarted after a crash may already have a task, so it is not skipped.
    if not run.auto_scheduled or run.run_count or run.deployment_id is None:
        return
    at_work = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]),
            state=in_state(*_AT_WORK),
        )
    )
    earlier = next((other for other in at_work if _precedes(other, run)), None)
    if earlier is not None:
        message = f"An earlier run of this schedule is not finished: {earlier.name}."
        await client.set_flow_run_state(run.id, Completed(name="Skipped", message=message), force=True)
        raise ScheduleOverlap(message)


def _precedes(other: FlowRun, run: FlowRun) -> bool:
    """Return True if `run` must be skipped because of `other`; if both are about to start, the one due earlier runs."""
    # A schedule gives all its runs the same parameters. Users may add schedules for several projects of a tenant.
    if other.id == run.id or other.parameters != run.parameters:
        return False
    return other.state_type != StateType.PENDING or _rank(other) < _rank(run)


def _rank(run: FlowRun) -> tuple[str, str]:
    return run.expected_start_time.isoformat() if run.expected_start_time else "", str(run.id)


def _is_no_overlap(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(ScheduleOverlap) is None
    return not isinstance(error, ScheduleOverlap)
