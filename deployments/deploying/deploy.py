"""Registers definitions in a Prefect work pool, whose workers on any machine run them.

`plan_deployments` decides which definitions get a deployment, and only reads; `carry_out` makes the changes.
`deployments.deploying.runner_deployments` decides what a deployment contains. Use `deployments.serving` to run
definitions on this machine without a pool.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import WorkPool
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from deployments.deploying.definitions_on_server import our_deployments
from deployments.deploying.registration import (
    begin_registration,
    finish_registration,
    pause_missing,
    remove_stale_runs,
)
from deployments.deploying.runner_deployments import NORMAL_QUEUE, PRIORITY_QUEUE, deployment_of, drain_deployment
from deployments.errors import ImageMismatch, NoSecretBlock, NoWorkPool, UnknownPoolType
from deployments.server.telemetry_off import NO_TELEMETRY
from flows.starting.deployment_names import DRAIN
from storage.settings import Settings
from task_definitions import Definitions

#: The work queues of a pool with their priorities in Prefect; 1 is the highest.
QUEUES = {PRIORITY_QUEUE: 1, NORMAL_QUEUE: 2}

#: A container gets no variable of this environment whose name begins with one of these texts: such variables are
#: secrets, or are valid only on this machine.
_NOT_PASSED_ON = ("PHOTOJOBS_DATABASE_URL", "PHOTOJOBS_TEST_", "PHOTOJOBS_UP_", "PHOTOJOBS_CONFIG")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChoice:
    """The work pool to deploy to, and options of its runs.

    Attributes:
        name: the pool's name.
        create_type: the type of the pool to create if it is missing; None creates no pool.
        image: the container image of the runs; None for a pool without containers.
        database_secret: the name of a Prefect Secret block with the database's URL, which workers read for each run.
    """

    name: str
    create_type: str | None = None
    image: str | None = None
    database_secret: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDeployment:
    """The planned action for one deployment.

    Attributes:
        path: the deployment's path in Prefect's API, `<flow>/<deployment>`.
        action: what to do; `pause` if the definition no longer exists.
        queue: the work queue; None if the action is `pause`.
        schedules: the schedules as texts.
        deployment: the deployment to register; None if the action is `pause`.
    """

    path: str
    action: Literal["create", "update", "pause"]
    queue: str | None = None
    schedules: tuple[str, ...] = ()
    deployment: RunnerDeployment | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """The changes that `carry_out` makes.

    Attributes:
        pool_template: the base job template of the pool to create; None if the pool exists.
    """

    choice: PoolChoice
    pool_type: str
    pool_template: Mapping[str, Any] | None
    deployments: tuple[PlannedDeployment, ...]

    @property
    def creates_pool(self) -> bool:
        """Whether the pool must be created first."""
        return self.pool_template is not None


def plan_deployments(
    client: SyncPrefectClient,
    definitions: Definitions,
    settings: Settings,
    choice: PoolChoice,
    *,
    names: Iterable[str] = (),
) -> DeploymentPlan:
    """Plan what must be done to deploy these definitions to the pool; change nothing.

    `names` are names of definitions, or `drain_queue`; by default all. If all are deployed, the plan also pauses the
    pool's deployments whose definition no longer exists.

    Raises:
        UnknownDefinition: a definition does not exist.
        MissingHandler: a step's type has no handler here.
        InvalidDefinition: Prefect refuses a value of a definition.
        NoWorkPool: the pool does not exist, and `choice` has no type to create it.
        UnknownPoolType: Prefect does not know the type of the pool to create.
        ImageMismatch: the pool's type needs an image and none is given, or an image is given for a type without
            containers.
        NoSecretBlock: the Secret block does not exist on the server.
    """
    chosen = tuple(dict.fromkeys(names))
    known = [definitions.get_or_raise(name) for name in chosen if name != DRAIN] if chosen else definitions.values()
    pool_type, template, is_new = _pool(client, choice)
    _check_image(choice, pool_type, template)
    job_variables = _job_variables(client, choice)
    built = [
        deployment_of(definition, settings, work_pool=choice.name, job_variables=job_variables) for definition in known
    ]
    if not chosen or DRAIN in chosen:
        built.append(drain_deployment(work_pool=choice.name, job_variables=job_variables))
    existing = our_deployments(client)
    planned = [_planned(deployment, is_known=deployment.full_name in existing) for deployment in built]
    if not chosen:
        wanted = {deployment.full_name for deployment in built}
        planned += [
            PlannedDeployment(path=path, action="pause")
            for path, found in sorted(existing.items())
            if path not in wanted and found.work_pool_name == choice.name and not found.paused
        ]
    return DeploymentPlan(
        choice=choice, pool_type=pool_type, pool_template=template if is_new else None, deployments=tuple(planned)
    )


def carry_out(client: SyncPrefectClient, plan: DeploymentPlan) -> None:
    """Create the pool and its queues if they are missing, and register and pause deployments.

    Deployments that users paused, and schedules that users switched off, stay so; see `registration.py`. Planned runs
    that no schedule asks for are removed.
    """
    pool = plan.choice.name
    if plan.pool_template is not None:
        client.create_work_pool(
            WorkPoolCreate(name=pool, type=plan.pool_type, base_job_template=dict(plan.pool_template))
        )
    _set_up_queues(client, pool)
    declared: dict[UUID, tuple[DeploymentScheduleCreate, ...]] = {}
    for planned in plan.deployments:
        if planned.deployment is not None:
            registration = begin_registration(client, planned.deployment)
            deployment_id = cast("UUID", planned.deployment.apply(work_pool_name=pool, image=plan.choice.image))
            finish_registration(client, registration, deployment_id)
            if registration.declared or (registration.known is not None and registration.known.schedules):
                declared[deployment_id] = registration.declared
        else:
            missing = client.read_deployment_by_name(planned.path)
            pause_missing(client, missing)
            declared[missing.id] = ()
    # No process watches the schedules of a pool later, so runs of schedules that changed are removed now. This comes
    # last, because the server may write such runs a moment after a change.
    for deployment_id, schedules in declared.items():
        remove_stale_runs(client, deployment_id, schedules)


def _planned(deployment: RunnerDeployment, *, is_known: bool) -> PlannedDeployment:
    schedules = (declared.schedule for declared in deployment.schedules or [])
    return PlannedDeployment(
        path=deployment.full_name,
        action="update" if is_known else "create",
        queue=deployment.work_queue_name,
        schedules=tuple(_as_text(schedule) for schedule in schedules),
        deployment=deployment,
    )


def _as_text(schedule: Any) -> str:
    cron = getattr(schedule, "cron", None)
    return f"{cron} {schedule.timezone}" if cron else f"every {schedule.interval.total_seconds():g} s"


def _pool(client: SyncPrefectClient, choice: PoolChoice) -> tuple[str, Mapping[str, Any], bool]:
    """Return the pool's type, its base job template, and whether the pool must be created."""
    try:
        pool: WorkPool = client.read_work_pool(choice.name)
    except ObjectNotFound:
        pass
    else:
        return pool.type, pool.base_job_template, False
    if choice.create_type is None:
        raise NoWorkPool(
            f'there is no work pool "{choice.name}". Create it with `prefect work-pool create {choice.name} --type '
            "process` (or docker, or kubernetes), or add --create-pool process."
        )
    template: Any = run_coro_as_sync(get_default_base_job_template_for_infrastructure_type(choice.create_type))
    if template is None:
        raise UnknownPoolType(
            f'Prefect has no work pools of the type "{choice.create_type}". Name another type with --create-pool; the '
            "common types are process, docker and kubernetes."
        )
    return choice.create_type, cast("Mapping[str, Any]", template), True


def _check_image(choice: PoolChoice, pool_type: str, template: Mapping[str, Any]) -> None:
    runs_images = "image" in template.get("variables", {}).get("properties", {})
    if runs_images and choice.image is None:
        raise ImageMismatch(
            f'the work pool "{choice.name}" of type {pool_type} runs containers, but no image was given. Use --image '
            "to name an image that contains photojobs, for example the image that the Dockerfile builds."
        )
    if choice.image is not None and not runs_images:
        raise ImageMismatch(
            f'the work pool "{choice.name}" of type {pool_type} runs no containers, but the packages that are '
            "installed on the worker's machine; leave --image out."
        )


def _job_variables(client: SyncPrefectClient, choice: PoolChoice) -> dict[str, Any]:
    environment: dict[str, str] = {}
    if choice.image is not None:
        # A process inherits its worker's environment; a container has only these variables.
        environment |= passed_on(os.environ) | NO_TELEMETRY
    if choice.database_secret is not None:
        try:
            client.read_block_document_by_name(choice.database_secret, "secret")
        except ObjectNotFound:
            raise NoSecretBlock(
                f'there is no Secret block "{choice.database_secret}" on the server. In Prefect\'s pages, under '
                "Blocks, add one whose value is the database's URL."
            ) from None
        environment["PHOTOJOBS_DATABASE_URL"] = f"{{{{ prefect.blocks.secret.{choice.database_secret} }}}}"
    return {"env": environment} if environment else {}


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the PHOTOJOBS_ variables that a deployment may contain; every user of the server can read deployments."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith("PHOTOJOBS_") and not name.startswith(_NOT_PASSED_ON)
    }


def _set_up_queues(client: SyncPrefectClient, pool: str) -> None:
    for name, priority in QUEUES.items():
        try:
            queue = client.read_work_queue_by_name(name, work_pool_name=pool)
        except ObjectNotFound:
            client.create_work_queue(name, priority=priority, work_pool_name=pool)
        else:
            if queue.priority != priority:
                client.update_work_queue(queue.id, priority=priority)
