"""500 no-op jobs of one step through the compiled flow, against a raw Prefect flow that maps 500 no-op tasks.

All run in this process, against one Prefect server of its own, which has worked off each before the next begins. The
raw flow keeps Prefect's defaults. As information it is measured with tags as well, as ours have them: for a task run
with tags Prefect asks its server for slots of each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from benchmarks.noop_steps import noop_definition, register_noop_steps
from storage import PhotosRepository, ProjectsRepository, Settings
from tests.prefect_api import headers_of

#: The server is given so long to record what a flow run told it.
_RECORDED_WITHIN_SECONDS = 120.0


def run(options: Options) -> Report:
    """Measure the two flows in turns."""
    # Prefect's loggers print a line for each task run; both sides are spared that.
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    from deployments.server.prefect_server import embedded_server

    count = options.size(500, 5)
    register_noop_steps()
    with temporary_folder() as folder, embedded_server(folder / "prefect"):
        from flows.process.runtime import Runtime

        settings = Settings.load(database_url=f"sqlite:///{folder}/photojobs.db", library_root=folder)
        with Runtime.open(settings) as runtime, runtime.as_current():
            project = ProjectsRepository(runtime.database).create(project_name="bench", project_folder="bench")
            photo_ids = PhotosRepository(runtime.database).create_many(
                [{"project_id": project.id, "filename": f"photo-{number}"} for number in range(count)]
            )
            raw, tagged = _raw_flow(), _raw_flow(tags=["priority:95", "lane:priority", "tenant:user_0", "task:1"])
            values = in_turns(
                {
                    "ours": lambda: _ours(photo_ids),
                    "raw": lambda: _timed(raw, count),
                    "tagged": lambda: _timed(tagged, count),
                },
                rounds=options.rounds(5),
            )
    report = Report("flow overhead", notes=[f"{count} task runs a flow run; one client process, one server"])
    report.ratios.append(
        Ratio(
            what=f"{count} no-op jobs of one step",
            unit="s",
            ours=values["ours"],
            others=values["raw"],
            against="raw Prefect flow",
            target=1.15,
            at_least=False,
        )
    )
    report.ratios.append(
        Ratio(
            what="the same",
            unit="s",
            ours=values["ours"],
            others=values["tagged"],
            against="raw Prefect flow with four tags",
        )
    )
    return report


def _ours(photo_ids: list[int]) -> float:
    from flows import run_task

    began = time.perf_counter()
    summary = run_task(
        type=noop_definition(chunk_size=1),
        tenant_id="user_0",
        items=[{"photo_id": photo_id} for photo_id in photo_ids],
    )
    took = time.perf_counter() - began
    assert summary.task.status == "completed", summary.message
    _until_recorded(str(summary.task.flow_run_id), len(photo_ids))
    return took


def _raw_flow(*, tags: Sequence[str] = ()) -> Any:
    from prefect import flow, task
    from prefect.futures import wait
    from prefect.runtime import flow_run

    @task(tags=tags)
    def nothing(number: int) -> None:
        pass

    @flow
    def raw(count: int) -> str:
        wait(nothing.map(range(count)))
        return str(flow_run.id)

    return raw


def _timed(raw: Any, count: int) -> float:
    began = time.perf_counter()
    flow_run_id = raw(count)
    took = time.perf_counter() - began
    _until_recorded(flow_run_id, count)
    return took


def _until_recorded(flow_run_id: str, count: int) -> None:
    """Wait until the server has worked off what a flow run told it, so that the next one does not pay for it."""
    import httpx

    completed = {"state": {"type": {"any_": ["COMPLETED"]}}}
    body = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "task_runs": completed}
    give_up_at = time.monotonic() + _RECORDED_WITHIN_SECONDS
    url = os.environ["PREFECT_API_URL"]
    with httpx.Client(base_url=url, timeout=60, headers=headers_of(url)) as client:
        while client.post("/task_runs/count", json=body).raise_for_status().json() < count:
            assert time.monotonic() < give_up_at, f"the server has not recorded all {count} task runs of {flow_run_id}"
            time.sleep(0.2)


if __name__ == "__main__":
    command(run)
