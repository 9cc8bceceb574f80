"""`photojobs up` runs a scheduled definition when its moment has come."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.conftest import PHOTOJOBS
from tests.deployments.serving.test_up import Up, eventually, started

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("up"), pytest.mark.timeout(600), pytest.mark.slow]

DEFINITION = "ticking: {label: Ticking, scope: global, schedule: %s, steps: [{type: manifest_check, priority: 95}]}\n"


def asked(place: Any, *words: str) -> Any:
    """Return the output of a command beside `up`. It runs without PREFECT_HOME, which would name another server."""
    ran = subprocess.run(
        [PHOTOJOBS, *words, "--json"], cwd=place.folder, env=environment(place), capture_output=True, text=True
    )
    return json.loads(ran.stdout)


def environment(place: Any) -> dict[str, str]:
    import os

    outside = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return outside | place.environment | {"PHOTOJOBS_DEFINITIONS": str(place.folder / "definitions")}


@pytest.mark.parametrize("schedule", ["{interval_seconds: 15}", '"* * * * *"'], ids=["interval", "cron"])
def test_what_is_scheduled_is_planned_and_runs(place: Any, schedule: str) -> None:
    folder: Path = place.folder / "definitions"
    folder.mkdir()
    (folder / "ticking.yaml").write_text(DEFINITION % schedule)

    with started(place, place.folder / "up", is_scheduled=True) as up:
        runs = of_ticking(up)
        # The run is planned when the definition is served, and not only in the next round of the scheduler.
        assert any(run["state"]["type"] == "SCHEDULED" for run in runs)
        assert all(run["auto_scheduled"] for run in runs)

        shown = {run["definition"]: run for run in asked(place, "status")["schedules"]}
        assert {name: run["standing"] for name, run in shown.items()} == dict.fromkeys(shown, "planned")
        assert {"ticking", "maintenance_global"} <= shown.keys()
        findings = [one for one in asked(place, "doctor")["findings"] if one["area"] == "schedules"]
        assert [one["standing"] for one in findings] == ["fine"]

        eventually(
            lambda: any(run["state"]["type"] == "COMPLETED" for run in of_ticking(up)), what="a scheduled run completes"
        )
    assert asked(place, "status")["schedules"][0]["standing"] == "no server"


def of_ticking(up: Up) -> list[dict[str, Any]]:
    deployment = up.api.deployments()["Ticking"]
    return up.api.find("flow_runs", {"flow_runs": {"deployment_id": {"any_": [deployment["id"]]}}})
