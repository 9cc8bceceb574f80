"""`photojobs up` runs at most `max_flow_runs` flow runs at a time; the others wait in Prefect, and all end."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows import Runtime, start_task
from flows.orchestration.supervision import running_processes
from storage import TasksRepository
from storage.queue.holds import HoldsRepository
from tests.deployments.serving.test_up import Up, started, write_definitions
from tests.prefect_api import FINAL
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.prefect, pytest.mark.xdist_group("up"), pytest.mark.timeout(600)]

eventually = partial(wait_until, limit_seconds=240.0, pause_seconds=0.1)

LIMIT = 2


def test_flow_runs_above_the_limit_wait_in_prefect_and_all_complete(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_definitions(place)
    for name, value in (place.environment | {"PHOTOJOBS_MAX_FLOW_RUNS": str(LIMIT)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PHOTOJOBS_DEFINITIONS", str(place.folder / "definitions"))
    with started(place, place.folder / "up") as up, Runtime.open() as runtime, runtime.as_current():
        tasks, holds = TasksRepository(runtime.database), HoldsRepository(runtime.database)
        # Flow runs that begin do not end until the test has seen all of them.
        holds.hold("tenant", "user_0")
        with temporary_settings({PREFECT_API_URL: up.api_url, PREFECT_API_AUTH_STRING: up.password}):
            asked_for = [start_task(type="nightly_check", tenant_id="user_0") for _ in range(4)]
        runs = [str(task.flow_run_id) for task in asked_for]
        runs += [up.press_run("Nightly Check") for _ in range(3)]
        _wait_for_full_house(up, runs, waiting=len(runs) - LIMIT)

        ids = {str(task.flow_run_id): task.task_id for task in asked_for}
        canceled = {state: next(run for run in ids if up.state(run)[0] == state) for state in ("RUNNING", "SCHEDULED")}
        for run in canceled.values():
            up.api.set_state(run, "CANCELLING")
        eventually(
            lambda: (
                {(up.state(run)[0], tasks.get(ids[run]).status) for run in canceled.values()}
                == {("CANCELLED", "canceled")}
            ),
            what="both are canceled, and their tasks",
        )
        # One of the waiting flow runs has started in the free place.
        others = [run for run in runs if run not in canceled.values()]
        _wait_for_full_house(up, others, waiting=len(others) - LIMIT)

        holds.release("tenant", "user_0")
        eventually(lambda: all(up.state(run)[0] in FINAL for run in others), what="all come to their end")
        assert {up.state(run)[0] for run in others} == {"COMPLETED"}
        assert {tasks.get(ids[run]).status for run in others if run in ids} == {"completed"}
        assert most_at_once(up, runs) == LIMIT


def _wait_for_full_house(up: Up, runs: list[str], *, waiting: int) -> None:
    processes: Path = up.folder / "runs"

    def is_full() -> bool:
        states = [up.state(run)[0] for run in runs]
        return (
            states.count("RUNNING") == LIMIT
            and states.count("SCHEDULED") == waiting
            and len(running_processes(processes)) == LIMIT
        )

    eventually(is_full, what=lambda: f"{LIMIT} runs are on, the others wait: {[up.state(run) for run in runs]}")


def most_at_once(up: Up, runs: list[str]) -> int:
    """Return how many of the flow runs were running or starting at the same moment, according to Prefect."""
    changes = []
    for run in runs:
        states = up.api.get("/flow_run_states/", params={"flow_run_id": run}).raise_for_status().json()
        begun = [state["timestamp"] for state in states if state["type"] == "PENDING"]
        if begun:
            changes.append((min(begun), 1))
            # The process of a canceled run ends before Prefect knows of it.
            ended = [state["timestamp"] for state in states if state["type"] in ("CANCELLING", *FINAL)]
            changes.append((min(ended), -1))
    at_once = most = 0
    for _, change in sorted(changes):
        at_once += change
        most = max(most, at_once)
    return most
