"""500 no-op jobs of one step through the compiled flow, against a raw Prefect flow that maps 500 no-op tasks.

All run in this process, against one Prefect server of its own. Measured is the time until the server has recorded every
task run as completed. The raw flow keeps Prefect's defaults. As information it is measured with tags as well, as ours
have them: for a task run with tags Prefect asks its server for slots of each. A flow run of one job is measured in
processor time of this process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from benchmarks.noop_steps import noop_definition, register_noop_steps
from storage import PhotosRepository, ProjectsRepository, Settings
from task_definitions import TaskDefinition
from tests.prefect_api import PrefectApi

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
            definition = noop_definition(chunk_size=1)
            raw, tagged = _raw_flow(), _raw_flow(tags=["priority:95", "lane:priority", "tenant:user_0", "task:1"])
            values = in_turns(
                {
                    "ours": lambda: _ours(definition, photo_ids),
                    "raw": lambda: _raw(raw, count),
                    "tagged": lambda: _raw(tagged, count),
                },
                rounds=options.rounds(5),
            )
            single = in_turns(
                {
                    "ours": lambda: _processor_time(lambda: _ours(definition, photo_ids[:1])),
                    "raw": lambda: _processor_time(lambda: _raw(raw, 1)),
                },
                rounds=options.rounds(15),
            )
    report = Report("flow overhead", notes=[f"{count} task runs a flow run; one client process, one server"])
    report.ratios.append(
        Ratio(
            what="one no-op job, processor time",
            unit="s",
            ours=single["ours"],
            others=single["raw"],
            against="raw Prefect flow of one task",
            target=1.8,
            at_least=False,
        )
    )
    report.ratios.append(
        Ratio(
            what=f"{count} no-op jobs of one step",
            unit="s",
            ours=values["ours"],
            others=values["raw"],
            against="raw Prefect flow",
            target=0.9,
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


def _ours(definition: TaskDefinition, photo_ids: list[int]) -> float:
    from flows import run_task

    began = time.perf_counter()
    summary = run_task(
        type=definition,
        tenant_id="user_0",
        items=[{"photo_id": photo_id} for photo_id in photo_ids],
    )
    assert summary.task.status == "completed", summary.message
    _until_recorded(str(summary.task.flow_run_id), len(photo_ids))
    return time.perf_counter() - began


def _processor_time(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


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


def _raw(raw: Any, count: int) -> float:
    began = time.perf_counter()
    _until_recorded(raw(count), count)
    return time.perf_counter() - began


def _until_recorded(flow_run_id: str, count: int) -> None:
    """Wait until the server has recorded all task runs of a flow run as completed."""
    completed = {"state": {"type": {"any_": ["COMPLETED"]}}}
    body = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "task_runs": completed}
    give_up_at = time.monotonic() + _RECORDED_WITHIN_SECONDS
    while _client().post("/task_runs/count", json=body).raise_for_status().json() < count:
        assert time.monotonic() < give_up_at, f"the server has not recorded all {count} task runs of {flow_run_id}"
        time.sleep(0.1)


@cache
def _client() -> PrefectApi:
    return PrefectApi(os.environ["PREFECT_API_URL"], timeout=60)


if __name__ == "__main__":
    command(run)
