"""The build step of our `prefect.yaml`, which makes `prefect deploy` keep the switches that users set on the server.

The switches are: which deployments are paused, which schedules are inactive, and which schedules users added.
Without this step, `prefect deploy` resumes each deployment, and replaces all of its schedules if one has no slug.
`photojobs deploy` does not need the step.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from deployments.deploying.definitions_on_server import our_deployments
from flows.starting.deployment_names import MISSING_TAG, SCHEDULE_SOURCE

#: The name of the step in `prefect.yaml`.
STEP = "deployments.deploying.prefect_deploy_step.keep_switches"


@dataclass(frozen=True, slots=True)
class _Switches:
    is_paused: bool
    schedules: tuple[DeploymentSchedule, ...]


#: The switches that users set, by the id of the deployment, as they were before this process changed a deployment;
#: None until they are read.
_switched: dict[UUID, _Switches] | None = None


def keep_switches() -> dict[str, object]:
    """Remember the switches that users set, in the first call; restore those that have changed since, in later calls.

    Prefect runs this step before it registers each deployment. The changes by the last registration are restored when
    the process ends.
    """
    global _switched
    with get_client(sync_client=True) as client:
        if _switched is None:
            found = ((each.id, _switches(each)) for each in our_deployments(client).values())
            _switched = {deployment_id: kept for deployment_id, kept in found if kept.is_paused or kept.schedules}
            atexit.register(restore_switches)
        else:
            _restore(client, _switched)
    return {}


def restore_switches() -> None:
    """Restore the switches that this process has changed."""
    if _switched:
        with get_client(sync_client=True) as client:
            _restore(client, _switched)


def _switches(deployment: DeploymentResponse) -> _Switches:
    return _Switches(
        is_paused=deployment.paused and MISSING_TAG not in deployment.tags,
        schedules=tuple(each for each in deployment.schedules if not each.active or not _is_declared(each)),
    )


def _restore(client: SyncPrefectClient, switched: dict[UUID, _Switches]) -> None:
    for deployment_id, kept in switched.items():
        try:
            deployment = client.read_deployment(deployment_id)
        except ObjectNotFound:
            continue
        ids = {each.id for each in deployment.schedules}
        by_slug = {each.slug: each for each in deployment.schedules if each.slug is not None}
        for schedule in kept.schedules:
            found = by_slug.get(schedule.slug or "")
            if found is not None and found.active and not schedule.active:
                client.update_deployment_schedule(
                    deployment_id, found.id, active=False, parameters=found.parameters or {}
                )
            elif found is None and schedule.id not in ids and not _is_declared(schedule):
                again = DeploymentScheduleCreate(
                    schedule=schedule.schedule,
                    active=schedule.active,
                    parameters=schedule.parameters or {},
                    slug=schedule.slug,
                )
                client.create_deployment_schedules(deployment_id, [again])
        if kept.is_paused and not deployment.paused:
            client.update_deployment(deployment_id, DeploymentUpdate(paused=True))


def _is_declared(schedule: DeploymentSchedule) -> bool:
    return schedule.slug is not None and (schedule.parameters or {}).get("source") == SCHEDULE_SOURCE
