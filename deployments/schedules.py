"""Which definitions run by themselves, for whom, and when next: as declared, or as the settings say instead.

Prefect's scheduler starts the runs; this tells of them without asking it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim
from pydantic import ValidationError

from storage.settings import InvalidSettings, Settings
from task_definitions import Schedule, Scope, TaskDefinition

_SHORTHANDS: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRun:
    """The next run of a definition for a tenant.

    Attributes:
        when: the schedule as people read it.
        next_at: None for an interval, which counts from a moment that only Prefect knows.
    """

    definition: str
    tenant_id: str
    when: str
    next_at: datetime | None


def schedule_of(definition: TaskDefinition, settings: Settings) -> Schedule | None:
    """The schedule that holds for a definition: the settings' before its own; only global definitions have one.

    Raises:
        InvalidSettings: what the settings say of it is no schedule.
    """
    text = settings.schedules.get(definition.name)
    if text == "off" or definition.scope is not Scope.GLOBAL:
        return None
    if text is None:
        return definition.schedule
    try:
        return Schedule.model_validate(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidSettings(
            f'schedules: {definition.name}: "{text}" is no schedule: {reason}. Write a cron text of five fields, a '
            'mapping with cron or interval_seconds and timezone, or "off".'
        ) from None


def next_runs(definitions: Mapping[str, TaskDefinition], settings: Settings, *, now: datetime) -> list[ScheduledRun]:
    """The next run of each scheduled definition and tenant, the soonest first.

    Raises:
        InvalidSettings: the settings hold a schedule that is none.
    """
    runs = [
        ScheduledRun(
            definition=definition.name, tenant_id=tenant_id, when=in_words(schedule), next_at=_next_at(schedule, now)
        )
        for definition in definitions.values()
        for schedule in (schedule_of(definition, settings),)
        if schedule is not None
        for tenant_id in settings.scheduled_tenants
    ]
    return sorted(runs, key=lambda run: (run.next_at is None, run.next_at or now, run.definition, run.tenant_id))


def in_words(schedule: Schedule) -> str:
    """A schedule on one line."""
    if schedule.cron is not None:
        return f"{schedule.cron} {schedule.timezone}"
    return f"every {schedule.interval_seconds:g} s"


def zone_of(timezone: str) -> tzinfo:
    """The time zone of that name; UTC also where the system has no time zone data."""
    return UTC if timezone == "UTC" else ZoneInfo(timezone)


def _next_at(schedule: Schedule, now: datetime) -> datetime | None:
    if schedule.cron is None:
        return None
    zone = zone_of(schedule.timezone)
    return next(CronSim(_SHORTHANDS.get(schedule.cron, schedule.cron), now.astimezone(zone))).astimezone(UTC)
