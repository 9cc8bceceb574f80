"""Decides which definitions have a schedule, and for which tenants.

A definition declares its schedule, and the settings may replace the schedule or switch it off.
`deployments.deploying.runner_deployments` turns the result into a schedule of Prefect. Prefect's scheduler plans and
starts the runs, and `deployments.status.scheduled_runs` reads these plans. `deployments.deploying.registration` keeps a
schedule inactive if a user switched it off on the server. `deployments.serving.start_checks` skips overlapping runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from storage.settings import InvalidSettings, Settings
from task_definitions import Schedule, Scope, TaskDefinition
from task_definitions.wording import did_you_mean


def schedule_of(definition: TaskDefinition, settings: Settings) -> Schedule | None:
    """Return the schedule that the settings give a definition, else the one that the definition declares.

    None if the schedule is off, if there is none, or if the definition is not global.

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
            f'schedules: {definition.name}: "{text}" is not a schedule: {reason}. Write a cron text of five fields, a '
            'mapping with cron or interval_seconds and timezone, or "off".'
        ) from None


def declared_schedules(
    definitions: Mapping[str, TaskDefinition], settings: Settings
) -> dict[tuple[str, str], Schedule]:
    """Return the schedules by definition and tenant; definitions without a schedule are left out.

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


def schedules_without_effect(definitions: Mapping[str, TaskDefinition], settings: Settings) -> list[str]:
    """Return a sentence for each schedule in the settings whose definition does not exist or is not global."""
    found = []
    for name in settings.schedules:
        if name not in definitions:
            found.append(
                f'schedules: there is no definition "{name}".{did_you_mean(name, definitions)} '
                "`photojobs definitions list` shows all."
            )
        elif definitions[name].scope is not Scope.GLOBAL:
            found.append(
                f"schedules: {name} is not global; only definitions with the scope global can have a schedule. Remove "
                "this entry from the setting."
            )
    return found


def in_words(schedule: Schedule) -> str:
    """Return a schedule as a text on one line."""
    if schedule.cron is not None:
        return f"{schedule.cron} {schedule.timezone}"
    return f"every {schedule.interval_seconds:g} s"


def zone_of(timezone: str) -> tzinfo:
    """Return the time zone of this name; UTC works even if the system has no time zone data."""
    return UTC if timezone == "UTC" else ZoneInfo(timezone)
