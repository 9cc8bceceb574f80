"""Reads from Prefect's server when each definition runs next, or why no run is planned.

The time of the next run is not computed here: the server starts the runs, so only its plan is right.
`deployments.deploying.runner_deployments` makes the schedules that the server follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from deployments.deploying.schedule_moments import schedule_moments
from deployments.deploying.scheduled_definitions import declared_schedules, in_words
from deployments.server.server_api import ServerApi
from flows.starting.deployment_names import TAG
from storage.settings import Settings
from task_definitions import TaskDefinition

#: After this time, Prefect's scheduler must have planned the runs of a changed schedule; its rounds begin each minute.
SCHEDULER_SECONDS = 120.0

#: How far ahead Prefect's scheduler plans runs.
HORIZON = timedelta(days=100)

#: A run that is later than this has no runner. On a busy machine a run may begin a minute late.
LATE_SECONDS = 300.0

_PAGE = 200


class Standing(StrEnum):
    """The state of a schedule."""

    PLANNED = "planned"
    LATE = "late"
    NOT_PLANNED_YET = "not planned yet"
    NOT_PLANNED = "not planned"
    NOT_SERVED = "not served"
    SWITCHED_OFF = "switched off"
    PAUSED = "paused"
    STILL_PLANNED = "still planned"
    NO_SERVER = "no server"

    @property
    def is_wrong(self) -> bool:
        """Whether the schedule should run, but does not; or should not run, but a run is planned."""
        return self in (Standing.LATE, Standing.NOT_PLANNED, Standing.NOT_SERVED, Standing.STILL_PLANNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRun:
    """A schedule with its next run.

    Attributes:
        definition: the name of the definition that runs.
        tenant_id: the tenant; None for a schedule that a user added without a tenant.
        when: the schedule as a text, such as `0 3 * * * UTC`.
        next_at: the moment of the next run that the server has planned; None if it has planned none.
    """

    definition: str
    tenant_id: str | None
    when: str
    next_at: datetime | None
    standing: Standing


def scheduled_runs(
    definitions: Mapping[str, TaskDefinition], settings: Settings, server: ServerApi | None
) -> list[ScheduledRun]:
    """Return the next run of each schedule that is declared or that the server has, the soonest run first.

    `server` is None if no server runs.

    Raises:
        InvalidSettings: the settings have an invalid schedule.
    """
    declared = declared_schedules(definitions, settings)
    standing = Standing.NOT_SERVED
    try:
        found = [] if server is None else list(_on_server(server))
    except (OSError, ValueError, KeyError, TypeError):
        server, found = None, []
    if server is None:
        standing = Standing.NO_SERVER
    known = {(run.definition, run.tenant_id) for run in found}
    found += [
        ScheduledRun(definition=name, tenant_id=tenant, when=in_words(schedule), next_at=None, standing=standing)
        for (name, tenant), schedule in declared.items()
        if (name, tenant) not in known
    ]
    last = datetime.max.replace(tzinfo=UTC)
    return sorted(found, key=lambda run: (run.next_at or last, run.definition, run.tenant_id or ""))


def _on_server(server: ServerApi) -> Iterator[ScheduledRun]:
    for deployment in _pages(server, "/deployments/filter", {"deployments": {"tags": {"all_": [TAG]}}}):
        planned = _planned(server, deployment["id"]) if deployment["schedules"] else {}
        for schedule in deployment["schedules"]:
            yield _scheduled(deployment, schedule, planned.get(schedule["id"]))


def _planned(server: ServerApi, deployment_id: str) -> dict[str, datetime]:
    """Return the moment of the first planned run of each schedule of a deployment, by the schedule's id."""
    first: dict[str, datetime] = {}
    filters = {
        "flow_runs": {"deployment_id": {"any_": [deployment_id]}, "state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
    }
    for run in _pages(server, "/flow_runs/filter", filters):
        if run.get("auto_scheduled") and run.get("created_by"):
            first.setdefault(run["created_by"]["id"], datetime.fromisoformat(run["expected_start_time"]))
    return first


def _pages(server: ServerApi, path: str, filters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all objects that match the filters; Prefect's server returns one page at a time."""
    offset = 0
    while page := server.post(path, filters | {"limit": _PAGE, "offset": offset}):
        yield from page
        offset += len(page)


def _scheduled(deployment: dict[str, Any], schedule: dict[str, Any], next_at: datetime | None) -> ScheduledRun:
    return ScheduledRun(
        definition=str(deployment["entrypoint"] or deployment["name"]).rpartition(".")[2],
        tenant_id=schedule["parameters"].get("tenant_id"),
        when=_in_words(schedule["schedule"]),
        next_at=next_at,
        standing=_standing(deployment, schedule, next_at),
    )


def _standing(deployment: dict[str, Any], schedule: dict[str, Any], next_at: datetime | None) -> Standing:
    now = datetime.now(UTC)
    if deployment["paused"] or not schedule["active"]:
        if next_at is not None:
            # Prefect's scheduler wrote this run for the schedule as it was before, and the run will start.
            return Standing.STILL_PLANNED
        return Standing.PAUSED if deployment["paused"] else Standing.SWITCHED_OFF
    if next_at is not None:
        return Standing.LATE if (now - next_at).total_seconds() > LATE_SECONDS else Standing.PLANNED
    changed_at = max(datetime.fromisoformat(each["updated"]) for each in (deployment, schedule))
    is_due = (now - changed_at).total_seconds() > SCHEDULER_SECONDS and _comes_before(schedule["schedule"], now)
    return Standing.NOT_PLANNED if is_due else Standing.NOT_PLANNED_YET


def _comes_before(schedule: dict[str, Any], now: datetime) -> bool:
    """Return True if a schedule has a run between now and the time up to which Prefect plans runs."""
    return bool(schedule_moments(schedule, start=now, end=now + HORIZON, limit=1))


def _in_words(schedule: dict[str, Any]) -> str:
    if "cron" in schedule:
        return f"{schedule['cron']} {schedule.get('timezone') or 'UTC'}"
    if "interval" in schedule:
        return f"every {schedule['interval']:g} s"
    return str(schedule.get("rrule"))
