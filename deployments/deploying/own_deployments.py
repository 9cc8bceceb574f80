"""The runner starts only flow runs of our own flows.

Every user with the server's password can change a deployment: steps that "pull" code, or another entrypoint, would
run programs on this machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.states import Failed

from deployments.errors import ForeignDeployment
from flows.starting.deployment_names import CATALOG


def foreign_reason(deployment: DeploymentResponse | RunnerDeployment) -> str | None:
    """Why a deployment does not run our flows; None if it does."""
    if getattr(deployment, "pull_steps", None):
        return "it has pull steps"
    module, _, flow = (deployment.entrypoint or "").rpartition(".")
    if not (module == CATALOG and flow.isidentifier()):
        return f"its entrypoint is not in {CATALOG}"
    return None


def only_own(start: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap what starts the process of a flow run: a run of a foreign deployment ends as failed, and nothing starts."""

    async def start_if_own(command: list[str], *, env: Mapping[str, str], **options: Any) -> Any:
        await _check(UUID(env["PREFECT__FLOW_RUN_ID"]))
        return await start(command, env=env, **options)

    return start_if_own


async def _check(flow_run_id: UUID) -> None:
    async with get_client() as client:
        flow_run = await client.read_flow_run(flow_run_id)
        if flow_run.deployment_id is None:
            reason: str | None = "it belongs to no deployment"
        else:
            reason = foreign_reason(await client.read_deployment(flow_run.deployment_id))
        if reason is None:
            return
        message = f"photojobs does not run this deployment: {reason}. Start `photojobs up` again to restore it."
        await client.set_flow_run_state(flow_run_id, Failed(message=message), force=True)
    raise ForeignDeployment(f"flow run {flow_run_id}: {message}")
