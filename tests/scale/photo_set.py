"""Runs a photo set of any size in a deployment of a running `photojobs up`, and measures memory and time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from flows.orchestration.supervision import running_processes
from storage import MAX_ITEMS_PER_JOB, Database, TasksRepository
from storage.reports.task_summary import summarize_task
from tests.prefect_api import FINAL, PrefectApi

#: A definition of one step, which marks every photo as done, and the module with this step.
DEFINITION = "look_at_all: {label: Look At All, scope: photo_set, steps: [{type: look_at, priority: 50}]}\n"
STEP = '''
from flows import StepContext, step


@step("look_at", unit="items", modifies_files=False)
def look_at(ctx: StepContext) -> None:
    """Looks at every photo."""
    for batch in ctx.item_batches():
        for item in batch:
            with ctx.item(item):
                pass
'''

_PROJECT = """
INSERT INTO projects (project_folder, project_name, tenant_id, created_at, updated_at)
VALUES ('scale', 'Scale', 'user_0', :now, :now)
"""
_PHOTOS = """
INSERT INTO photos (project_id, filename, created_at, updated_at)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
SELECT (SELECT id FROM projects WHERE project_folder = 'scale'), 'photo-' || i, :now, :now FROM n
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """The result of the run of a photo set.

    Attributes:
        message: the message of the flow run's final state.
        parameters_bytes: the size of the flow run's parameters, as Prefect stores them.
        early_mb: the largest resident size of the flow run's process until a fifth of the jobs had ended.
        peak_mb: the largest resident size until the end of the run.
        slowest_page_seconds: the time of the slowest request among those that Prefect's pages of the run make.
    """

    state: str
    message: str
    jobs: int
    items_done: int
    parameters_bytes: int
    early_mb: float
    peak_mb: float
    slowest_page_seconds: float
    seconds: float


def install_step(folder: Path) -> None:
    """Write the module with the step, and metadata as of an installed package, into a folder of the import path."""
    make_installed(folder, name="photojobs-look-at", module="photojobs_look_at", steps=["look_at"])
    (folder / "photojobs_look_at.py").write_text(STEP)


def make_installed(folder: Path, *, name: str, module: str, steps: Iterable[str]) -> None:
    """Write metadata as of an installed package into a folder of the import path; its step types are in `module`."""
    information = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    entries = "".join(f"{step} = {module}:{step}\n" for step in steps)
    (information / "entry_points.txt").write_text(f"[photojobs.steps]\n{entries}")


def add_photos(database: Database, count: int) -> None:
    """Add a project of `user_0` with this many photos, which have no files. This works only on SQLite."""
    from sqlalchemy import text

    now = "2025-10-01T12:00:00.000Z"
    with database.begin() as connection:
        connection.execute(text(_PROJECT), {"now": now})
        connection.execute(text(_PHOTOS), {"count": count, "now": now})


def pass_photo_set(
    api: PrefectApi, database: Database, runs: Path, *, look: Callable[[str], None] = lambda line: None
) -> Passage:
    """Run the deployment Look At All for every photo of `user_0`, and wait for its end.

    Args:
        api: the API of the server.
        database: the database of `photojobs up`.
        runs: the folder with the marker files of its flow-run processes.
        look: called from time to time with the progress as a text.
    """
    began = time.monotonic()
    run_id = api.press_run(api.deployment("look_at_all/Look At All"), select={"every_photo": True})
    tasks = TasksRepository(database)
    early_mb = peak_mb = slowest = 0.0
    while True:
        peak_mb = max([peak_mb, *(_peak_mb(process_id) for process_id in running_processes(runs))])
        counts = tasks.count_jobs(run_id)
        if counts.get("completed", 0) * 5 <= sum(counts.values()):
            early_mb = peak_mb
        slowest = max(slowest, _ask_for_pages(api, run_id))
        run = api.flow_run(run_id)
        look(f"{time.monotonic() - began:5.0f} s, {peak_mb:4.0f} MB, pages {slowest:.2f} s, jobs {counts}")
        if run["state_type"] in FINAL:
            break
        time.sleep(1.0)
    summary = summarize_task(database, run_id)
    return Passage(
        state=run["state_type"],
        message=run["state"]["message"],
        jobs=sum(summary.jobs.values()),
        items_done=sum(step.items.get("done", 0) for step in summary.steps),
        parameters_bytes=len(json.dumps(run["parameters"])),
        early_mb=early_mb,
        peak_mb=peak_mb,
        slowest_page_seconds=slowest,
        seconds=time.monotonic() - began,
    )


def chunks_of(count: int) -> int:
    """Return the number of jobs of a step over this many photos."""
    return -(-count // MAX_ITEMS_PER_JOB)


def _ask_for_pages(api: PrefectApi, run_id: str) -> float:
    """Make the requests that the pages of a flow run make; return the seconds of the slowest answer."""
    of_run = {"flow_runs": {"id": {"any_": [run_id]}}}
    slowest = 0.0
    for method, path, body in (
        ("GET", f"/flow_runs/{run_id}", None),
        ("GET", f"/flow_runs/{run_id}/graph-v2", None),
        ("POST", "/task_runs/filter", {**of_run, "limit": 100, "sort": "EXPECTED_START_TIME_DESC"}),
        ("POST", "/task_runs/count", of_run),
        ("POST", "/artifacts/filter", of_run),
    ):
        began = time.monotonic()
        api.request(method, path, json=body).raise_for_status()
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def _peak_mb(process_id: int) -> float:
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)
