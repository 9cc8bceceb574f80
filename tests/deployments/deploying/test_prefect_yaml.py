"""The project's `prefect.yaml` matches the definitions, and Prefect's own command deploys it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint

from deployments.deploying.definitions_on_server import declared_in
from deployments.deploying.prefect_yaml import render_prefect_yaml
from deployments.deploying.registration import pause_missing
from deployments.deploying.runner_deployments import deployment_of
from deployments.errors import TextIsTemplate
from storage.settings import Settings
from task_definitions import load_definitions

FILE = Path(__file__).parents[3] / "prefect.yaml"


def test_the_file_is_what_the_definitions_say() -> None:
    assert FILE.read_text(encoding="utf-8") == render_prefect_yaml(
        load_definitions(None).values(), Settings.load(), pool="photos"
    ), "write it anew: photojobs deploy --pool photos --write-prefect-yaml prefect.yaml"


def test_every_entrypoint_is_the_flow_of_its_definition() -> None:
    entrypoints = [entry["entrypoint"] for entry in yaml.safe_load(FILE.read_text(encoding="utf-8"))["deployments"]]

    assert [load_flow_from_entrypoint(each).name for each in entrypoints] == [*load_definitions(None), "drain_queue"]


def test_a_text_that_prefect_deploy_would_fill_in_is_refused() -> None:
    definition = load_definitions(None)["maintenance_global"].model_copy(update={"label": "Trips of {{ year }}"})

    with pytest.raises(TextIsTemplate, match=r"maintenance_global.*\{\{ year \}\}"):
        render_prefect_yaml([definition], Settings.load(), pool="photos")


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.xdist_group("deploy")
def test_prefect_deploys_all_of_it(client: SyncPrefectClient, prefect_url: str, place: Any) -> None:
    shutil.copy(FILE, place.folder)
    client.create_work_pool(WorkPoolCreate(name="photos", type="process"))

    deployed = prefect_deploy(prefect_url, place, "--all")

    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    for definition in load_definitions(None).values():
        ours = deployment_of(definition, Settings.load(), work_pool="photos")
        found = client.read_deployment_by_name(ours.full_name)
        assert (found.entrypoint, found.work_queue_name) == (ours.entrypoint, ours.work_queue_name)
        assert declared_in(found.description) == definition, "what `definitions diff` reads back"
        assert (found.work_pool_name, sorted(found.tags)) == ("photos", sorted(ours.tags or []))
        # Prefect makes a plain form with the same parameters, but without titles and lists of choices.
        assert found.parameter_openapi_schema is not None
        assert set(ours._parameter_openapi_schema.properties) <= set(found.parameter_openapi_schema["properties"])
        assert [(each.schedule, each.parameters, each.slug) for each in found.schedules] == [
            (each.schedule, each.parameters, each.slug) for each in ours.schedules or []
        ]

    nightly = client.read_deployment_by_name("maintenance_global/Global Maintenance")
    client.pause_deployment(nightly.id)
    client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)
    by_hand = DeploymentScheduleCreate(schedule=CronSchedule(cron="5 5 * * *"), active=False)
    client.create_deployment_schedules(nightly.id, [by_hand])
    discovery = client.read_deployment_by_name("folder_discovery/Folder Discovery")
    pause_missing(client, discovery)

    again = prefect_deploy(prefect_url, place, "--name", "Global Maintenance", "--name", "Folder Discovery")

    assert again.returncode == 0, again.stdout + again.stderr
    kept = client.read_deployment(nightly.id)
    assert kept.paused
    assert {(cast("CronSchedule", each.schedule).cron, each.active) for each in kept.schedules} == {
        ("0 3 * * *", False),
        ("5 5 * * *", False),
    }
    assert not client.read_deployment(discovery.id).paused


def prefect_deploy(prefect_url: str, place: Any, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `prefect deploy` in the folder of `place`."""
    return subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", *words],
        cwd=place.folder,
        env=os.environ | {"PREFECT_API_URL": prefect_url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )
