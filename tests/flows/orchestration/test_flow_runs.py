"""Compiled flows run on a real Prefect server, end in the right state, and are shown correctly by Prefect."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.runtime import flow_run
from prefect.states import AwaitingRetry, Running
from sqlalchemy import update

from flows import arun_task, catalog, plan_task, run_saved_plan, run_task, start_task
from flows.execution.worker import drain_queue
from flows.orchestration import artifacts, cancellation_watch
from flows.orchestration.compiler import compile_task
from flows.orchestration.task_flow import RESTARTED
from flows.process.runtime import Runtime
from flows.starting.deployment_names import SCHEDULE_SOURCE
from flows.testing import run_step
from storage import JobsRepository, LanesRepository, PhotosRepository, ProjectsRepository, TasksRepository, TaskSummary
from storage.database import tables
from storage.database.clock import system_clock
from storage.errors import DatabaseUnavailable
from task_definitions import load_definitions
from tests.flows.conftest import add_photos
from tests.prefect_api import PrefectApi
from tests.waiting import wait_until

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("prefect")]


class Api(PrefectApi):
    """A client of Prefect's API, also for events and automations."""

    def running(self, flow_name: str) -> list[dict[str, Any]]:
        body = {"flows": {"name": {"any_": [flow_name]}}, "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
        return self.find("flow_runs", body)

    def events(self, related: str) -> dict[str, list[dict[str, Any]]]:
        """Return our events about a resource, or related to it, by their names."""
        body = {"filter": {"any_resource": {"id": [related]}, "event": {"prefix": ["photojobs."]}}, "limit": 50}
        found = self.post("/events/filter", json=body).raise_for_status().json()["events"]
        by_name: dict[str, list[dict[str, Any]]] = {}
        for event in found:
            by_name.setdefault(event["event"], []).append(event)
        return by_name

    @contextmanager
    def automation(self, *, expect: str, match: dict[str, str]) -> Iterator[str]:
        """Create an automation for one event during the block; its action does nothing. Yield its id."""
        trigger = {"type": "event", "posture": "Reactive", "expect": [expect], "match": match, "threshold": 1}
        body = {"name": expect, "trigger": trigger | {"within": 0}, "actions": [{"type": "do-nothing"}]}
        automation = str(self.post("/automations/", json=body).raise_for_status().json()["id"])
        try:
            yield automation
        finally:
            self.delete(f"/automations/{automation}").raise_for_status()

    def acted(self, automation: str) -> list[str]:
        """Return the resources of the events on which an automation has acted."""
        body = {"filter": {"any_resource": {"id": [f"prefect.automation.{automation}"]}}}
        found = self.post("/events/filter", json=body).raise_for_status().json()["events"]
        triggered = [event for event in found if event["event"] == "prefect.automation.triggered"]
        return [event["payload"]["triggering_event"]["resource"]["prefect.resource.id"] for event in triggered]


@pytest.fixture
def api(prefect_api: str) -> Iterator[Api]:
    with Api(prefect_api) as api:
        yield api


@pytest.fixture
def photo_ids(runtime: Runtime) -> list[int]:
    return add_photos(runtime.database, ("a", "b", "c", "d", "bad"))


def test_a_photo_set_fans_out_over_chunks_and_prefect_shows_them(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    definition = define("fan_out", {"type": "note", "priority": 95, "chunk_size": 2}, {"type": "count", "priority": 50})

    summary = run_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids[:4]])

    assert summary.task.status == "completed"
    assert summary.message == "3 jobs completed, 0 failed, 0 canceled"
    flow_run_id = str(summary.task.flow_run_id)
    run = api.flow_run(flow_run_id)
    assert (run["state"]["type"], run["state"]["message"]) == ("COMPLETED", summary.message)
    task_runs = api.ended_task_runs(flow_run_id, 3)
    assert sorted(task_runs) == ["count 1/1", "note 1/2", "note 2/2"]
    assert {"priority:95", "lane:priority", "tenant:user_0", f"task:{summary.task.id}"} <= set(
        task_runs["note 1/2"]["tags"]
    )
    assert {"priority:50", "lane:normal"} <= set(task_runs["count 1/1"]["tags"])


# Prefect leaves connections of an event loop that has ended to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_that_another_flow_runs_is_a_subflow_of_it(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    definition = define("inner", {"type": "count", "priority": 50}, scope="global")

    @flow
    def nightly() -> tuple[str, TaskSummary]:
        return str(flow_run.id), run_task(type=definition, tenant_id="user_0")

    @flow
    async def nightly_async() -> tuple[str, TaskSummary]:
        return str(flow_run.id), await arun_task(type=definition, tenant_id="user_0")

    for outer_id, summary in (nightly(), asyncio.run(nightly_async())):
        assert summary.task.status == "completed"
        (stand_in,) = api.task_runs(outer_id).values()
        inner = api.flow_run(summary.task.flow_run_id)
        assert (inner["parent_task_run_id"], inner["state"]["type"]) == (stand_in["id"], "COMPLETED")
    gc.collect()


@pytest.mark.parametrize(
    ("scope", "source"), [("global", "user"), ("global", SCHEDULE_SOURCE), ("project", SCHEDULE_SOURCE)]
)
def test_a_second_run_for_the_same_target_is_skipped_and_says_so(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int], scope: str, source: str
) -> None:
    definition = define("upkeep", {"type": "count", "priority": 50}, scope=scope)
    target = {"tenant_id": "user_0"} | ({"project_id": 1} if scope == "project" else {})
    first = start_task(type=definition, **target)

    state = compile_task(definition)(**target, source=source, return_state=True)

    assert (state.name, state.type.value) == ("Skipped", "COMPLETED")
    assert state.message == (
        f"skipped: Upkeep is running already for tenant user_0, as task {first.task_id}; wait for its end, or cancel it"
    )
    assert [task.id for task in TasksRepository(runtime.database).list_newest()] == [first.task_id]

    drain_queue(runtime=runtime)
    assert compile_task(definition)(**target, source=source, return_state=True).name == "Completed"


def test_a_run_of_a_plan_starts_nothing_and_shows_what_would_be_done(
    api: Api, runtime: Runtime, photo_ids: list[int]
) -> None:
    definition = load_definitions()["maintenance_global"]

    state = compile_task(definition)(tenant_id="user_0", plan=True, return_state=True)

    assert state.type.value == "COMPLETED"
    assert str(state.message).startswith("Plan: ")
    assert TasksRepository(runtime.database).list_newest() == []
    assert len(PhotosRepository(runtime.database).list_by_project(1)) == len(photo_ids)
    (artifact,) = api.artifacts(state.state_details.flow_run_id)
    assert artifact["type"] == "markdown"
    assert "orphaned_project_cleanup" in artifact["data"]


def test_a_saved_plan_is_run_except_the_project_that_has_changed_since(
    api: Api, runtime: Runtime, define: Any, tmp_path: Path
) -> None:
    ids = {}
    for name in ("alps", "dunes"):
        project = ProjectsRepository(runtime.database).create(
            project_name=name, project_folder=name, tenant_id="user_0"
        )
        runtime.library.project("user_0", name).create()
        ids[name] = project.id
    definition = define("write_manifests", {"type": "manifest_check", "priority": 95}, scope="global")
    plan = plan_task(type=definition, tenant_id="user_0", save=tmp_path / "plan")
    run_step(runtime, type="manifest_check", tenant_id="user_0", project_id=ids["dunes"])

    ended = run_saved_plan(tmp_path / "plan")

    assert plan.counts == {"write": 2}
    assert [refusal.name for refusal in ended.refusals] == ["project dunes"]
    assert ended.summary is not None
    assert ended.summary.task.status == "completed"
    assert api.flow_run(str(ended.summary.task.flow_run_id))["state"]["type"] == "COMPLETED"
    assert runtime.library.project("user_0", "alps").manifest_path.is_file()
    again = run_saved_plan(tmp_path / "plan")
    assert again.summary is None, "nothing of the plan is left to do"
    assert {refusal.name for refusal in again.refusals} == {"project alps", "project dunes"}


def test_a_failed_job_is_a_failed_task_run_with_its_error(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    definition = define("one_bad", {"type": "note", "priority": 95, "chunk_size": 2})

    summary = run_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids])

    assert summary.task.status == "failed"
    flow_run_id = str(summary.task.flow_run_id)
    state = api.flow_run(flow_run_id)["state"]
    assert (state["type"], state["message"]) == (
        "FAILED",
        "2 jobs completed, 1 failed, 0 canceled; 1 item failed",
    )
    failed = api.ended_task_runs(flow_run_id, 3)["note 3/3"]["state"]
    assert (failed["type"], failed["message"]) == ("FAILED", "1 photo failed: bad: is bad")


def test_a_task_that_is_canceled_by_plain_sql_ends_its_flow_run_as_cancelled(
    api: Api, runtime: Runtime, stage: Any, define: Any
) -> None:
    definition = define(
        "stop_me", {"type": "wait_at_gate", "priority": 95}, {"type": "count", "priority": 50}, scope="global"
    )
    entered = stage.entered.setdefault("gate", threading.Event())

    def cancel() -> None:
        entered.wait(60)
        with runtime.database.begin() as connection:
            connection.exec_driver_sql("UPDATE jobs SET status = 'canceled' WHERE type = 'wait_at_gate'")

    canceler = threading.Thread(target=cancel)
    canceler.start()
    summary = run_task(type=definition, tenant_id="user_0")
    canceler.join()

    assert summary.task.status == "canceled"
    assert api.state(summary.task.flow_run_id) == "CANCELLED"
    assert [kind for kind, _ in stage.started] == ["wait_at_gate"]


@pytest.mark.parametrize("state", ["CANCELLING", "CANCELLED"])
def test_a_flow_run_in_this_very_process_is_canceled_in_prefect_and_stops(
    state: str, api: Api, runtime: Runtime, stage: Any, define: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation_watch, "WATCH_SECONDS", 0.1)
    definition = define(
        "stops", {"type": "wait_at_gate", "priority": 95}, {"type": "count", "priority": 50}, scope="global"
    )
    entered = stage.entered.setdefault("gate", threading.Event())

    def cancel() -> None:
        assert entered.wait(60)
        [task] = TasksRepository(runtime.database).list_newest(type="stops")
        api.set_state(task.flow_run_id, state, force=True)

    canceling = threading.Thread(target=cancel)
    canceling.start()
    summary = run_task(type=definition, tenant_id="user_0")
    canceling.join()

    assert (summary.task.status, summary.task.error_message) == ("canceled", "its flow run was canceled")
    assert [job.status for job in TasksRepository(runtime.database).list_jobs(summary.task.id)] == ["canceled"]
    assert api.state(summary.task.flow_run_id) == "CANCELLED"


def test_a_flow_run_in_this_very_process_waits_while_it_is_paused_in_prefect(
    api: Api, runtime: Runtime, stage: Any, define: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation_watch, "WATCH_SECONDS", 0.1)
    tasks = TasksRepository(runtime.database)
    entered = stage.entered.setdefault("gate", threading.Event())
    seen: list[tuple[str, str | None]] = []

    def pause_and_resume() -> None:
        assert entered.wait(60)
        [task] = tasks.list_newest(type="pauses")
        api.suspend(task.flow_run_id)
        wait_until(lambda: tasks.list_jobs(task.id)[0].held_by == "task", what="the job stops and is held")
        seen.extend((job.status, api.flow_run(task.flow_run_id)["state"]["name"]) for job in tasks.list_jobs(task.id))
        stage.gates["gate"].set()
        api.resume(task.flow_run_id)

    pausing = threading.Thread(target=pause_and_resume)
    pausing.start()
    definition = define("pauses", {"type": "wait_at_gate", "priority": 95}, scope="global")
    summary = run_task(type=definition, tenant_id="user_0")
    pausing.join()

    assert seen == [("queued", "Paused")]
    assert summary.task.status == "completed"
    assert [kind for kind, _ in stage.started] == ["wait_at_gate", "wait_at_gate"]
    assert api.state(summary.task.flow_run_id) == "COMPLETED"


def test_events_tell_prefect_what_happened_and_what_it_concerns(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    definition = define("eventful", {"type": "note", "priority": 95, "chunk_size": 3})

    summary = run_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids])

    task = f"photojobs.task.{summary.task.id}"
    wait_until(lambda: f"photojobs.task.{summary.task.status}" in api.events(task), what="the last event is there")
    events = api.events(task)
    assert set(events) == {
        "photojobs.task.running",
        "photojobs.job.running",
        "photojobs.items.recorded",
        "photojobs.job.completed",
        "photojobs.job.failed",
        "photojobs.task.failed",
    }
    assert [event["payload"]["message"] for event in events["photojobs.task.failed"]] == [summary.message]
    [failed] = events["photojobs.job.failed"]
    assert failed["payload"]["error"] == "1 of 2 photos failed: bad: is bad"
    related = {one["prefect.resource.role"]: one["prefect.resource.id"] for one in failed["related"]}
    assert related["task"] == task
    assert related["tenant"] == "photojobs.tenant.user_0"
    assert related["flow-run"] == f"prefect.flow-run.{summary.task.flow_run_id}"
    assert {"flow", "task-run"} <= set(related)
    tags = {one["prefect.resource.id"] for one in failed["related"] if one["prefect.resource.role"] == "tag"}
    assert {"prefect.tag.priority:95", "prefect.tag.lane:priority", f"prefect.tag.task:{summary.task.id}"} <= tags
    # A job that takes longer than the interval of item events reports its items in more than one event.
    told: dict[str, Counter[str]] = {}
    for event in events["photojobs.items.recorded"]:
        told.setdefault(event["resource"]["prefect.resource.id"], Counter()).update(event["payload"]["counts"])
    assert sorted(told.values(), key=len) == [{"done": 3}, {"done": 1, "failed": 1}]


def test_an_automation_acts_on_a_failed_task(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    definition = define("watched", {"type": "note", "priority": 95})
    with api.automation(expect="photojobs.task.failed", match={"prefect.resource.name": "Watched"}) as automation:
        run_task(type=definition, tenant_id="user_0", items=[{"photo_id": photo_ids[0]}])
        summary = run_task(type=definition, tenant_id="user_0", items=[{"photo_id": photo_ids[-1]}])

        wait_until(lambda: api.acted(automation), what="the automation acts")

    assert api.acted(automation) == [f"photojobs.task.{summary.task.id}"]


def test_a_long_job_shows_how_far_it_is(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "LONG_JOB_SECONDS", 0.0)
    definition = define("long", {"type": "note", "priority": 95})

    summary = run_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids[:4]])

    shown = api.artifacts(summary.task.flow_run_id)
    assert {(one["type"], one["key"].rstrip("0123456789")) for one in shown} == {
        ("progress", "progress-note-"),
        ("markdown", "note"),
    }
    assert [(one["data"], one["description"]) for one in shown if one["type"] == "progress"] == [
        (100.0, "note: 4 of 4")
    ]


def test_a_flow_run_takes_up_a_task_that_a_worker_has_begun(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    definition = define("shared", {"type": "note", "priority": 95, "chunk_size": 1}, {"type": "count", "priority": 50})
    started = start_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids[:4]])
    jobs = JobsRepository(runtime.database)
    claimed = jobs.claim_next("other")
    assert claimed is not None
    jobs.complete(claimed.id, claim_token=claimed.claim_token)

    with runtime.as_current():
        compile_task(definition)(task_id=started.task_id, return_state=True)

    task = TasksRepository(runtime.database).get(started.task_id)
    assert task.status == "completed"
    assert claimed.id not in [job_id for _, job_id in stage.started]
    assert len(stage.started) == 4


def test_a_worker_and_a_flow_run_share_one_task_and_run_each_job_once(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    definition = define(
        "together", {"type": "note", "priority": 95, "chunk_size": 1}, {"type": "count", "priority": 50}
    )
    started = start_task(type=definition, tenant_id="user_0", items=[{"photo_id": id_} for id_ in photo_ids[:4]])
    worker = threading.Thread(target=drain_queue, kwargs={"runtime": runtime})

    worker.start()
    compile_task(definition)(task_id=started.task_id, return_state=True)
    worker.join()

    assert TasksRepository(runtime.database).get(started.task_id).status == "completed"
    assert sorted(stage.items) == photo_ids[:4]
    assert len(stage.started) == len(set(stage.started)) == 5


def test_the_flow_run_is_the_task_when_prefect_started_it(
    api: Api, runtime: Runtime, stage: Any, define: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = define("from_prefect", {"type": "count", "priority": 95}, scope="global")
    # The database is restarted at the moment of the schedule.
    opened = Mock(side_effect=[DatabaseUnavailable("not now"), *[runtime] * 9])
    monkeypatch.setattr(Runtime, "current", opened)

    compile_task(definition)(return_state=True)

    task = TasksRepository(runtime.database).list_newest(type="from_prefect")[0]
    assert task.id == task.flow_run_id
    assert api.state(task.id) == "COMPLETED"


def test_a_canceled_task_runs_again_if_its_user_retries_the_flow_run_and_not_if_the_dead_run_is_restarted(
    api: Api, runtime: Runtime, stage: Any, define: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = define("restarted", {"type": "count", "priority": 95}, scope="global")
    flow, tasks = compile_task(definition), TasksRepository(runtime.database)
    task_id = start_task(type=definition, tenant_id="user_0").task_id
    parameters = {"task_id": task_id}
    with get_client(sync_client=True) as client:
        run_id = client.create_flow_run(flow, parameters=parameters).id

        def states_of_second_process() -> list[str]:
            run = client.read_flow_run(run_id)
            state: Any = run_flow(flow, flow_run=run, parameters=parameters, return_type="state")
            return [state.type.value, tasks.get(task_id).status]

        def clock_differs(hours: int, *, ended_seconds_ago: int) -> None:
            """Let the clock of the tasks differ from that of Prefect's server, and set when the task ended."""
            monkeypatch.setattr(runtime.database, "clock", lambda: system_clock() + timedelta(hours=hours))
            ended_at = runtime.database.clock() - timedelta(seconds=ended_seconds_ago)
            with runtime.database.begin() as connection:
                connection.execute(update(tables.tasks).values(finished_at=ended_at))

        for state in (Running(), AwaitingRetry()):
            client.set_flow_run_state(run_id, state, force=True)
        tasks.cancel(task_id)
        # The task was canceled a while after the user had pressed Retry.
        clock_differs(-1, ended_seconds_ago=-60)
        assert states_of_second_process() == ["CANCELLED", "canceled"]
        # The search for dead flow runs has not seen yet that the task was canceled.
        client.set_flow_run_state(run_id, AwaitingRetry(message=RESTARTED), force=True)
        assert states_of_second_process() == ["CANCELLED", "canceled"]

        clock_differs(1, ended_seconds_ago=60)
        client.set_flow_run_state(run_id, AwaitingRetry(), force=True)
        assert states_of_second_process() == ["COMPLETED", "completed"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"items": [{"photo_id": 12345}]}, "Photos, one by one: 1 photo id does not exist for this tenant: 12345."),
        ({"items": [{"photo": 1}]}, 'Photos, one by one: "photo" is not a known key'),
        ({}, 'Photos: no photo is chosen; to take all photos, turn on "Every photo"'),
        (
            {"select": {"failed_only": False, "tags": []}},
            'Photos: no photo is chosen; to take all photos, turn on "Every photo"',
        ),
        (
            {"select": {"every_photo": True, "tags": ["best"]}},
            "Photos: Every photo selects all photos; leave it out, or leave out tags",
        ),
        (
            {"select": {"taken_from": "2024-02-01", "taken_to": "2024-01-01"}},
            "Photos: Taken from 2024-02-01 is after Taken to 2024-01-01",
        ),
        ({"select": {"taken_from": "soon"}}, "Photos, Taken from: Input should be a valid date"),
        (
            {"select": {"tags": ["best"]}},
            'Photos, Tags: no project of tenant user_0 has the tag "best". Check its spelling.',
        ),
        ({"select": {"project_ids": ["Peaks (#1)"]}}, 'Photos, Projects: project 1 is called "Alps", not "Peaks"'),
        ({"select": {"failed_only": True}, "project_id": 1}, "Into project: has no effect on a selection of photos"),
        (
            {"select": {"every_photo": True}, "tenant_id": "user_1"},
            'Tenant: "user_1" has neither a project',
        ),
        (
            {"select": {"every_photo": True}, "tenant_id": ""},
            'Tenant: String should have at least 1 character (given: "")',
        ),
    ],
)
def test_wrong_input_ends_as_a_sentence_that_names_the_field_and_nothing_is_written(
    api: Api,
    runtime: Runtime,
    stage: Any,
    define: Any,
    photo_ids: list[int],
    caplog: pytest.LogCaptureFixture,
    given: dict[str, Any],
    sentence: str,
) -> None:
    (runtime.library.root / "user_0").mkdir(parents=True, exist_ok=True)
    state = compile_task(define("needs_photos", {"type": "note", "priority": 95}))(**given, return_state=True)

    assert state.is_failed()
    assert str(state.message).startswith(sentence)
    assert "\n" not in str(state.message)
    assert "Traceback" not in caplog.text
    assert TasksRepository(runtime.database).list_newest() == []


def test_a_run_that_finds_no_photo_says_so(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int]
) -> None:
    definition = define("finds_nothing", {"type": "note", "priority": 95})

    state = compile_task(definition)(select={"failed_only": True}, return_state=True)

    assert (state.type.value, state.name, state.message) == (
        "COMPLETED",
        "Skipped",
        "no photo matches the selection; nothing was done",
    )


def test_the_log_of_a_run_says_what_each_step_did_and_has_no_empty_traceback(
    api: Api, runtime: Runtime, stage: Any, define: Any, photo_ids: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    steps = ({"type": "note", "priority": 95, "on_failure": "continue"}, {"type": "count", "priority": 95})

    compile_task(define("says_what_it_did", *steps))(select={"every_photo": True}, return_state=True)

    assert "note: 1 job: 1 failed; 5 items: 4 done, 1 failed" in caplog.text
    assert "count: 1 job: 1 completed; projects: 1" in caplog.text
    assert "NoneType" not in caplog.text


def test_the_drain_flow_works_off_standalone_jobs_in_rank_order(
    api: Api, runtime: Runtime, stage: Any, define: Any
) -> None:
    LanesRepository(runtime.database).change("priority", slots=1)
    jobs = JobsRepository(runtime.database)
    low = jobs.enqueue(tenant_id="user_0", type="count", scope="global", priority=91)
    high = jobs.enqueue(tenant_id="user_0", type="count", scope="global", priority=99)

    state = catalog.drain_queue(return_state=True)

    assert (state.type.value, state.message) == ("COMPLETED", "2 jobs completed")
    assert [job_id for _, job_id in stage.started] == [high.id, low.id]


def test_the_drain_flow_is_canceled_and_leaves_what_is_not_done_in_the_queue(
    api: Api, runtime: Runtime, stage: Any, define: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation_watch, "WATCH_SECONDS", 0.1)
    LanesRepository(runtime.database).change("priority", slots=1)
    jobs = JobsRepository(runtime.database)
    entered = stage.entered.setdefault("gate", threading.Event())
    stopped = jobs.enqueue(tenant_id="user_0", type="wait_at_gate", scope="global", priority=99)
    waiting = jobs.enqueue(tenant_id="user_0", type="count", scope="global", priority=91)

    def cancel() -> None:
        assert entered.wait(60)
        [run] = api.running("drain_queue")
        api.set_state(run["id"], "CANCELLING", force=True)

    canceling = threading.Thread(target=cancel)
    canceling.start()
    state = catalog.drain_queue(return_state=True)
    canceling.join()

    assert (state.type.value, state.message) == (
        "CANCELLED",
        "no job ended; unfinished jobs stay in the queue",
    )
    assert [job and job.status for job in map(jobs.get_by_id, (stopped.id, waiting.id))] == ["queued", "queued"]
    assert [job_id for _, job_id in stage.started] == [stopped.id]
