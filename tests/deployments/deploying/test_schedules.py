"""Definitions are scheduled as they declare, or as the settings say in place of that."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from deployments.deploying import scheduled_definitions
from deployments.deploying.scheduled_definitions import (
    declared_schedules,
    in_words,
    schedule_of,
    schedules_without_effect,
    zone_of,
)
from storage.settings import InvalidSettings, Settings
from task_definitions import load_definitions


def _one(schedule: Any, *, scope: str = "global", **settings: Any) -> dict[tuple[str, str], str]:
    definition = {"label": "X", "scope": scope, "schedule": schedule, "steps": [{"type": "manifest_check"}]}
    loaded = load_definitions({"mine": definition}, builtin=False)
    return {whose: in_words(each) for whose, each in declared_schedules(loaded, Settings.load(**settings)).items()}


def test_the_settings_replace_a_schedule_turn_it_off_and_name_its_tenants() -> None:
    assert _one("0 3 * * *") == {("mine", "user_0"): "0 3 * * * UTC"}
    assert _one("0 3 * * *", schedules={"mine": "off"}) == {}
    assert _one("0 3 * * *", schedules={"mine": "45 12 * * *"}, scheduled_tenants=("anna", "ben")) == {
        ("mine", "anna"): "45 12 * * * UTC",
        ("mine", "ben"): "45 12 * * * UTC",
    }


def test_the_settings_may_name_an_interval_and_a_time_zone() -> None:
    nightly = _one("0 3 * * *", schedules={"mine": {"cron": "0 4 * * *", "timezone": "Asia/Tokyo"}})
    often = _one("0 3 * * *", schedules={"mine": {"interval_seconds": 900}})

    assert (nightly["mine", "user_0"], often["mine", "user_0"]) == ("0 4 * * * Asia/Tokyo", "every 900 s")


def test_by_default_maintenance_runs_daily_discovery_hourly_scavenge_and_verification_weekly() -> None:
    declared = declared_schedules(load_definitions(), Settings.load())

    assert {name: in_words(schedule) for (name, _), schedule in declared.items()} == {
        "folder_discovery": "0 * * * * UTC",
        "maintenance_global": "0 3 * * * UTC",
        "project_scavenge_global": "0 4 * * 0 UTC",
        "verify_originals": "0 5 * * 6 UTC",
    }
    described = Settings.model_fields["schedules"].description or ""
    assert all(name in described for name, _ in declared)


def test_a_definition_that_is_not_global_never_runs_by_itself() -> None:
    assert _one("0 3 * * *", scope="project") == {}


def test_a_setting_that_is_no_schedule_is_named_with_its_definition() -> None:
    definition = load_definitions()["maintenance_global"]
    with pytest.raises(InvalidSettings, match='schedules: maintenance_global: "every night"'):
        schedule_of(definition, Settings.load(schedules={"maintenance_global": "every night"}))
    with pytest.raises(InvalidSettings, match="schedules: maintenance_global"):
        schedule_of(definition, Settings.load(schedules={"maintenance_global": {"hour": 3}}))


def test_a_schedule_that_starts_nothing_is_named() -> None:
    settings = Settings.load(
        schedules={"maintenance_globl": "off", "maintenance": "0 3 * * *", "folder_discovery": "off"}
    )
    assert schedules_without_effect(load_definitions(), settings) == [
        'schedules: there is no definition "maintenance_globl". Did you mean "maintenance_global"? '
        "`photojobs definitions list` shows all.",
        "schedules: maintenance is not global; only definitions with the scope global can have a schedule. Remove "
        "this entry from the setting.",
    ]


def test_utc_needs_no_time_zone_data(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [str(zone_of(name)) for name in ("Asia/Tokyo", "WET")] == ["Asia/Tokyo", "WET"]
    monkeypatch.setattr(scheduled_definitions, "ZoneInfo", None)
    assert zone_of("UTC") is UTC
