"""Two workers of a Prefect work pool run urgent and other tasks in two processes on one PostgreSQL database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from storage import (
    Database,
    Job,
    JobsRepository,
    LanesRepository,
    PhotosRepository,
    ProjectsRepository,
    TasksRepository,
)
from tests.prefect_api import PrefectApi
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.prefect,
    pytest.mark.postgres,
    pytest.mark.xdist_group("deploy"),
    pytest.mark.timeout(280),
]

eventually = partial(wait_until, limit_seconds=120.0, pause_seconds=0.1)

DEFINITIONS = """
urgent_reading:
  label: Urgent Reading
  scope: photo_set
  steps:
    - {type: metadata, priority: 95, chunk_size: 2}
    - {type: metadata, priority: 60, chunk_size: 2}
quiet_reading:
  label: Quiet Reading
  scope: photo_set
  steps:
    - {type: metadata, priority: 40, chunk_size: 2}
"""


@pytest.fixture
def rows(postgresql_url: str) -> Iterator[Database]:
    opened = Database(postgresql_url)
    yield opened
    opened.close()


@pytest.fixture
def photos(rows: Database, place: Any, make_images: Callable[[Path, int], None]) -> list[int]:
    make_images(place.library / "user_0" / "alps", 6)
    project = ProjectsRepository(rows).create(project_name="alps", project_folder="alps", tenant_id="user_0")
    names = [{"project_id": project.id, "filename": f"photo_{number}", "jpg_available": 1} for number in range(6)]
    return PhotosRepository(rows).create_many(names)


@contextmanager
def pool_worker(pool: str, queue: str, environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    log_path = folder / f"worker-{queue}.log"
    command = ["worker", "start", "--pool", pool, "--work-queue", queue, "--type", "process", "--name", queue]
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *command],
            env=os.environ | environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_two_workers_share_a_database_and_each_lane_goes_by_rank(
    shell: Callable[..., Any],
    place: Any,
    rows: Database,
    photos: list[int],
    postgresql_url: str,
    prefect_url: str,
) -> None:
    file = place.folder / "own.yaml"
    file.write_text(DEFINITIONS)
    environment = place.environment | {
        "PHOTOJOBS_DATABASE_URL": postgresql_url,
        "PHOTOJOBS_DEFINITIONS": str(file),
        "PHOTOJOBS_STALE_SECONDS": "120",
        "PREFECT_API_URL": prefect_url,
    }
    pool = f"pool-{uuid4().hex[:8]}"
    deployed = shell(
        "deploy", "urgent_reading", "quiet_reading", "--pool", pool, "--create-pool", "process", **environment
    )
    assert deployed.code == 0, deployed.err
    tasks, jobs = TasksRepository(rows), JobsRepository(rows)
    # The slot of the normal lane stays taken until both processes wait for it, so that only rank decides who is next.
    LanesRepository(rows).change("normal", slots=1)
    jobs.enqueue(tenant_id="other", type="manifest_check", scope="global", priority=50)
    blocking = jobs.claim_next("test", tenant_id="other")
    assert blocking is not None

    def logs() -> str:
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in place.folder.glob("worker-*.log"))

    def waits(priority: int) -> bool:
        """Return True if a process waits for a job of this priority; each free thread waits for one job."""
        found = jobs.list_by_tenant("user_0", status="queued", limit=100)
        return any(job.priority == priority and job.heartbeat_at is not None for job in found)

    items = [{"photo_id": photo_id} for photo_id in photos]
    with (
        PrefectApi(prefect_url) as api,
        pool_worker(pool, "normal", environment, place.folder),
        pool_worker(pool, "priority", environment, place.folder),
    ):
        quiet = api.press_run(api.deployment("quiet_reading/Quiet Reading"), items=items)
        urgent = api.press_run(api.deployment("urgent_reading/Urgent Reading"), items=items)
        eventually(lambda: waits(40) and waits(60), what=logs)
        jobs.complete(blocking.id)
        eventually(lambda: {api.state(quiet), api.state(urgent)} == {"COMPLETED"}, what=logs)

    done = [job for task_id in (urgent, quiet) for job in tasks.list_jobs(task_id)]
    normal = sorted((job for job in done if job.priority < 90), key=lambda job: started_at(job))
    assert [job.priority for job in normal] == [60, 60, 60, 40, 40, 40]
    assert [job.chunk_index for job in normal] == [0, 1, 2] * 2
    # The order of the work is compared, and not the moments of the claims: a job may be claimed while another one runs.
    worked_at = [[item.updated_at for item in jobs.list_items(job.id)] for job in normal]
    assert all(max(before) <= min(after) for before, after in pairwise(worked_at)), worked_at
    assert len({job.worker_id for job in done}) == 2
    for step in (95, 60, 40):
        worked = [item for job in done if job.priority == step for item in jobs.list_items(job.id)]
        assert sorted(item.photo_id for item in worked) == sorted(photos)
        assert {(item.status, item.attempts) for item in worked} == {("done", 1)}


def started_at(job: Job) -> Any:
    assert job.started_at is not None
    return job.started_at
