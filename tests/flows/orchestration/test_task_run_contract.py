"""Prefect's server shows our task runs like those of Prefect's own engine, field by field.

Prefect does not document how a client reports task runs to the server. If Prefect changes this, these tests fail; the
setting `task_runner: prefect` then leaves task runs to Prefect's own engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run
from prefect.states import Failed

from flows import run_task, step
from flows.handlers.step_context import StepContext
from flows.process.runtime import Runtime
from tests.flows.conftest import add_photos, items_of
from tests.prefect_api import PrefectApi
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.xdist_group("prefect"),
    # Prefect leaves connections of an event loop that has ended to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: Fields with other values in each run; a separate test compares how they are related.
_EACH_RUN_HAS_ITS_OWN = {"id", "dynamic_key", "flow_run_id", "state_id"}
_MOMENTS = {"created", "updated", "expected_start_time", "start_time", "end_time", "timestamp", "scheduled_time"}
_SPANS = {"total_run_time", "estimated_run_time", "estimated_start_time_delta"}

#: The names of the task runs in which the handlers ran.
_seen: list[str] = []


@step("speak", unit="items", modifies_files=False)
def speak(ctx: StepContext) -> None:
    """Writes a line to the log of the task run; fails on bad photos."""
    get_run_logger().warning("speaking")
    _seen.append(str(task_run.name))
    for batch in ctx.item_batches():
        for item in batch:
            with ctx.item(item):
                if item.name == "bad":
                    raise ValueError("is bad")


@pytest.fixture
def api(prefect_api: str) -> Iterator[PrefectApi]:
    _seen.clear()
    with PrefectApi(prefect_api) as api:
        yield api


@pytest.fixture
def run_with(runtime: Runtime, define: Any) -> Callable[[str], tuple[str, str]]:
    """A function that runs three jobs with this value of `task_runner`; the last fails. Returns flow run and task."""
    items = items_of(*add_photos(runtime.database, ("a", "b", "bad")))

    def run(task_runner: str) -> tuple[str, str]:
        settings = runtime.settings.model_copy(update={"task_runner": task_runner, "max_attempts": 1})
        with Runtime(runtime.database, settings=settings) as opened, opened.as_current():
            definition = define("contract", {"type": "speak", "priority": 95, "chunk_size": 1})
            summary = run_task(type=definition, tenant_id="user_0", items=items)
        return str(summary.task.flow_run_id), summary.task.id

    return run


class Shown:
    """The task runs of a flow run by their names, as a server shows them."""

    def __init__(self, api: PrefectApi, flow_run_id: str, *, count: int, secret: str = "") -> None:
        self._api = api
        self._flow_run_id = flow_run_id
        self._task_id = secret
        self.runs = api.ended_task_runs(flow_run_id, count)
        wait_until(self._is_complete, what=lambda: f"all is recorded: {self.runs}")

    def _is_complete(self) -> bool:
        return all(self._has_whole_log(run) and self._has_all_events(run) for run in self.runs.values())

    def _has_whole_log(self, run: dict[str, Any]) -> bool:
        """Return whether the last line is there: a server gets the lines in several requests."""
        return any(message.startswith("Finished in state") for _, _, message in self.logs(run))

    def _has_all_events(self, run: dict[str, Any]) -> bool:
        return {event["event"] for event in self.events(run)} >= {
            f"prefect.task-run.{state['name']}" for state in self.states(run)
        }

    def states(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        found = self._api.get("/task_run_states/", params={"task_run_id": run["id"]}).raise_for_status().json()
        return sorted(found, key=lambda state: state["timestamp"])

    def logs(self, run: dict[str, Any]) -> list[tuple[int, str, str]]:
        body = {"logs": {"task_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC"}
        return [(log["level"], log["name"], log["message"]) for log in self._api.find("logs", body)]

    def events(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        of_run = {"id": [f"prefect.task-run.{run['id']}"]}
        body = {"filter": {"resource": of_run, "event": {"prefix": ["prefect.task-run."]}, "order": "ASC"}}
        return list(self._api.post("/events/filter", json=body).raise_for_status().json()["events"])

    def graph(self) -> dict[str, dict[str, Any]]:
        """Return the nodes of the graph on the flow run's page, by their labels."""
        found = self._api.get(f"/flow_runs/{self._flow_run_id}/graph-v2").raise_for_status().json()
        return {node["label"]: node for _, node in found["nodes"]}

    def plain(self, value: Any) -> Any:
        """Return a value without the parts that differ in each run."""
        if isinstance(value, dict):
            return {
                key: (one is not None) if key in _MOMENTS else self.plain(one)
                for key, one in value.items()
                if key not in _EACH_RUN_HAS_ITS_OWN | _SPANS
            }
        if isinstance(value, list):
            return sorted((self.plain(one) for one in value), key=str)
        return self._without_ids(value) if isinstance(value, str) else value

    def _without_ids(self, text: str) -> str:
        ids = {self._flow_run_id: "FLOW RUN", self._task_id: "TASK"}
        ids |= {run["id"]: "TASK RUN" for run in self.runs.values()} if hasattr(self, "runs") else {}
        for id_, name in ids.items():
            text = text.replace(id_, name) if id_ else text
        return text


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_what_the_server_shows_is_the_same_field_by_field(api: PrefectApi, run_with: Any) -> None:
    shown = []
    for task_runner in ("prefect", "threads"):
        flow_run_id, task_id = run_with(task_runner)
        shown.append(Shown(api, flow_run_id, count=3, secret=task_id))
    plain, ours = shown

    assert sorted(_seen) == sorted(2 * ["speak 1/3", "speak 2/3", "speak 3/3"])
    assert set(ours.runs) == set(plain.runs) == {"speak 1/3", "speak 2/3", "speak 3/3"}
    for name, run in ours.runs.items():
        other = plain.runs[name]
        assert ours.plain(run) == plain.plain(other)
        assert ours.plain(ours.states(run)) == plain.plain(plain.states(other))
        assert [ours.plain(list(log)) for log in ours.logs(run)] == [
            plain.plain(list(log)) for log in plain.logs(other)
        ]
        assert _comparable_events(ours, run) == _comparable_events(plain, other)
    assert _without_moments(ours) == _without_moments(plain)


def _comparable_events(shown: Shown, run: dict[str, Any]) -> list[Any]:
    """Return the events without the fields that the server's records show too, and without their moments."""
    events = []
    for event in shown.events(run):
        described = shown.plain({key: event[key] for key in event if key not in ("received", "occurred", "follows")})
        # Prefect's engine names a run only when it has begun.
        described["resource"].pop("prefect.resource.name")
        described["payload"]["task_run"].pop("name")
        described["resource"].pop("prefect.state-timestamp")
        events.append(described | {"follows": event["follows"] is not None})
    return events


def _without_moments(shown: Shown) -> dict[str, Any]:
    return {label: shown.plain(node) for label, node in shown.graph().items()}


def test_moments_and_spans_are_those_of_the_states(api: PrefectApi, run_with: Any) -> None:
    flow_run_id, _ = run_with("threads")
    shown = Shown(api, flow_run_id, count=3)

    for run in shown.runs.values():
        pending, running, final = shown.states(run)
        assert [pending["type"], running["type"]] == ["PENDING", "RUNNING"]
        assert (run["start_time"], run["end_time"]) == (running["timestamp"], final["timestamp"])
        assert (run["expected_start_time"], run["state_id"]) == (pending["timestamp"], final["id"])
        took = _moment(final["timestamp"]) - _moment(running["timestamp"])
        assert run["total_run_time"] == pytest.approx(took.total_seconds())
        followed = [event["follows"] for event in shown.events(run)]
        assert followed == [None, pending["id"], running["id"]]


def test_attempts_are_shown_as_prefect_shows_retries(
    api: PrefectApi, runtime: Runtime, stage: Any, define: Any
) -> None:
    attempts: list[int] = []

    @task(
        retries=1, retry_delay_seconds=0.01, task_run_name="stumble {position}", name="stumble", cache_policy=NO_CACHE
    )
    def stumble(job_id: int, position: str) -> Any:
        attempts.append(job_id)
        return Failed(message="stumbled") if len(attempts) == 1 else None

    @flow
    def plainly() -> str:
        wait(stumble.map([1], ["1/1"]))
        return str(flow_run.id)

    plain = Shown(api, plainly(), count=1)
    stage.failures["user_0"] = 1
    definition = define("stumbles", {"type": "stumble", "priority": 95, "retry_delay_seconds": 0.01}, scope="global")
    ours = Shown(api, str(run_task(type=definition, tenant_id="user_0").task.flow_run_id), count=1)

    [run], [other] = ours.runs.values(), plain.runs.values()
    assert (run["name"], run["run_count"], run["flow_run_run_count"]) == ("stumble 1/1", 2, 1)
    assert (run["run_count"], run["state_type"]) == (other["run_count"], other["state_type"])

    def steps(shown: Shown, of: dict[str, Any]) -> list[Any]:
        return [shown.plain({key: one for key, one in state.items() if key != "message"}) for state in shown.states(of)]

    assert steps(ours, run) == steps(plain, other)
    assert [state["name"] for state in ours.states(run)] == [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Retrying",
        "Completed",
    ]
    # Prefect writes the reason only to the log.
    assert ours.states(run)[2]["message"] == "OSError: stumbled"
