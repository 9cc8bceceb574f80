"""Registers a deployment on Prefect's server without changing the switches that users set there.

A deployment that a user paused stays paused, an inactive schedule stays inactive, and a schedule that was added on
the server stays. Prefect's own registration resumes every deployment, and replaces all schedules if one has no slug.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound

from deployments.deploying.schedule_moments import schedule_moments
from flows.starting.deployment_names import MISSING_TAG, SCHEDULE_SOURCE

#: How many planned runs are read in one request: the server's limit. The server plans fewer runs for a deployment.
MAX_PLANNED_RUNS = 200


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration in progress: the server's state before it, and the declared schedules.

    Attributes:
        known: the deployment before the registration; None if it is new.
        declared: the schedules that the definition and the settings declare.
        began_at: a moment before the first change on the server.
    """

    known: DeploymentResponse | None
    declared: tuple[DeploymentScheduleCreate, ...]
    began_at: datetime


def begin_registration(client: SyncPrefectClient, deployment: RunnerDeployment) -> Registration:
    """Read the server's state, and unset the fields of `deployment` that an update must not change.

    The caller then applies `deployment`, and calls `finish_registration`.
    """
    began_at = datetime.now(UTC)
    declared = tuple(DeploymentScheduleCreate(**dict(each)) for each in deployment.schedules or ())
    try:
        known = client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return Registration(None, declared, began_at)
    deployment.schedules = None
    # An update sends only the fields that are set, and changes no other field.
    deployment.model_fields_set.discard("schedules")
    if MISSING_TAG not in known.tags:
        deployment.model_fields_set.discard("paused")
    return Registration(known, declared, began_at)


def finish_registration(client: SyncPrefectClient, registration: Registration, deployment_id: UUID) -> None:
    """Update the declared schedules of a deployment that was just applied, and plan its runs unless it is paused."""
    known = registration.known
    if known is None:
        is_paused, is_scheduled = False, bool(registration.declared)
    else:
        _update_schedules(client, known, registration.declared)
        is_paused = known.paused and MISSING_TAG not in known.tags
        is_scheduled = bool(registration.declared or known.schedules)
    if is_scheduled and not is_paused:
        plan_runs(client, deployment_id, since=registration.began_at)


def plan_runs(client: SyncPrefectClient, deployment_id: UUID, *, since: datetime) -> None:
    """Let the server plan the runs of a deployment now; the deployment must not be paused.

    Every update of a deployment removes its planned runs, and the server's scheduler plans only runs that are due after
    its next round. Without this call, a run that is due before that round would be lost. Runs are planned from the
    moment `since` on.
    """
    client.request(
        "POST", "/deployments/{id}/schedule", path_params={"id": deployment_id}, json={"start_time": since.isoformat()}
    )


def pause_missing(client: SyncPrefectClient, deployment: DeploymentResponse) -> bool:
    """Pause a deployment whose definition is missing; return False if it was paused already.

    The next registration resumes the deployment.
    """
    if deployment.paused:
        return False
    tags = [*(tag for tag in deployment.tags if tag != MISSING_TAG), MISSING_TAG]
    client.update_deployment(deployment.id, DeploymentUpdate(paused=True, tags=tags))
    # Unlike an update, this request also removes planned runs that are due, which would stay `Late` for ever.
    client.request("POST", "/deployments/{id}/pause_deployment", path_params={"id": deployment.id})
    return True


def restore_parameters(
    client: SyncPrefectClient, deployment: DeploymentResponse, declared: Iterable[DeploymentScheduleCreate]
) -> bool:
    """Restore the parameters of a deployment's declared schedules; return whether any had lost them.

    Prefect clears the parameters of a schedule when a user switches it off or on in Prefect's pages. Without the
    parameter for the tenant, the next planned runs would be for the default tenant.
    """
    began_at = datetime.now(UTC)
    wanted = {each.slug: each.parameters for each in declared}
    lost = [each for each in deployment.schedules if not each.parameters and wanted.get(each.slug)]
    for schedule in lost:
        client.update_deployment_schedule(deployment.id, schedule.id, parameters=wanted[schedule.slug])
    if lost and not deployment.paused:
        plan_runs(client, deployment.id, since=began_at)
    return bool(lost)


def remove_stale_runs(
    client: SyncPrefectClient, deployment_id: UUID, declared: Iterable[DeploymentScheduleCreate]
) -> None:
    """Remove the planned runs that no schedule of a deployment asks for, and plan its runs again.

    The server's scheduler first reads a schedule, and writes its runs a moment later. If a user changes, switches off
    or deletes the schedule in between, or pauses the deployment, these runs are stale, and Prefect never removes them.
    """
    of_deployment = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    began_at = datetime.now(UTC)
    runs = client.read_flow_runs(flow_run_filter=of_deployment, limit=MAX_PLANNED_RUNS)
    # The deployment is read after its runs. Otherwise, if a schedule changed in between, its new runs would count as
    # stale.
    deployment = client.read_deployment(deployment_id)
    parameters = {each.slug: each.parameters for each in declared if each.parameters}
    active = {str(each.id): each for each in deployment.schedules if each.active and not deployment.paused}
    has_removed = False
    for schedule_id, planned in _by_schedule(runs, after=began_at).items():
        schedule = active.get(schedule_id)
        moments = set() if schedule is None else _moments(schedule, planned)
        expected = {} if schedule is None else parameters.get(schedule.slug, {})
        for moment, run in planned:
            if moment not in moments or not expected.keys() <= run.parameters.keys():
                client.delete_flow_run(run.id)
                has_removed = True
    if has_removed and not deployment.paused:
        plan_runs(client, deployment_id, since=began_at)


def _by_schedule(runs: Iterable[FlowRun], *, after: datetime) -> dict[str, list[tuple[datetime, FlowRun]]]:
    """Return the runs that are planned for a moment later than `after`, each with its moment, by schedule id."""
    found: dict[str, list[tuple[datetime, FlowRun]]] = defaultdict(list)
    for run in runs:
        # The key is `scheduled DEPLOYMENT SCHEDULE MOMENT`. No other field says which schedule planned a run.
        words = (run.idempotency_key or "").split()
        moment = run.expected_start_time
        if words[:1] == ["scheduled"] and len(words) > 2 and moment is not None and moment > after:
            found[words[2]].append((moment, run))
    return found


def _moments(schedule: DeploymentSchedule, planned: Iterable[tuple[datetime, FlowRun]]) -> set[datetime]:
    """Return the moments of a schedule from the first to the last of these runs."""
    wanted = [moment for moment, _ in planned]
    on_server = schedule.model_dump(mode="json")["schedule"]
    return set(schedule_moments(on_server, start=min(wanted), end=max(wanted), limit=MAX_PLANNED_RUNS))


def _update_schedules(
    client: SyncPrefectClient, known: DeploymentResponse, declared: Iterable[DeploymentScheduleCreate]
) -> None:
    former = [schedule for schedule in known.schedules if schedule.slug is not None]
    new = []
    for wanted in declared:
        found = next((each for each in former if _is_same(each, wanted)), None)
        if found is None:
            new.append(wanted)
            continue
        former.remove(found)
        if (found.slug, found.schedule, found.parameters) != (wanted.slug, wanted.schedule, wanted.parameters):
            client.update_deployment_schedule(
                known.id, found.id, schedule=wanted.schedule, parameters=wanted.parameters, slug=wanted.slug
            )
    for schedule in former:
        # A schedule that a user added stays.
        if _is_ours(schedule):
            client.delete_deployment_schedule(known.id, schedule.id)
    # New schedules come last, because their slug may have belonged to a schedule that was just renamed or deleted.
    if new:
        client.create_deployment_schedules(known.id, new)


def _is_same(schedule: DeploymentSchedule, wanted: DeploymentScheduleCreate) -> bool:
    # The tenant identifies a schedule, because an older version gave the same slug to several tenants. If the
    # parameters are lost (see `restore_parameters`), only the slug is left.
    if _is_ours(schedule):
        return schedule.parameters.get("tenant_id") == (wanted.parameters or {}).get("tenant_id")
    return schedule.slug == wanted.slug


def _is_ours(schedule: DeploymentSchedule) -> bool:
    return (schedule.parameters or {}).get("source") == SCHEDULE_SOURCE
