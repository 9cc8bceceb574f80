"""Measures the time from a click on Run, with an idle `photojobs up`, to the start of the flow run and its first job.

The times are compared with the longest acceptable times for a user.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command
from storage import Database, Settings, TasksRepository
from tests.prefect_api import headers_of

#: The longest acceptable times from the click to the start of the flow run, and to the start of its first job.
RUN_LIMIT_SECONDS, JOB_LIMIT_SECONDS = 2.0, 8.0

#: The pause between two clicks, after which all processes are idle again.
PAUSE_SECONDS = 3.0


def run(options: Options) -> Report:
    """Click Run repeatedly. The first click, before anything is cached, is also counted."""
    rounds = options.size(10, 1)
    to_run, to_job = [], []
    with temporary_folder() as folder, _up(folder) as (api, database):
        for _ in range(rounds):
            time.sleep(PAUSE_SECONDS)
            pressed_at = datetime.now(UTC)
            run_started_at, job_started_at = _press(api, database)
            to_run.append((run_started_at - pressed_at).total_seconds())
            to_job.append((job_started_at - pressed_at).total_seconds())
    report = Report("pressed run", notes=["folder_discovery on one project, SQLite"])
    for what, values, limit in (
        ("flow run starts", to_run, RUN_LIMIT_SECONDS),
        ("first job starts", to_job, JOB_LIMIT_SECONDS),
    ):
        report.ratios.append(
            Ratio(
                what=what,
                unit="s",
                ours=values,
                others=[limit] * len(values),
                against="the limit",
                target=1.0,
                at_least=False,
            )
        )
    return report


def _press(api: httpx.Client, database: Database) -> tuple[datetime, datetime]:
    deployment = api.get("/deployments/name/folder_discovery/Folder Discovery").raise_for_status().json()
    path = f"/deployments/{deployment['id']}/create_flow_run"
    # Prefect's SQLite database may be locked for a moment; a user would click again.
    while (pressed := api.post(path, json={"state": {"type": "SCHEDULED"}})).status_code == 503:
        pass
    run_id = pressed.raise_for_status().json()["id"]
    while (found := api.get(f"/flow_runs/{run_id}").raise_for_status().json())["state_type"] != "COMPLETED":
        assert found["state_type"] in ("SCHEDULED", "PENDING", "RUNNING"), found["state"]
        time.sleep(0.2)
    (job, *_) = TasksRepository(database).list_jobs(run_id)
    assert job.started_at is not None
    return datetime.fromisoformat(found["start_time"]), job.started_at


@contextmanager
def _up(folder: Path) -> Iterator[tuple[httpx.Client, Database]]:
    from deployments.serving.up import up

    library = folder / "library"
    (library / "user_0" / "alps").mkdir(parents=True)
    os.environ |= {
        "PHOTOJOBS_DATABASE_URL": f"sqlite:///{folder}/photojobs.db",
        "PHOTOJOBS_LIBRARY_ROOT": str(library),
    }
    database = Database(folder / "photojobs.db")
    database.migrate()
    with (
        up(Settings.load(), home=folder / "up", port=None) as running,
        httpx.Client(base_url=running.api_url, timeout=30, headers=headers_of(running.api_url)) as api,
    ):
        yield api, database
    database.close()


if __name__ == "__main__":
    command(run)
