"""When definitions run next: as they declare it, or as the settings say instead."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from deployments.schedules import next_runs, schedule_of
from storage.settings import InvalidSettings, Settings
from task_definitions import load_definitions
from task_definitions.cron import CRON_SHORTHANDS

NOW = datetime(2025, 10, 25, 12, 30, tzinfo=UTC)


def _one(schedule: Any, *, scope: str = "global", **settings: Any) -> Any:
    definition = {"label": "X", "scope": scope, "schedule": schedule, "steps": [{"type": "manifest_check"}]}
    loaded = load_definitions({"mine": definition}, builtin=False)
    return next_runs(loaded, Settings.load(**settings), now=NOW)


@pytest.mark.parametrize(
    ("schedule", "next_at"),
    [
        ("0 3 * * *", datetime(2025, 10, 26, 3, tzinfo=UTC)),
        ({"cron": "0 3 * * *", "timezone": "Europe/Berlin"}, datetime(2025, 10, 26, 2, tzinfo=UTC)),
        ({"cron": "0 3 * * 1", "timezone": "America/New_York"}, datetime(2025, 10, 27, 7, tzinfo=UTC)),
        ("@monthly", datetime(2025, 11, 1, tzinfo=UTC)),
        ({"interval_seconds": 90}, None),
    ],
)
def test_the_next_run_is_told_in_utc(schedule: Any, next_at: datetime | None) -> None:
    (run,) = _one(schedule)

    assert (run.definition, run.tenant_id, run.next_at) == ("mine", "user_0", next_at)


@pytest.mark.parametrize("shorthand", CRON_SHORTHANDS)
def test_every_shorthand_that_a_definition_may_use_has_a_next_run(shorthand: str) -> None:
    (run,) = _one(shorthand)

    assert run.next_at is not None
    assert run.next_at > NOW


def test_the_settings_replace_a_schedule_turn_it_off_and_name_its_tenants() -> None:
    assert _one("0 3 * * *", schedules={"mine": "off"}) == []
    runs = _one("0 3 * * *", schedules={"mine": "45 12 * * *"}, scheduled_tenants=("anna", "ben"))
    assert [(run.tenant_id, run.next_at) for run in runs] == [
        ("anna", datetime(2025, 10, 25, 12, 45, tzinfo=UTC)),
        ("ben", datetime(2025, 10, 25, 12, 45, tzinfo=UTC)),
    ]


def test_the_settings_may_name_an_interval_and_a_time_zone() -> None:
    (nightly,) = _one("0 3 * * *", schedules={"mine": {"cron": "0 4 * * *", "timezone": "Asia/Tokyo"}})
    (often,) = _one("0 3 * * *", schedules={"mine": {"interval_seconds": 900}})

    assert nightly.next_at == datetime(2025, 10, 25, 19, tzinfo=UTC)
    assert often.when == "every 900 s"


def test_by_default_maintenance_runs_daily_discovery_hourly_and_scavenge_weekly() -> None:
    runs = next_runs(load_definitions(), Settings.load(), now=NOW)

    assert [(run.definition, run.when) for run in runs] == [
        ("folder_discovery", "0 * * * * UTC"),
        ("maintenance_global", "0 3 * * * UTC"),
        ("project_scavenge_global", "0 4 * * 0 UTC"),
    ]
    told = Settings.model_fields["schedules"].description or ""
    assert all(run.definition in told for run in runs)


def test_a_definition_that_is_not_global_never_runs_by_itself() -> None:
    assert _one("0 3 * * *", scope="project") == []


def test_a_setting_that_is_no_schedule_is_named_with_its_definition() -> None:
    definition = load_definitions()["maintenance_global"]
    with pytest.raises(InvalidSettings, match='schedules: maintenance_global: "every night"'):
        schedule_of(definition, Settings.load(schedules={"maintenance_global": "every night"}))
    with pytest.raises(InvalidSettings, match="schedules: maintenance_global"):
        schedule_of(definition, Settings.load(schedules={"maintenance_global": {"hour": 3}}))
