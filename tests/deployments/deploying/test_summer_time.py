"""The runs that Prefect plans when the clocks change: the table of docs/explanation/schedules.md, row by row."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from deployments.deploying.runner_deployments import deployment_of
from deployments.deploying.schedule_moments import schedule_moments
from storage.settings import Settings
from task_definitions import load_definitions

PAGE = (Path(__file__).parents[3] / "docs/explanation/schedules.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`[^`]+`|every \d+ s) \| (\d\d:\d\d\+[^|]*) \| (\d\d:\d\d\+[^|]*) \|$", PAGE, re.MULTILINE)
BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = ((2026, 3, 29), (2026, 10, 25))


def planned(schedule: Any, begin: datetime, end: datetime) -> list[datetime]:
    """Return the runs that Prefect's scheduler plans for a definition with this schedule."""
    definition = {"label": "X", "scope": "global", "schedule": schedule, "steps": [{"type": "manifest_check"}]}
    deployment = deployment_of(load_definitions({"x": definition}, builtin=False)["x"], Settings.load())
    (declared,) = deployment.schedules or []
    on_server = declared.model_dump(mode="json")["schedule"]
    return [moment for moment in schedule_moments(on_server, start=begin, end=end, limit=100) if moment < end]


@pytest.mark.parametrize(("text", "spring", "autumn"), ROWS, ids=[row[0].strip("`") for row in ROWS])
def test_each_row_of_the_table_is_what_is_planned(text: str, spring: str, autumn: str) -> None:
    timing = {"cron": text.strip("`")} if text.startswith("`") else {"interval_seconds": int(text.split()[1])}

    found = []
    for night in NIGHTS:
        moments = planned(
            timing | {"timezone": "Europe/Berlin"}, datetime(*night, tzinfo=BERLIN), datetime(*night, 5, tzinfo=BERLIN)
        )
        local = [moment.astimezone(BERLIN) for moment in sorted(moment.astimezone(UTC) for moment in moments)]
        found.append(" ".join(moment.strftime("%H:%M%z")[:-2] for moment in local))

    assert found == [spring, autumn]


def test_the_table_has_every_row() -> None:
    assert len(ROWS) == 8


@pytest.mark.parametrize("seconds", [900, 1_000, 43_200, 90_000, 604_800, 31_536_000])
def test_an_interval_is_the_same_whenever_it_is_registered(seconds: int) -> None:
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    every = {"interval_seconds": seconds, "timezone": "America/New_York"}

    first, second = planned(every, begin, end), planned(every, begin, end)

    assert first == second
    assert len(first) >= 4


def test_a_daily_interval_keeps_its_time_by_the_clock_through_a_year() -> None:
    year = planned(
        {"interval_seconds": 86_400, "timezone": "Europe/Berlin"},
        datetime(2026, 3, 1, tzinfo=BERLIN),
        datetime(2026, 5, 30, tzinfo=BERLIN),
    )

    assert {moment.astimezone(BERLIN).strftime("%H:%M") for moment in year} == {"00:00"}
