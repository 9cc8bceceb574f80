"""A deployed flow run is canceled in Prefect, as a user does in the UI: its task ends with it, and its process too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.deployment_names import deployment_path
from storage import Database, TasksRepository
from tests.flows.executor_process import DEFINITIONS, Executor, definition, wait_until

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("prefect")]


@pytest.fixture
def installed_steps(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with an installed package that has the step types of these tests."""
    folder = tmp_path / "site"
    metadata = folder / "photojobs_test_steps-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: photojobs-test-steps\nVersion: 1.0\n")
    entries = [f"{name} = tests.flows.executor_process:{name}" for name in ("linger", "leave_mark")]
    (metadata / "entry_points.txt").write_text("\n".join(["[photojobs.steps]", *entries]) + "\n")
    return folder


@pytest.fixture
def environment(tmp_path: Path, sqlite_url: str, installed_steps: Path) -> dict[str, str]:
    library = tmp_path / "library"
    library.mkdir()
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({"lingering": DEFINITIONS["lingering"]}))
    return {
        "PYTHONPATH": os.pathsep.join([str(installed_steps), str(Path(__file__).parents[2])]),
        "PHOTOJOBS_DATABASE_URL": sqlite_url,
        "PHOTOJOBS_LIBRARY_ROOT": str(library),
        "PHOTOJOBS_DEFINITIONS": str(file),
        "PHOTOJOBS_HEARTBEAT_SECONDS": "0.5",
        "PHOTOJOBS_STALE_SECONDS": "30",
        "PHOTOJOBS_POLL_SECONDS": "0.1",
    }


@pytest.fixture
def tasks(sqlite_url: str) -> Iterator[TasksRepository]:
    database = Database(sqlite_url)
    yield TasksRepository(database)
    database.close()


@pytest.fixture
def client(prefect_api: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=prefect_api, timeout=30) as opened:
        yield opened


def test_canceling_a_deployed_flow_run_cancels_its_task(
    environment: dict[str, str], tasks: TasksRepository, client: httpx.Client, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    with Executor("serve lingering", environment) as runner:
        wait_until((library / "served").exists, what="the deployment is there", limit_seconds=120)
        flow_run_id = start_run(client)
        wait_until((library / "entered").exists, what="its job runs", limit_seconds=120)
        task = tasks.get(flow_run_id)
        assert task.status == "running"

        answer = client.post(
            f"/flow_runs/{flow_run_id}/set_state", json={"state": {"type": "CANCELLING", "name": "Cancelling"}}
        )
        answer.raise_for_status()
        try:
            wait_until(lambda: tasks.get(flow_run_id).is_final, what="the task ends")
            wait_until(lambda: state(client, flow_run_id) == "CANCELLED", what="its flow run says so")
            wait_until(lambda: not is_alive(int((library / "entered").read_text())), what="its process ends")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{runner.output()}") from None

    task = tasks.get(flow_run_id)
    assert (task.status, task.error_message) == ("canceled", "its flow run was canceled")
    assert [job.status for job in tasks.list_jobs(flow_run_id)] == ["canceled"]
    assert not (library / "marked").exists()


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def start_run(client: httpx.Client) -> str:
    path = deployment_path(definition("lingering"))
    deployment = client.get(f"/deployments/name/{path}").raise_for_status().json()
    answer = client.post(f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": {"tenant_id": "t"}})
    return str(answer.raise_for_status().json()["id"])


def state(client: httpx.Client, flow_run_id: str) -> Any:
    return client.get(f"/flow_runs/{flow_run_id}").raise_for_status().json()["state"]["type"]
