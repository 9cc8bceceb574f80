"""`photojobs up` as an operator runs it: pressed runs, definitions that come and go, and a death in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.supervision import running_processes
from storage import Database, JobsRepository, TasksRepository

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("up"), pytest.mark.timeout(280)]

PHOTOJOBS = Path(sys.executable).with_name("photojobs")
PATIENCE_SECONDS = 120.0

GOOD = "nightly_check: {label: Nightly Check, scope: global, steps: [{type: manifest_check, priority: 95}]}\n"
BROKEN = "odd_check: {label: Odd Check, scope: global, steps: [{type: manifest_chek, priority: 95}]}\n"


class Up:
    """A running `photojobs up` and Prefect's API behind it."""

    def __init__(self, process: subprocess.Popen[str], url: str, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.api = httpx.Client(base_url=f"{url}/api", timeout=30)

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {found["name"]: found for found in self.api.post("/deployments/filter", json={}).json()}

    def press_run(self, name: str, **parameters: Any) -> str:
        path = f"/deployments/{self.deployments()[name]['id']}/create_flow_run"
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(self.api.post(path, json=body).raise_for_status().json()["id"])

    def state(self, flow_run_id: str) -> tuple[str, str]:
        state = self.api.get(f"/flow_runs/{flow_run_id}").raise_for_status().json()["state"]
        return state["type"], state["message"]


@contextmanager
def started(place: Any, folder: Path) -> Iterator[Up]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    process = subprocess.Popen(
        [PHOTOJOBS, "up", "--port", "0", "--folder", str(folder)],
        cwd=place.folder,
        env=environment | place.environment | {"PHOTOJOBS_DEFINITIONS": str(place.folder / "definitions")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = None
    for line in process.stdout:
        if found := re.search(r"http://\S+", line):
            url = found.group()
            break
    assert url is not None, "photojobs up ended before it was up"
    running = Up(process, url, folder)
    try:
        yield running
    finally:
        running.api.close()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def eventually(what: Callable[[], bool], message: str) -> None:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < give_up_at, message
        time.sleep(0.1)


@pytest.fixture
def definitions(place: Any) -> Path:
    folder = place.folder / "definitions"
    folder.mkdir()
    (folder / "good.yaml").write_text(GOOD)
    (folder / "broken.yaml").write_text(BROKEN)
    return folder


def test_what_is_pressed_runs_and_definitions_come_and_go(place: Any, definitions: Path) -> None:
    (place.library / "user_0" / "alps").mkdir(parents=True)
    folder = place.folder / "up"
    with started(place, folder) as up:
        served = up.deployments()
        assert {"Global Maintenance", "Process Photos", "Nightly Check", "Drain Queue"} <= set(served)
        assert "Odd Check" not in served
        assert 'Did you mean "manifest_check"?' in (folder / "runner.log").read_text()

        pressed = up.press_run("Folder Discovery")
        eventually(lambda: up.state(pressed)[0] not in ("SCHEDULED", "PENDING", "RUNNING"), "the run did not end")
        assert up.state(pressed) == ("COMPLETED", "1 jobs completed, 0 failed, 0 canceled")

        (definitions / "broken.yaml").write_text(BROKEN.replace("manifest_chek", "folder_check"))
        eventually(lambda: "Odd Check" in up.deployments(), "a mended definition was not served")
        (definitions / "good.yaml").unlink()
        eventually(lambda: up.deployments()["Nightly Check"]["paused"], "a removed definition was not paused")

        database = Database(place.database_file)
        lone = JobsRepository(database).enqueue(tenant_id="user_0", type="manifest_check", scope="global")
        eventually(
            lambda: getattr(JobsRepository(database).get_by_id(lone.id), "status", None) == "completed",
            "a job that nobody attends was not run",
        )
        database.close()
    assert up.process.returncode == 0
    assert running_processes(folder / "runs") == []


def test_killed_in_the_middle_it_goes_on_where_it_was(place: Any, definitions: Path, make_images: Any) -> None:
    make_images(place.library / "user_0" / "alps", 40)
    folder = place.folder / "up"
    with started(place, folder) as up:
        discovery = up.press_run("Folder Discovery")
        database = Database(place.database_file)
        tasks, jobs = TasksRepository(database), JobsRepository(database)
        eventually(
            lambda: any(job.status == "running" for job in jobs.list_by_tenant("user_0", type="upload_postprocess")),
            "the photos of the new project were not processed",
        )
        up.process.kill()
        up.process.wait()
        eventually(lambda: running_processes(folder / "runs") == [], "a flow run outlived photojobs up")

    with started(place, folder):
        eventually(lambda: tasks.get(discovery).is_final, "the task did not go on")
        task = tasks.get(discovery)
        rows = tasks.list_jobs(discovery)
        outcomes = [(item.status, item.attempts) for row in rows for item in jobs.list_items(row.id)]
    database.close()
    assert (task.status, [row.type for row in rows]) == ("completed", ["folder_discovery", "upload_postprocess"])
    assert outcomes == [("done", 1)] * 40
