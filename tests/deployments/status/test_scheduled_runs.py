"""`status` and `doctor` show the runs that Prefect's server has planned, and why no run is planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import CronSchedule

from deployments.deploying.registration import begin_registration, finish_registration
from deployments.deploying.runner_deployments import deployment_of
from deployments.server.server_api import ServerApi
from deployments.status.scheduled_runs import Standing, scheduled_runs
from storage import Database
from storage.settings import Settings
from task_definitions import Definitions, load_definitions

Command = Callable[..., Any]

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


def definitions(schedule: Any) -> Definitions:
    steps = [{"type": "manifest_check", "priority": 95}]
    return load_definitions(
        {"planned": {"label": "Planned", "scope": "global", "schedule": schedule, "steps": steps}}, builtin=False
    )


@pytest.fixture
def deployed(client: SyncPrefectClient) -> Iterator[UUID]:
    """The id of the deployment of a definition that runs each night for two tenants; its runs are planned."""
    settings = Settings.load(scheduled_tenants=("anna", "ben"))
    deployment = deployment_of(definitions("0 3 * * *")["planned"], settings)
    registration = begin_registration(client, deployment)
    deployment_id = cast("UUID", deployment.apply())
    finish_registration(client, registration, deployment_id)
    yield deployment_id
    client.delete_deployment(deployment_id)


def test_status_shows_what_the_server_has_planned_and_what_users_switched(
    command: Command, place_database: Database, client: SyncPrefectClient, deployed: UUID
) -> None:
    by_hand = DeploymentScheduleCreate(schedule=CronSchedule(cron="30 4 * * *", timezone="Asia/Tokyo"))
    client.create_deployment_schedules(deployed, [by_hand])
    found = client.read_deployment(deployed)
    of_ben = next(each for each in found.schedules if each.parameters.get("tenant_id") == "ben")
    client.update_deployment_schedule(deployed, of_ben.id, active=False, parameters=of_ben.parameters)
    client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployed}, json={})
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployed])), limit=200
    )
    first = min(run.expected_start_time for run in runs if run.parameters.get("tenant_id") == "anna")

    shown = {
        (run["definition"], run["tenant_id"]): (run["when"], run["standing"], run["next_at"])
        for run in command("status", "--json").document["schedules"]
    }

    when, standing, next_at = shown["planned", "anna"]
    assert (when, standing, datetime.fromisoformat(next_at)) == ("0 3 * * * UTC", "planned", first)
    assert shown["planned", "ben"] == ("0 3 * * * UTC", "switched off", None)
    assert shown["planned", None][:2] == ("30 4 * * * Asia/Tokyo", "planned")
    # This server has no other deployments.
    assert shown["maintenance_global", "user_0"] == ("0 3 * * * UTC", "not served", None)
    assert "not run as planned" in command("status").out

    client.pause_deployment(deployed)
    assert {run["standing"] for run in command("status", "--json").document["schedules"]} == {"paused", "not served"}


def test_doctor_names_each_schedule_that_does_not_run(
    command: Command, place_database: Database, deployed: UUID
) -> None:
    findings = command("doctor", "--json").document["findings"]

    said = [one["says"] for one in findings if one["area"] == "schedules" and one["standing"] == "warning"]
    assert "maintenance_global for user_0 (0 3 * * * UTC): the server has no such schedule." in said
    assert not any("planned for" in says for says in said)


def test_doctor_names_a_schedule_of_no_definition(
    command: Command, place_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTOJOBS_SCHEDULES", '{"maintenance_globl": "off"}')
    findings = command("doctor", "--json").document["findings"]
    [found] = [one for one in findings if (one["area"], one["name"]) == ("schedules", "settings")]
    assert found["standing"] == "problem"
    assert 'Did you mean "maintenance_global"?' in found["says"]


class CannedServer(ServerApi):
    """A simulated server with one schedule, which was changed long ago, and with the given planned run."""

    def __init__(self, schedule: dict[str, Any], *, next_at: datetime | None, is_active: bool = True) -> None:
        super().__init__("http://nowhere/api")
        schedule_id, long_ago = str(uuid4()), "2025-01-01T00:00:00Z"
        of_schedule = {"id": schedule_id, "schedule": schedule, "active": is_active, "updated": long_ago}
        deployment = {"id": str(uuid4()), "name": "Planned", "entrypoint": "flows.catalog.planned", "paused": False}
        deployment |= {"updated": long_ago, "schedules": [of_schedule | {"parameters": {"tenant_id": "user_0"}}]}
        run = {"auto_scheduled": True, "created_by": {"id": schedule_id}}
        pages = {"/deployments/filter": [deployment], "/flow_runs/filter": []}
        if next_at is not None:
            pages["/flow_runs/filter"] = [run | {"expected_start_time": next_at.isoformat()}]
        object.__setattr__(self, "pages", pages)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.pages[path] if body["offset"] == 0 else []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("schedule", "late_seconds", "standing"),
    [
        ({"cron": "0 3 * * *", "timezone": "UTC"}, None, Standing.NOT_PLANNED),
        ({"cron": "0 3 * * *", "timezone": "UTC"}, -60, Standing.PLANNED),
        ({"cron": "0 3 * * *", "timezone": "UTC"}, 3_600, Standing.LATE),
        # Prefect plans a hundred days ahead.
        ({"cron": "0 0 {day} {month} *", "timezone": "UTC"}, None, Standing.NOT_PLANNED_YET),
    ],
)
def test_a_schedule_without_a_planned_run_is_wrong_unless_its_run_is_far_away(
    schedule: dict[str, Any], late_seconds: float | None, standing: Standing
) -> None:
    now = datetime.now(UTC)
    far = now + timedelta(days=200)
    schedule = schedule | {"cron": schedule["cron"].format(day=min(far.day, 28), month=far.month)}
    next_at = None if late_seconds is None else now - timedelta(seconds=late_seconds)

    (run,) = scheduled_runs(definitions(schedule["cron"]), Settings.load(), CannedServer(schedule, next_at=next_at))

    assert (run.standing, run.next_at) == (standing, next_at)


def test_a_run_that_is_still_planned_for_a_schedule_that_is_switched_off_is_wrong() -> None:
    schedule, next_at = {"cron": "0 3 * * *", "timezone": "UTC"}, datetime.now(UTC) + timedelta(hours=1)
    server = CannedServer(schedule, next_at=next_at, is_active=False)

    (run,) = scheduled_runs(definitions("0 3 * * *"), Settings.load(), server)

    assert (run.standing, run.next_at, run.standing.is_wrong) == (Standing.STILL_PLANNED, next_at, True)


@pytest.mark.parametrize("answer", [{"detail": "signed out"}, [{"id": 1}], [1], True])
def test_another_program_at_the_url_of_the_server_counts_as_no_server(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ServerApi("http://nowhere/api")
    monkeypatch.setattr(ServerApi, "post", lambda *_: answer)

    (run,) = scheduled_runs(definitions("0 3 * * *"), Settings.load(), server)

    assert run.standing is Standing.NO_SERVER
