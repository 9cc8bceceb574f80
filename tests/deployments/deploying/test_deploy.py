"""`photojobs deploy` on a real server: deployments that it registers, keeps, pauses or refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from deployments.deploying.deploy import passed_on
from deployments.deploying.runner_deployments import deployment_of
from flows.starting.new_task import new_task
from storage import Database, TasksRepository
from storage.settings import Settings
from task_definitions import load_definitions

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]

OWN = """
nightly_check:
  label: Nightly Check
  scope: global
  schedule: 30 2 * * *
  steps:
    - {type: manifest_check, priority: 95}
tidy:
  label: Tidy
  scope: project
  steps:
    - {type: trash_maintenance, priority: 89}
"""


@pytest.fixture
def pool(client: SyncPrefectClient) -> str:
    """The name of a pool that does not exist yet."""
    return f"pool-{uuid4().hex[:8]}"


@pytest.fixture
def own(command: Callable[..., Any], place: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file for the definitions of this test."""
    file = place.folder / "own.yaml"
    file.write_text(OWN)
    monkeypatch.setenv("PHOTOJOBS_DEFINITIONS", str(file))
    return file


def deployed(client: SyncPrefectClient, path: str) -> DeploymentResponse:
    return client.read_deployment_by_name(path)


def test_a_pool_gets_every_definition_as_up_would_serve_it(
    command: Callable[..., Any], client: SyncPrefectClient, pool: str, own: Path
) -> None:
    ran = command("deploy", "--pool", pool, "--create-pool", "process")

    assert ran.code == 0, ran.err
    definitions = load_definitions(own)
    for definition in definitions.values():
        served = deployment_of(definition, Settings.load())
        found = deployed(client, served.full_name)
        assert (found.name, found.description, sorted(found.tags)) == (
            served.name,
            served.description,
            sorted(served.tags),
        )
        assert found.parameter_openapi_schema == served._parameter_openapi_schema.model_dump(exclude_unset=True)
        assert found.entrypoint == f"flows.catalog.{definition.name}"
        assert [(each.schedule, each.parameters, each.slug) for each in found.schedules] == [
            (each.schedule, each.parameters, each.slug) for each in served.schedules or []
        ]
        assert (found.work_pool_name, found.paused, found.job_variables) == (pool, False, {})
    assert deployed(client, "drain_queue/Drain Queue").work_queue_name == "normal"
    assert deployed(client, "nightly_check/Nightly Check").work_queue_name == "priority"
    assert deployed(client, "tidy/Tidy").work_queue_name == "normal"
    assert client.read_work_pool(pool).type == "process"
    ranks = {
        name: client.read_work_queue_by_name(name, work_pool_name=pool).priority for name in ("priority", "normal")
    }
    assert ranks == {"priority": 1, "normal": 2}


def test_a_definition_that_is_gone_is_paused_and_one_that_comes_back_runs_again(
    command: Callable[..., Any], client: SyncPrefectClient, pool: str, own: Path
) -> None:
    command("deploy", "tidy", "nightly_check", "--pool", pool, "--create-pool", "process")
    own.write_text(OWN.partition("tidy:")[0].replace("  schedule: 30 2 * * *\n", ""))
    nightly = deployed(client, "nightly_check/Nightly Check")
    stale = client.create_flow_run_from_deployment(
        nightly.id,
        idempotency_key=f"scheduled {nightly.id} {nightly.schedules[0].id} {datetime.now(UTC)}",
        state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1)),
    )

    planned = command("deploy", "--pool", pool, "--dry-run")
    assert ("tidy/Tidy", "pause") in {tuple(line.split()[:2]) for line in planned.out.splitlines()}
    assert not deployed(client, "tidy/Tidy").paused

    assert command("deploy", "--pool", pool).code == 0
    assert deployed(client, "tidy/Tidy").paused
    assert deployed(client, "nightly_check/Nightly Check").schedules == []
    with pytest.raises(ObjectNotFound):
        client.read_flow_run(stale.id)

    own.write_text(OWN)
    assert command("deploy", "tidy", "nightly_check", "--pool", pool).code == 0
    assert not deployed(client, "tidy/Tidy").paused
    assert [each.schedule.cron for each in deployed(client, "nightly_check/Nightly Check").schedules] == ["30 2 * * *"]


def test_only_the_named_definitions_are_touched(
    command: Callable[..., Any], client: SyncPrefectClient, pool: str, own: Path
) -> None:
    other = f"{pool}-other"
    command("deploy", "tidy", "nightly_check", "drain_queue", "--pool", pool, "--create-pool", "process")
    command("deploy", "tidy", "--pool", other, "--create-pool", "process")

    assert deployed(client, "tidy/Tidy").work_pool_name == other
    assert deployed(client, "nightly_check/Nightly Check").work_pool_name == pool
    assert not deployed(client, "drain_queue/Drain Queue").paused


def test_containers_get_the_image_and_the_settings_but_no_secret(
    command: Callable[..., Any], client: SyncPrefectClient, pool: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.blocks.system import Secret

    Secret(value="postgresql://somebody:hidden@db/photos").save("photojobs-url", overwrite=True)
    monkeypatch.setenv("PHOTOJOBS_DATABASE_URL", "postgresql://somebody:hidden@db/photos")
    ran = command(
        *("deploy", "tidy", "--pool", pool, "--create-pool", "docker"),
        *("--image", "photojobs:1", "--database-secret", "photojobs-url"),
    )

    assert ran.code == 0, ran.err
    variables = deployed(client, "tidy/Tidy").job_variables
    assert variables["image"] == "photojobs:1"
    assert variables["env"]["PHOTOJOBS_HEARTBEAT_SECONDS"] == "0.5"
    assert variables["env"]["DO_NOT_TRACK"] == "1"
    assert variables["env"]["PHOTOJOBS_DATABASE_URL"] == "{{ prefect.blocks.secret.photojobs-url }}"
    assert "hidden" not in str(variables)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "prefect work-pool create {pool} --type process"),
        (("--create-pool", "nonsense"), 'Prefect has no work pools of the type "nonsense"'),
        (("--create-pool", "docker"), "--image"),
        (("--create-pool", "process", "--image", "photojobs:1"), "leave --image out"),
        (("--create-pool", "process", "--database-secret", "nowhere"), 'no Secret block "nowhere"'),
        (("nightly_chek", "--create-pool", "process"), 'Did you mean "nightly_check"?'),
    ],
)
def test_what_cannot_be_deployed_is_said_in_a_line_and_changes_nothing(
    command: Callable[..., Any],
    client: SyncPrefectClient,
    pool: str,
    own: Path,
    words: tuple[str, ...],
    complaint: str,
) -> None:
    ran = command("deploy", "--pool", pool, *words)

    assert ran.code == 2
    (line,) = ran.complaints
    assert complaint.format(pool=pool) in line
    assert pool not in {found.name for found in client.read_work_pools()}


def test_what_changed_since_it_was_deployed_is_told_field_by_field(
    command: Callable[..., Any], client: SyncPrefectClient, pool: str, own: Path
) -> None:
    command("deploy", "tidy", "nightly_check", "drain_queue", "--pool", pool, "--create-pool", "process")
    changed = OWN.replace("priority: 89", "priority: 95, on_failure: continue").replace("label: Tidy", "label: Tidier")
    own.write_text(changed.replace("nightly_check:", "weekly_check:").replace("Nightly", "Weekly"))

    ran = command("definitions", "diff")

    assert (ran.code, ran.err) == (0, "")
    told = [line for line in ran.out.splitlines() if line.startswith(("tidy", "nightly", "weekly", "  "))]
    assert told == [
        "nightly_check: removed",
        "tidy: changed",
        '  label "Tidy" → "Tidier"',
        "  steps[0] trash_maintenance: priority 89 → 95",
        '  steps[0] trash_maintenance: on_failure "stop" → "continue"',
        "weekly_check: added",
    ]
    (tidy,) = [each for each in command("definitions", "diff", "--json").document if each["name"] == "tidy"]
    assert {"where": "label", "kind": "changed", "before": "Tidy", "after": "Tidier"} in tidy["fields"]


def test_a_task_tells_what_changed_since_it_began(
    command: Callable[..., Any], own: Path, place_database: Database
) -> None:
    nightly = load_definitions(own)["nightly_check"]
    TasksRepository(place_database).start(new_task(nightly, task_id="begun", tenant_id="user_0"))
    assert command("definitions", "diff", "--task", "begun").out == "no difference\n"

    own.write_text(OWN.replace("priority: 95", "priority: 80"))
    changed = command("definitions", "diff", "--task", "begun")
    own.write_text(OWN.partition("tidy:")[2].join(["tidy:", ""]))

    assert changed.out == "nightly_check: changed\n  steps[0] manifest_check: priority 95 → 80\n"
    assert command("definitions", "diff", "--task", "begun").out == "nightly_check: removed\n"


def test_a_dry_run_makes_no_pool(command: Callable[..., Any], client: SyncPrefectClient, pool: str, own: Path) -> None:
    ran = command("deploy", "--pool", pool, "--create-pool", "process", "--dry-run")

    assert ran.code == 0
    assert "nightly_check/Nightly Check" in ran.out
    assert pool not in {found.name for found in client.read_work_pools()}


def test_a_server_that_does_not_answer_is_named(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")

    ran = command("deploy", "--pool", "photos")

    assert ran.code == 2
    assert "no Prefect server answers at http://127.0.0.1:1/api" in ran.complaints[0]


def test_only_settings_that_everybody_may_read_are_passed_on() -> None:
    environment = {
        "PHOTOJOBS_DATABASE_URL": "postgresql://somebody:hidden@db/photos",
        "PHOTOJOBS_UP_FOLDER": "/run",
        "PHOTOJOBS_LIBRARY_ROOT": "/library",
        "HOME": "/root",
    }

    assert passed_on(environment) == {"PHOTOJOBS_LIBRARY_ROOT": "/library"}
