"""Decides which definitions have a schedule, and for which tenants: as declared, unless the settings change it.

`deployments.deploying.runner_deployments` gives the schedules to Prefect.
Prefect's scheduler plans and starts the runs; `deployments.status.planned_runs` reads the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from storage.settings import InvalidSettings, Settings
from task_definitions import Schedule, Scope, TaskDefinition


def schedule_of(definition: TaskDefinition, settings: Settings) -> Schedule | None:
    """The effective schedule of a definition: that of the settings, else its own; only global definitions have one.

    Raises:
        InvalidSettings: the value in the settings is not a schedule.
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


def declared_schedules(
    definitions: Mapping[str, TaskDefinition], settings: Settings
) -> dict[tuple[str, str], Schedule]:
    """The schedule of each definition that has one, for each of its tenants.

    Raises:
        InvalidSettings: the settings have an invalid schedule.
    """
    return {
        (definition.name, tenant_id): schedule
        for definition in definitions.values()
        for schedule in (schedule_of(definition, settings),)
        if schedule is not None
        for tenant_id in settings.scheduled_tenants
    }


def in_words(schedule: Schedule) -> str:
    """A schedule on one line."""
    if schedule.cron is not None:
        return f"{schedule.cron} {schedule.timezone}"
    return f"every {schedule.interval_seconds:g} s"


def zone_of(timezone: str) -> tzinfo:
    """The time zone of that name; UTC works even if the system has no time zone data."""
    return UTC if timezone == "UTC" else ZoneInfo(timezone)
