"""Scheduled runs that were due while nothing ran."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest

from deployments.attendant import skip_missed_runs
from deployments.runner_deployments import deployment_of
from storage.settings import Settings
from task_definitions import load_definitions

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


def test_of_the_runs_that_were_missed_only_the_latest_of_each_tenant_remains(prefect_url: str) -> None:
    settings = Settings.load(
        schedules={"regenerate_metadata": {"interval_seconds": 3600}}, scheduled_tenants=("anna", "ben")
    )
    deployment = deployment_of(load_definitions()["regenerate_metadata"], settings)
    deployment_id = deployment.apply()
    assert isinstance(deployment_id, UUID)
    since = datetime.now(UTC) - timedelta(hours=3, minutes=10)
    with httpx.Client(base_url=prefect_url, timeout=30) as api:
        schedule = {"start_time": since.isoformat(), "end_time": datetime.now(UTC).isoformat()}
        # A server whose SQLite is locked for a moment says so.
        while (answer := api.post(f"/deployments/{deployment_id}/schedule", json=schedule)).status_code == 503:
            pass
        answer.raise_for_status()

        def missed() -> list[tuple[str, datetime, str]]:
            runs = api.post(
                "/flow_runs/filter",
                json={
                    "deployments": {"id": {"any_": [str(deployment_id)]}},
                    "flow_runs": {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}},
                },
            ).json()
            return sorted(
                (run["parameters"]["tenant_id"], run["expected_start_time"], run["state"]["name"]) for run in runs
            )

        before = missed()
        assert len(before) >= 4
        assert {name for _, _, name in before} == {"Scheduled"}

        assert skip_missed_runs() == len(before) - 2

        names = {tenant: [name for of, _, name in missed() if of == tenant] for tenant in ("anna", "ben")}
        assert skip_missed_runs() == 0
        api.delete(f"/deployments/{deployment_id}").raise_for_status()
    for states in names.values():
        assert set(states[:-1]) == {"Skipped"}
        assert states[-1] == "Scheduled"
