"""Keeps the runner from starting flow runs of other flows than those of photojobs.

Every user with the server's password can change a deployment. A changed entrypoint, or steps that "pull" code, would
run foreign programs on this machine.
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
    """Return the reason why a deployment does not run one of our flows; None if it runs one."""
    if getattr(deployment, "pull_steps", None):
        return "it has pull steps"
    module, _, flow = (deployment.entrypoint or "").rpartition(".")
    if not (module == CATALOG and flow.isidentifier()):
        return f"its entrypoint is not in {CATALOG}"
    return None


def only_own(start: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap the function that starts the process of a flow run; a run of a foreign deployment ends as `Failed`."""

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
