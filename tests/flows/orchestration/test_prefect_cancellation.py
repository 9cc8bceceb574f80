"""A user suspends, resumes and cancels a deployed flow run in Prefect, and its task follows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.starting.deployment_names import deployment_path
from storage import Database, TasksRepository
from tests.flows.execution.executor_process import DEFINITIONS, Executor, definition
from tests.prefect_api import PrefectApi
from tests.waiting import wait_until

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("prefect")]


@pytest.fixture
def installed_steps(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH that contains a package with the step types of these tests."""
    folder = tmp_path / "site"
    metadata = folder / "photojobs_test_steps-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: photojobs-test-steps\nVersion: 1.0\n")
    entries = [f"{name} = tests.flows.execution.executor_process:{name}" for name in ("linger", "leave_mark")]
    (metadata / "entry_points.txt").write_text("\n".join(["[photojobs.steps]", *entries]) + "\n")
    return folder


@pytest.fixture
def environment(tmp_path: Path, sqlite_url: str, installed_steps: Path) -> dict[str, str]:
    library = tmp_path / "library"
    library.mkdir()
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({"lingering": DEFINITIONS["lingering"]}))
    return {
        "PYTHONPATH": os.pathsep.join([str(installed_steps), str(Path(__file__).parents[3])]),
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
def api(prefect_api: str) -> Iterator[PrefectApi]:
    with PrefectApi(prefect_api) as opened:
        yield opened


@pytest.mark.slow
def test_a_deployed_flow_run_is_suspended_resumed_and_canceled_and_its_task_with_it(
    environment: dict[str, str], tasks: TasksRepository, api: PrefectApi, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    with Executor("serve lingering", environment) as runner:
        wait_until((library / "served").exists, what="the deployment is there", limit_seconds=120)
        flow_run_id = api.press_run(api.deployment(deployment_path(definition("lingering"))))
        wait_until((library / "entered").exists, what="its job runs", limit_seconds=120)
        task = tasks.get(flow_run_id)
        assert task.status == "running"

        try:
            api.suspend(flow_run_id)
            wait_until(lambda: [job.status for job in tasks.list_jobs(task.id)] == ["queued"], what="its job stops")
            wait_until(lambda: not is_alive(int((library / "entered").read_text())), what="its process ends")
            assert [job.held_by for job in tasks.list_jobs(task.id)] == ["task"]
            assert api.flow_run(flow_run_id)["state"]["name"] == "Suspended"

            (library / "entered").unlink()
            api.resume(flow_run_id)
            wait_until((library / "entered").exists, what="its job runs again", limit_seconds=120)
            wait_until((library / "entered").read_text, what="the id of its process is written")
            assert api.state(flow_run_id) == "RUNNING"

            api.set_state(flow_run_id, "CANCELLING")
            wait_until(lambda: tasks.get(flow_run_id).is_final, what="the task ends")
            wait_until(lambda: api.state(flow_run_id) == "CANCELLED", what="its flow run says so")
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
