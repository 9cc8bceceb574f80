"""`photojobs up` as an operator runs it: runs started in Prefect's pages, changed definitions, and killed processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from deployments.embedded_server.password import AUTH_FILE
from deployments.server.telemetry_off import NO_TELEMETRY
from examples import web_application
from flows import Runtime, hold, release
from flows.orchestration.supervision import running_processes
from storage import Database, JobsRepository, TasksRepository
from storage.queue.holds import HoldsRepository
from task_definitions import load_definitions
from tests.browser.site import Browser, Site, artifacts, require_chromium
from tests.deployments.conftest import Place
from tests.prefect_api import FINAL, PrefectApi
from tests.scale.photo_set import DEFINITION, add_photos, install_step, pass_photo_set
from tests.waiting import wait_until

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("up"), pytest.mark.timeout(600)]

PHOTOJOBS = Path(sys.executable).with_name("photojobs")
PATIENCE_SECONDS = 180.0

eventually = partial(wait_until, limit_seconds=PATIENCE_SECONDS, pause_seconds=0.1)

GOOD = "nightly_check: {label: Nightly Check, scope: global, steps: [{type: manifest_check, priority: 95}]}\n"
BROKEN = "odd_check: {label: Odd Check, scope: global, steps: [{type: manifest_chek, priority: 95}]}\n"


class Up:
    """A running `photojobs up`, with a client of the API of its Prefect server."""

    def __init__(self, process: subprocess.Popen[str], url: str, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.api_url = f"{url}/api"
        self.password = (folder / "prefect" / AUTH_FILE).read_text().strip()
        self.api = PrefectApi(self.api_url, password=self.password)

    def press_run(self, name: str, **parameters: Any) -> str:
        return self.api.press_run(self.api.deployments()[name], **parameters)

    def state(self, flow_run_id: str) -> tuple[str, str]:
        state = self.api.flow_run(flow_run_id)["state"]
        return state["type"], state["message"]


@contextmanager
def started(place: Any, folder: Path, *, is_scheduled: bool = False) -> Iterator[Up]:
    # Schedules are off, because a scheduled run would make other runs of its kind end as skipped.
    schedules = {} if is_scheduled else dict.fromkeys(load_definitions(), "off")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PREFECT_") and name != "DO_NOT_TRACK"
    }
    paths = [str(place.folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [PHOTOJOBS, "up", "--port", "0", "--folder", str(folder)],
        cwd=place.folder,
        env=environment
        | place.environment
        | {"PHOTOJOBS_DEFINITIONS": str(place.folder / "definitions"), "PYTHONPATH": os.pathsep.join(paths)}
        | {"PHOTOJOBS_SCHEDULES": json.dumps(schedules)},
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


@pytest.fixture
def definitions(place: Any) -> Path:
    return write_definitions(place)


def write_definitions(place: Place) -> Path:
    folder = place.folder / "definitions"
    folder.mkdir()
    (folder / "good.yaml").write_text(GOOD)
    (folder / "broken.yaml").write_text(BROKEN)
    (folder / "scale.yaml").write_text(DEFINITION)
    install_step(place.folder / "site")
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Place]]:
    """`photojobs up` on a library with an empty folder, for tests that kill nothing."""
    place = Place(tmp_path_factory.mktemp("place"))
    (place.library / "user_0" / "alps").mkdir(parents=True)
    write_definitions(place)
    with started(place, place.folder / "up") as up:
        yield up, place
    assert up.process.returncode == 0
    assert running_processes(up.folder / "runs") == []


@pytest.fixture(scope="module")
def discovered(running: tuple[Up, Place]) -> str:
    """Wait for the flow run that makes a project of the folder; return its id."""
    up, _ = running
    pressed = up.press_run("Folder Discovery")
    eventually(lambda: up.state(pressed)[0] in FINAL, what="the run ends")
    return pressed


def test_what_is_pressed_runs_and_definitions_come_and_go(running: tuple[Up, Place], discovered: str) -> None:
    up, place = running
    served = up.api.deployments()
    assert {"Global Maintenance", "Process Photos", "Nightly Check", "Drain Queue"} <= set(served)
    assert "Odd Check" not in served
    assert 'Did you mean "manifest_check"?' in (up.folder / "runner.log").read_text()
    assert up.state(discovered) == ("COMPLETED", "1 job completed, 0 failed, 0 canceled")

    definitions = place.folder / "definitions"
    (definitions / "broken.yaml").write_text(BROKEN.replace("manifest_chek", "folder_check"))
    eventually(lambda: "Odd Check" in up.api.deployments(), what="a repaired definition is served")
    (definitions / "good.yaml").unlink()
    eventually(lambda: up.api.deployments()["Nightly Check"]["paused"], what="a removed definition is paused")

    database = Database(place.database_file)
    lone = JobsRepository(database).enqueue(tenant_id="user_0", type="manifest_check", scope="global")
    eventually(
        lambda: getattr(JobsRepository(database).get_by_id(lone.id), "status", None) == "completed",
        what="a job that no process follows is run",
    )
    database.close()


def test_all_that_up_creates_beside_the_library_is_its_owners_alone(running: tuple[Up, Place], discovered: str) -> None:
    up, place = running
    made = [place.database_file, *up.folder.rglob("*")]
    assert {"up.lock", "runner.ready", "runner.log", "runs", AUTH_FILE, "server.log"} <= {path.name for path in made}
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in made if not path.is_symlink()}
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


def test_no_process_of_up_reports_on_its_use(running: tuple[Up, Place], discovered: str) -> None:
    up, place = running
    found = {
        command: dict(line.partition("=")[::2] for line in Path(f"/proc/{number}/environ").read_text().split("\0"))
        for number, command in processes(place).items()
        if number != up.process.pid
    }
    # These are the server, the runner and the spare process.
    for module in ("deployments.embedded_server", "deployments.serving.runner", "deployments.serving.spare_process"):
        assert any(module in command for command in found), module
    for command, environment in found.items():
        # Prefect writes "False" of its own settings.
        assert {name: environment.get(name, "").lower() for name in NO_TELEMETRY} == NO_TELEMETRY, command


@pytest.fixture
def browser(running: tuple[Up, Place]) -> Iterator[Browser]:
    require_chromium()
    up, place = running
    browser = Browser(Site(up.api_url.removesuffix("/api"), place.folder))
    yield browser
    browser.driver.quit()
    browser.site.api.close()


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


@pytest.mark.browser
def test_a_run_from_the_form_completes_with_named_task_runs_tags_and_reports(discovered: str, browser: Browser) -> None:
    site = browser.site
    eventually(
        lambda: "alps (#" in str(site.deployment("Maintenance")["parameter_openapi_schema"]),
        what="the new project comes into the forms",
    )
    browser.open(f"/deployments/deployment/{site.deployment('Maintenance')['id']}/run")
    browser.choose("Project", "alps")
    run_id = browser.submit()
    browser.shows("Completed")
    browser.click("//*[@role='tab'][normalize-space()='Task Runs']")
    browser.shows("manifest_check 1/1")
    browser.shows("lane:priority")
    browser.click("//*[@role='tab'][normalize-space()='Artifacts']")
    browser.shows("manifest-check")

    run = site.ended(run_id)
    assert run["name"].startswith("maintenance (user_0, alps (#")
    first = min(each["start_time"] for each in site.api.task_runs(run_id).values() if each["start_time"])
    waited = [seconds_between(run["expected_start_time"], moment) for moment in (run["start_time"], first)]
    # On an idle machine this took 2.2 s and 2.4 s.
    assert waited[1] < 60, f"flow run after {waited[0]:.1f} s, first task run after {waited[1]:.1f} s"
    assert "# manifest_check" in artifacts(site, run_id)["manifest-check"]


@pytest.mark.slow
def test_programs_use_the_same_database_and_server(
    place: Any, definitions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.library / "user_0" / "alps").mkdir(parents=True)
    with started(place, place.folder / "up") as up:
        pressed = up.press_run("Folder Discovery")
        eventually(lambda: up.state(pressed)[0] == "COMPLETED", what="the run ends")
        with programs(place, up, monkeypatch) as runtime:
            asyncio.run(users_of_a_web_application(up, runtime))


@pytest.mark.slow
def test_every_photo_of_a_large_set_passes_by_small_parameters(place: Any, definitions: Path) -> None:
    database = Database(place.database_file)
    with started(place, place.folder / "up") as up:
        add_photos(database, 6_000)
        passage = pass_photo_set(up.api, database, place.folder / "up" / "runs")
    database.close()
    assert (passage.state, passage.jobs, passage.items_done) == ("COMPLETED", 3, 6_000)
    assert passage.parameters_bytes < 200


@contextmanager
def programs(place: Any, up: Up, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A runtime in this process, as in a program that uses the same database and server."""
    for name, value in (place.environment | {"PREFECT_API_URL": up.api_url}).items():
        monkeypatch.setenv(name, value)
    access = {PREFECT_API_URL: up.api_url, PREFECT_API_AUTH_STRING: up.password}
    with temporary_settings(access), Runtime.open() as runtime, runtime.as_current():
        yield runtime


async def users_of_a_web_application(up: Up, runtime: Runtime) -> None:
    """As users of two tenants, start, follow, cancel and retry tasks in the example application."""
    application = httpx.ASGITransport(app=web_application.app)
    async with (
        httpx.AsyncClient(transport=application, base_url="http://app", headers={"X-Tenant": "user_0"}) as user,
        httpx.AsyncClient(transport=application, base_url="http://app", headers={"X-Tenant": "other"}) as other,
    ):

        async def ended(task_id: str) -> str:
            give_up_at = time.monotonic() + PATIENCE_SECONDS
            while (status := (await user.get(f"/tasks/{task_id}")).json()["status"]) in ("queued", "running"):
                assert time.monotonic() < give_up_at, "the task did not end"
                await asyncio.sleep(0.1)
            return str(status)

        (runtime.library.root / "user_0" / "harbour").mkdir()
        added = await user.post("/projects", json={"name": "Harbour", "folder": "harbour"})
        assert added.status_code == 202, added.text
        assert await ended(added.json()["task_id"]) == "completed"
        again = await user.post("/projects", json={"name": "Harbour", "folder": "harbour"})
        assert again.status_code == 409
        (runtime.library.root / "other" / "harbour").mkdir(parents=True)
        assert (await other.post("/projects", json={"name": "Harbour", "folder": "harbour"})).status_code == 202
        upkeep = f"/projects/{added.json()['project_id']}/upkeep"
        assert (await other.post(upkeep)).status_code == 404

        hold("tenant", "user_0")
        started = (await user.post(upkeep)).json()
        assert (await other.get(f"/tasks/{started['task_id']}")).status_code == 404
        assert (await other.post(f"/tasks/{started['task_id']}/cancel")).status_code == 404
        assert (await user.post(f"/tasks/{started['task_id']}/retry")).status_code == 409
        assert (await user.post(f"/tasks/{started['task_id']}/cancel")).json()["status"] == "canceled"
        release("tenant", "user_0")
        assert (await user.post(f"/tasks/{started['task_id']}/retry")).status_code == 202
        assert await ended(started["task_id"]) == "completed"

        pressed = up.api.press_run(up.api.deployment("maintenance/Maintenance"), project_id="Harbour")
        eventually(lambda: runtime_has(runtime, pressed), what="the run that the API was asked for begins")
        assert await ended(pressed) == "completed"


def runtime_has(runtime: Runtime, task_id: str) -> bool:
    return TasksRepository(runtime.database).get_by_id(task_id) is not None


def processes(place: Any) -> dict[int, str]:
    """Return the commands of other processes that use the database of `place`, by their process ids."""
    commands = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(place.database_file).encode() in environment and int(process.name) != os.getpid():
            commands[int(process.name)] = command
    return commands


@pytest.mark.slow
@pytest.mark.parametrize("projects", [1, pytest.param(10, marks=pytest.mark.full)])
def test_killed_in_the_middle_it_goes_on_where_it_was(
    place: Any, definitions: Path, make_images: Any, projects: int
) -> None:
    for number in range(projects):
        make_images(place.library / "user_0" / f"alps-{number}", 40)
    folder = place.folder / "up"
    with started(place, folder) as up:
        discovery = up.press_run("Folder Discovery")
        database = Database(place.database_file)
        tasks, jobs = TasksRepository(database), JobsRepository(database)
        pressed = [discovery]
        if projects > 1:
            eventually(lambda: up.state(discovery)[0] == "COMPLETED", what="the projects are found")
            # Nothing begins before all of them are there.
            HoldsRepository(database).hold("tenant", "user_0")
            for number in range(projects):
                select = {"project_ids": [number + 1]}
                pressed.append(up.press_run("Generate Derivatives", select=select, force=True))
            eventually(lambda: len(running_processes(folder / "runs")) >= projects, what="the ten runs are on")
            HoldsRepository(database).release("tenant", "user_0")
        eventually(
            lambda: any(job.status == "running" for job in jobs.list_by_tenant("user_0") if job.progress_total),
            what="photos are being processed",
        )
        up.process.kill()
        up.process.wait()
        eventually(lambda: not processes(place), what="nothing outlives photojobs up")

    with started(place, folder) as up:
        for task_id in pressed:
            eventually(
                lambda task_id=task_id: (task := tasks.get_by_id(task_id)) is not None and task.is_final,
                what="a task goes on",
            )
        ended = {tasks.get(task_id).status for task_id in pressed}
        everything = tasks.list_newest(limit=100)
        rows = {task_id: tasks.list_jobs(task_id) for task_id in pressed}
        outcomes = [
            (item.status, item.attempts)
            for task_id in pressed
            for row in rows[task_id]
            for item in jobs.list_items(row.id)
        ]
        eventually(
            lambda: {up.state(task_id)[0] for task_id in pressed} == {"COMPLETED"},
            what="Prefect knows of the end of each task",
        )
    database.close()
    assert ended == {"completed"}
    assert sorted(task.id for task in everything) == sorted(pressed)
    assert [row.type for row in rows[discovery]] == ["folder_discovery", "upload_postprocess"]
    assert [len(rows[task_id]) for task_id in pressed[1:]] == [1] * (len(pressed) - 1)
    assert outcomes == [("done", 1)] * 40 * (projects if projects == 1 else 2 * projects)


@pytest.mark.slow
def test_a_server_and_a_runner_that_are_killed_are_started_again(
    place: Any, definitions: Path, make_images: Any
) -> None:
    make_images(place.library / "user_0" / "alps", 40)
    database = Database(place.database_file)
    with started(place, place.folder / "up") as up:
        discovery = up.press_run("Folder Discovery")
        jobs = JobsRepository(database)
        eventually(
            lambda: any(job.status == "running" for job in jobs.list_by_tenant("user_0") if job.progress_total),
            what="photos are being processed",
        )
        for part in ("deployments.serving.runner", "deployments.embedded_server"):
            [process_id] = [process_id for process_id, command in processes(place).items() if part in command]
            os.kill(process_id, signal.SIGKILL)

        def state(flow_run_id: str) -> str:
            try:
                return up.api.state(flow_run_id)
            except httpx.TransportError:
                return "away"

        eventually(lambda: state(discovery) == "COMPLETED", what="the run that was on goes on to its end")
        pressed = up.press_run("Nightly Check")
        eventually(lambda: state(pressed) == "COMPLETED", what="what is pressed afterwards runs")
        assert up.process.poll() is None

    rows = TasksRepository(database).list_jobs(discovery)
    outcomes = [(item.status, item.attempts) for row in rows for item in jobs.list_items(row.id)]
    database.close()
    assert outcomes == [("done", 1)] * 40
