"""Builds the Prefect deployment of a definition: its name, form, description and schedules.

`_schedule` decides when a schedule runs, also when clocks change. Prefect computes the times of cron texts in their
time zone. Intervals count from `INTERVAL_ANCHOR`; those of a day or more follow the clock of their time zone, and
shorter ones UTC. `deployments.deploying.scheduled_definitions` decides which definitions have a schedule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron, Interval, Schedule
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.callables import ParameterSchema
from pydantic import ValidationError

from deployments.deploying.definitions_on_server import declaration
from deployments.deploying.forms import NO_CHOICES, Choices, form_of
from deployments.deploying.registration import plan_runs
from deployments.deploying.scheduled_definitions import schedule_of, zone_of
from flows.catalog import drain_queue
from flows.orchestration.compiler import compile_task
from flows.starting.deployment_names import CATALOG, DRAIN, SCHEDULE_SOURCE, TAG, deployment_name
from storage.queue.lanes import PRIORITY_LANE_FROM
from storage.settings import Settings
from task_definitions import Schedule as DeclaredSchedule
from task_definitions import TaskDefinition
from task_definitions.errors import InvalidDefinition

#: If a definition has more steps than this, its picture shows all steps one below the other instead of side by side.
MAX_STEPS_SIDE_BY_SIDE = 4

#: Intervals count from the beginning of this day (year, month, day) in the schedule's time zone. By default, Prefect
#: counts from the moment of the registration, so an interval that is longer than the time between two restarts of
#: `photojobs up` would never end.
INTERVAL_ANCHOR = (2020, 1, 1)

#: The names of the two work queues of a work pool.
PRIORITY_QUEUE, NORMAL_QUEUE = "priority", "normal"


def deployment_of(
    definition: TaskDefinition,
    settings: Settings,
    *,
    choices: Choices = NO_CHOICES,
    work_pool: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
) -> RunnerDeployment:
    """Return the deployment of a definition. If `work_pool` is None, a runner of ours serves the deployment.

    `job_variables` replace variables of the work pool.

    Raises:
        MissingHandler: a step's type has no handler here.
        InvalidDefinition: Prefect refuses a value of the definition.
    """
    flow = compile_task(definition)
    try:
        deployment = flow.to_deployment(
            name=deployment_name(definition),
            description=_description(definition),
            tags=[TAG, *(["user"] if definition.user_relevant else ["maintenance"])],
            schedules=_schedules(definition, settings),
            entrypoint_type=EntrypointType.MODULE_PATH,
            work_pool_name=work_pool,
            work_queue_name=None if work_pool is None else queue_of(definition),
            job_variables=dict(job_variables or {}),
        )
    except ValidationError as error:
        # Prefect knows fewer time zones than Python, which reads them from a disk that may ignore case.
        problem = f"Prefect refuses the definition: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        raise InvalidDefinition(problem, definition=definition.name) from None
    return _with_form(deployment, form_of(flow, choices, definition))


def drain_deployment(
    *, choices: Choices = NO_CHOICES, work_pool: str | None = None, job_variables: Mapping[str, Any] | None = None
) -> RunnerDeployment:
    """Return the deployment that runs standalone jobs; see `deployment_of` for the parameters."""
    deployment = cast(
        "RunnerDeployment",
        drain_queue.to_deployment(
            name="Drain Queue",
            tags=[TAG, "maintenance"],
            entrypoint_type=EntrypointType.MODULE_PATH,
            work_pool_name=work_pool,
            work_queue_name=None if work_pool is None else NORMAL_QUEUE,
            job_variables=dict(job_variables or {}),
        ),
    )
    # Prefect would use the module of the function; all our flows have their entrypoint in the catalog.
    deployment.entrypoint = f"{CATALOG}.{DRAIN}"
    return _with_form(deployment, form_of(drain_queue, choices))


def _with_form(deployment: Any, form: ParameterSchema) -> RunnerDeployment:
    # Prefect has no public way to set the form of a deployment that a runner registers.
    deployment._parameter_openapi_schema = form
    return cast("RunnerDeployment", deployment)


def update_form(client: SyncPrefectClient, deployment: RunnerDeployment) -> None:
    """Give a registered deployment the form of `deployment`; change nothing else."""
    began_at = datetime.now(UTC)
    registered = client.read_deployment_by_name(deployment.full_name)
    form = deployment._parameter_openapi_schema.model_dump(exclude_unset=True)
    client.update_deployment(registered.id, DeploymentUpdate(parameter_openapi_schema=form))
    if registered.schedules and not registered.paused:
        plan_runs(client, registered.id, since=began_at)


def queue_of(definition: TaskDefinition) -> str:
    """Return the work queue of a definition: `priority` if a step belongs to the lane `priority`, else `normal`."""
    return PRIORITY_QUEUE if definition.priority >= PRIORITY_LANE_FROM else NORMAL_QUEUE


def schedule_slug(tenant_id: str) -> str:
    """Return the slug by which Prefect identifies the schedule of a tenant: lowercase letters, digits and hyphens.

    The slug ends with a digest of the tenant's id if another id could result in the same slug.
    """
    slug = "".join(character if character.isascii() and character.isalnum() else "-" for character in tenant_id).lower()
    if slug.replace("-", "_") == tenant_id:
        return slug
    return f"{slug}-{hashlib.sha256(tenant_id.encode()).hexdigest()[:8]}"


def _schedules(definition: TaskDefinition, settings: Settings) -> list[Schedule]:
    declared = schedule_of(definition, settings)
    if declared is None:
        return []
    return [_schedule(declared, tenant_id) for tenant_id in settings.scheduled_tenants]


def _schedule(declared: DeclaredSchedule, tenant_id: str) -> Schedule:
    parameters = {"tenant_id": tenant_id, "source": SCHEDULE_SOURCE}
    slug = schedule_slug(tenant_id)
    if declared.cron is not None:
        return Cron(declared.cron, timezone=declared.timezone, parameters=parameters, slug=slug)
    interval = timedelta(seconds=declared.interval_seconds or 0)
    return Interval(
        interval,
        anchor_date=datetime(*INTERVAL_ANCHOR, tzinfo=zone_of(declared.timezone)),
        # Shorter intervals use UTC: in another zone, Prefect skips the repeated hour in autumn on Python before 3.13.
        timezone=declared.timezone if interval >= timedelta(days=1) else "UTC",
        parameters=parameters,
        slug=slug,
    )


def _description(definition: TaskDefinition) -> str:
    flow_description = compile_task(definition).description or definition.label
    # More boxes side by side would be too small to read.
    direction = "LR" if len(definition.steps) <= MAX_STEPS_SIDE_BY_SIDE else "TD"
    arrows = " --> ".join(
        f'{index}["{step.type}<br/>{step.priority}"]' for index, step in enumerate(definition.steps, start=1)
    )
    return f"{flow_description}\n\n```mermaid\nflowchart {direction}\n    {arrows}\n```\n\n{declaration(definition)}\n"
