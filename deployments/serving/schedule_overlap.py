"""Skips a scheduled run, before its process starts, if an earlier run of the same schedule has not ended.

The flow itself refuses a second task of the same definition and tenant. With a short schedule, however, more and more
processes would start only to refuse. Prefect's concurrency limit does not fit: it counts all runs of a deployment, and
a deployment has one schedule for each tenant.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Completed

from deployments.errors import ScheduleOverlap

#: States in which a run has a process, or will soon have one.
_AT_WORK = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def skip_overlaps(start: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap the function that starts the process of a flow run; an overlapping scheduled run ends as `Skipped`."""
    # Prefect logs a traceback for each exception at the start of a process, but a skipped run is not an error.
    logging.getLogger("prefect.runner.flow_run_executor").addFilter(_is_no_overlap)

    async def start_unless_overlapping(command: list[str], *, env: Mapping[str, str], **options: Any) -> Any:
        await _check(UUID(env["PREFECT__FLOW_RUN_ID"]))
        return await start(command, env=env, **options)

    return start_unless_overlapping


async def _check(flow_run_id: UUID) -> None:
    async with get_client() as client:
        run = await client.read_flow_run(flow_run_id)
        # A run that was restarted after a crash may already have a task.
        if not run.auto_scheduled or run.run_count or run.deployment_id is None:
            return
        at_work = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_AT_WORK)),
            )
        )
        earlier = next((other for other in at_work if _precedes(other, run)), None)
        if earlier is None:
            return
        message = f"An earlier run of this schedule is not finished: {earlier.name}."
        await client.set_flow_run_state(flow_run_id, Completed(name="Skipped", message=message), force=True)
    raise ScheduleOverlap(message)


def _precedes(other: FlowRun, run: FlowRun) -> bool:
    """Return True if `run` must wait for `other`; if both are about to start, the one that was due earlier runs."""
    if other.id == run.id or other.parameters.get("tenant_id") != run.parameters.get("tenant_id"):
        return False
    return other.state_type != StateType.PENDING or _rank(other) < _rank(run)


def _rank(run: FlowRun) -> tuple[str, str]:
    return run.expected_start_time.isoformat() if run.expected_start_time else "", str(run.id)


def _is_no_overlap(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(ScheduleOverlap) is None
    return not isinstance(error, ScheduleOverlap)
