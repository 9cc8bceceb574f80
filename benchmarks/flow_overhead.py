"""Measures the compiled flow with 500 no-op jobs of one step, compared with a raw Prefect flow of 500 no-op tasks.

All flows run in this process and report to one Prefect server, which has recorded each flow run before the next begins.
The benchmark measures the time until all events are sent, and the processor time of this process, also for a flow run
of one job. The raw flow has Prefect's defaults. For information, the raw flow is also measured with the tags of the
compiled flow: for each tag of a task run, Prefect asks its server for a slot. Flow runs send no heartbeats here: with
heartbeats, Prefect ends each run at a whole second after its start.
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

#: How long the server may take to record the events of a flow run.
_RECORDED_WITHIN_SECONDS = 120.0


def run(options: Options) -> Report:
    """Measure the two flows in turns."""
    # Without this level, Prefect's loggers print a line for each task run of both flows.
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from deployments.server.prefect_server import embedded_server

    count = options.size(500, 5)
    register_noop_steps()
    without_heartbeats = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with temporary_folder() as folder, embedded_server(folder / "prefect"), without_heartbeats:
        from flows.process.runtime import Runtime

        settings = Settings.load(database_url=f"sqlite:///{folder}/photojobs.db", library_root=folder)
        with Runtime.open(settings) as runtime, runtime.as_current():
            project = ProjectsRepository(runtime.database).create(project_name="bench", project_folder="bench")
            photo_ids = PhotosRepository(runtime.database).create_many(
                [{"project_id": project.id, "filename": f"photo-{number}"} for number in range(count)]
            )
            definition = noop_definition(chunk_size=1)
            raw, tagged = _raw_flow(), _raw_flow(tags=["priority:95", "lane:priority", "tenant:user_0", "task:1"])
            processor = {name: list[float]() for name in ("ours", "raw", "tagged", "our one", "raw one")}
            values = in_turns(
                {
                    "ours": lambda: _timed(lambda: _ours(definition, photo_ids), count, processor["ours"]),
                    "raw": lambda: _timed(lambda: raw(count), count, processor["raw"]),
                    "tagged": lambda: _timed(lambda: tagged(count), count, processor["tagged"]),
                },
                rounds=options.rounds(5),
            )
            in_turns(
                {
                    "ours": lambda: _timed(lambda: _ours(definition, photo_ids[:1]), 1, processor["our one"]),
                    "raw": lambda: _timed(lambda: raw(1), 1, processor["raw one"]),
                },
                rounds=options.rounds(15),
            )
    report = Report("flow overhead", notes=[f"{count} task runs a flow run; one client process, one server"])
    for what, ours, others, against, target in (
        (f"{count} no-op jobs of one step", values["ours"], values["raw"], "raw Prefect flow", 0.9),
        ("the same", values["ours"], values["tagged"], "raw Prefect flow with four tags", None),
        ("processor time of the same", processor["ours"][1:], processor["raw"][1:], "raw Prefect flow", None),
        ("processor time of one job", processor["our one"][1:], processor["raw one"][1:], "raw flow of one task", 1.8),
    ):
        report.ratios.append(
            Ratio(what=what, unit="s", ours=ours, others=others, against=against, target=target, at_least=False)
        )
    return report


def _ours(definition: TaskDefinition, photo_ids: list[int]) -> str:
    from flows import run_task

    items = [{"photo_id": photo_id} for photo_id in photo_ids]
    summary = run_task(type=definition, tenant_id="user_0", items=items)
    assert summary.task.status == "completed", summary.message
    return str(summary.task.flow_run_id)


def _timed(run: Callable[[], str], count: int, processor: list[float]) -> float:
    """Return the seconds until a flow has run and its events are sent; append the processor time to `processor`."""
    from prefect.events.worker import EventsWorker

    began, used = time.perf_counter(), time.process_time()
    flow_run_id = run()
    EventsWorker.drain_all(timeout=_RECORDED_WITHIN_SECONDS)
    took = time.perf_counter() - began
    processor.append(time.process_time() - used)
    _until_recorded(flow_run_id, count)
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


def _until_recorded(flow_run_id: str, count: int) -> None:
    """Wait until the server has recorded a flow run, so that this work does not slow the next measurement."""
    completed = {"state": {"type": {"any_": ["COMPLETED"]}}}
    body = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "task_runs": completed}
    give_up_at = time.monotonic() + _RECORDED_WITHIN_SECONDS
    while _client().post("/task_runs/count", json=body).raise_for_status().json() < count:
        assert time.monotonic() < give_up_at, (
            f"the server has not recorded all {count} task runs of {flow_run_id} within "
            f"{_RECORDED_WITHIN_SECONDS:g} s; run the benchmark again on an idle machine"
        )
        time.sleep(0.1)


@cache
def _client() -> PrefectApi:
    return PrefectApi(os.environ["PREFECT_API_URL"], timeout=60)


if __name__ == "__main__":
    command(run)
