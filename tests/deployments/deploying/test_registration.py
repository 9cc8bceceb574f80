"""Every kind of registration keeps the deployments and schedules paused that a user paused on Prefect's server."""

from __future__ import annotations

import asyncio
import zoneinfo
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast
from unittest.mock import AsyncMock, Mock
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.runner import Runner
from prefect.states import Scheduled

from deployments.cli.commands.definitions import deploy
from deployments.deploying import runner_deployments
from deployments.deploying.forms import Choices
from deployments.deploying.registration import begin_registration, finish_registration
from deployments.deploying.runner_deployments import deployment_of, schedule_slug, update_form
from deployments.serving import runner
from deployments.serving.runner import Serving
from storage.settings import Settings
from task_definitions import TaskDefinition, load_definitions
from tests.waiting import wait_until

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]

PATH = "switched/Switched"
DECLARED = """
switched:
  label: Switched
  scope: global
  schedule: 30 2 * * *
  steps: [{type: manifest_check, priority: 95}]
"""
RESERVED = "drain_queue: {label: Drain, scope: project, steps: [{type: trash_maintenance, priority: 89}]}\n"
OTHER = "other: {label: Other, scope: project, steps: [{type: trash_maintenance, priority: 89}]}\n"

Again = Callable[[str], None]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "own.yaml"
    file.write_text(DECLARED)
    monkeypatch.setenv("PHOTOJOBS_DEFINITIONS", str(file))
    return file


@pytest.fixture(params=[pytest.param("serving", marks=pytest.mark.slow), "reloading", "deploy"])
def again(
    request: pytest.FixtureRequest, client: SyncPrefectClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Again]:
    """A function that writes the definition file and registers it: at a start, a reload, or by `photojobs deploy`."""
    for module in (runner, deploy):
        monkeypatch.setattr(module, "load_definitions", partial(load_definitions, builtin=False))
    running: list[Serving] = []
    pool = f"pool-{uuid4().hex[:8]}"
    command = request.getfixturevalue("command") if request.param == "deploy" else None

    def register(text: str) -> None:
        file.write_text(text)
        if command is not None:
            ran = command("deploy", "--pool", pool, "--create-pool", "process")
            assert ran.code == 0, ran.err
            return
        if not running or request.param == "serving":
            running[:] = [Serving(Runner(name="test"), Settings.load(definitions=file))]
        asyncio.run(running[0].update())

    yield register
    for path in (PATH, "other/Other"):
        found = registered(client, path, missing_ok=True)
        if found is not None:
            client.delete_deployment(found.id)


def registered(client: SyncPrefectClient, path: str = PATH, *, missing_ok: bool = False) -> DeploymentResponse:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(path)
    except ObjectNotFound:
        if missing_ok:
            return cast("DeploymentResponse", None)
        raise


def planned(client: SyncPrefectClient, deployment_id: UUID) -> set[datetime]:
    of_deployment = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
    runs = client.read_flow_runs(flow_run_filter=of_deployment, limit=200)
    return {run.expected_start_time for run in runs if run.auto_scheduled and run.expected_start_time is not None}


def test_a_deployment_that_a_user_paused_stays_paused(client: SyncPrefectClient, again: Again) -> None:
    again(DECLARED)
    client.pause_deployment(registered(client).id)

    again(DECLARED.replace("priority: 95", "priority: 96"))

    assert "96" in (registered(client).description or "")
    assert registered(client).paused
    assert planned(client, registered(client).id) == set()


def test_a_schedule_that_a_user_switched_off_stays_off_and_follows_its_definition(
    client: SyncPrefectClient, again: Again
) -> None:
    again(DECLARED)
    found = registered(client)
    client.update_deployment_schedule(found.id, found.schedules[0].id, active=False)

    again(DECLARED.replace("30 2", "45 5"))

    (schedule,) = registered(client).schedules
    assert (cast("CronSchedule", schedule.schedule).cron, schedule.active) == ("45 5 * * *", False)
    # Prefect empties the parameters when the schedule is switched.
    assert schedule.parameters == {"tenant_id": "user_0", "source": "schedule"}


def test_a_schedule_that_is_switched_off_and_on_while_it_is_served_keeps_its_tenant(
    client: SyncPrefectClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "load_definitions", partial(load_definitions, builtin=False))
    served = Serving(Runner(name="test"), Settings.load(definitions=file, scheduled_tenants=("anna", "ben")))
    asyncio.run(served.update())
    found = registered(client)
    for schedule in found.schedules:
        client.update_deployment_schedule(found.id, schedule.id, active=False)
        client.update_deployment_schedule(found.id, schedule.id, active=True)

    asyncio.run(served.watch_deployments())

    assert {each.parameters["tenant_id"] for each in registered(client).schedules} == {"anna", "ben"}

    def planned_parameters() -> set[tuple[str | None, str | None]]:
        asyncio.run(served.watch_deployments())
        of_deployment = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[found.id]))
        runs = client.read_flow_runs(flow_run_filter=of_deployment, limit=200)
        return {(run.parameters.get("tenant_id"), run.parameters.get("source")) for run in runs}

    # The server's scheduler may have read the schedules without parameters, and writes their runs only now.
    wait_until(
        lambda: planned_parameters() == {("anna", "schedule"), ("ben", "schedule")},
        what="all planned runs have their parameters",
    )
    client.delete_deployment(found.id)


def run_ids(client: SyncPrefectClient, deployment_id: UUID) -> set[UUID]:
    of_deployment = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
    return {run.id for run in client.read_flow_runs(flow_run_filter=of_deployment, limit=200)}


def switched(client: SyncPrefectClient, deployment_id: UUID, schedule: DeploymentSchedule) -> None:
    for active in (False, True):
        client.update_deployment_schedule(deployment_id, schedule.id, active=active)


def moved(client: SyncPrefectClient, deployment_id: UUID, schedule: DeploymentSchedule) -> None:
    later = CronSchedule(cron="45 5 * * *")
    client.update_deployment_schedule(
        deployment_id, schedule.id, active=True, schedule=later, parameters=schedule.parameters
    )


@pytest.mark.parametrize(
    ("change", "are_planned"),
    [
        (switched, True),
        (moved, True),
        (lambda client, found, schedule: client.update_deployment_schedule(found, schedule.id, active=False), False),
        (lambda client, found, schedule: client.delete_deployment_schedule(found, schedule.id), False),
        (lambda client, found, _schedule: client.pause_deployment(found), False),
    ],
    ids=["without parameters", "moved", "switched off", "deleted", "paused"],
)
def test_a_run_that_the_scheduler_writes_for_a_schedule_that_was_changed_is_removed(
    client: SyncPrefectClient,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[SyncPrefectClient, UUID, DeploymentSchedule], object],
    are_planned: bool,
) -> None:
    monkeypatch.setattr(runner, "load_definitions", partial(load_definitions, builtin=False))
    served = Serving(Runner(name="test"), Settings.load(definitions=file, scheduled_tenants=("anna",)))
    asyncio.run(served.update())
    found = registered(client)
    (schedule,) = found.schedules
    before = run_ids(client, found.id)
    asyncio.run(served.watch_deployments())
    assert run_ids(client, found.id) == before
    by_hand = client.create_flow_run_from_deployment(found.id, idempotency_key="by hand")
    change(client, found.id, schedule)
    asyncio.run(served.watch_deployments())
    tomorrow = datetime.now(UTC).replace(hour=2, minute=30, second=0, microsecond=0) + timedelta(days=1)
    late = client.create_flow_run_from_deployment(
        found.id,
        idempotency_key=f"scheduled {found.id} {schedule.id} {datetime.now(UTC)}",
        parameters={} if change is switched else schedule.parameters,
        state=Scheduled(scheduled_time=tomorrow),
    )

    asyncio.run(served.watch_deployments())

    kept = run_ids(client, found.id)
    client.delete_deployment(found.id)
    assert late.id not in kept
    assert by_hand.id in kept
    assert (len(kept) > 1) is are_planned


def test_every_tenant_has_a_schedule_of_its_own_and_one_with_a_former_slug_keeps_its_switch(
    client: SyncPrefectClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "load_definitions", partial(load_definitions, builtin=False))
    tenants = ("a.b", "a-b", "a_b", "A_B")
    monkeypatch.setattr(runner_deployments, "schedule_slug", lambda _tenant: "a-b")
    asyncio.run(Serving(Runner(name="test"), Settings.load(definitions=file, scheduled_tenants=tenants[:1])).update())
    (former,) = registered(client).schedules
    client.update_deployment_schedule(registered(client).id, former.id, active=False, parameters=former.parameters)
    monkeypatch.setattr(runner_deployments, "schedule_slug", schedule_slug)

    asyncio.run(Serving(Runner(name="test"), Settings.load(definitions=file, scheduled_tenants=tenants)).update())

    found = registered(client).schedules
    assert {each.parameters["tenant_id"]: each.active for each in found} == {
        "a.b": False,
        "a-b": True,
        "a_b": True,
        "A_B": True,
    }
    assert {each.id for each in found if not each.active} == {former.id}
    assert {each.parameters["tenant_id"]: each.slug for each in found}["a_b"] == "a-b"
    assert len({each.slug for each in found}) == 4


def test_a_definition_that_was_removed_while_nothing_was_served_is_paused_by_the_next_start(
    client: SyncPrefectClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "load_definitions", partial(load_definitions, builtin=False))
    file.write_text(DECLARED + OTHER)
    asyncio.run(Serving(Runner(name="test"), Settings.load(definitions=file)).update())
    pooled = deployment_of(load_definitions()["maintenance"], Settings.load(), work_pool="elsewhere")
    client.create_work_pool(WorkPoolCreate(name="elsewhere", type="process"))
    pooled.apply()

    file.write_text(DECLARED)

    async def start() -> None:
        served = Serving(Runner(name="test"), Settings.load(definitions=file))
        await served.update()
        await served.serve_drain()
        await served.pause_removed()

    asyncio.run(start())
    paths = (PATH, "other/Other", "drain_queue/Drain Queue", pooled.full_name)
    is_paused = {path: registered(client, path).paused for path in paths}
    client.delete_work_pool("elsewhere")
    assert is_paused == {path: path == "other/Other" for path in paths}

    file.write_text(DECLARED + OTHER)
    asyncio.run(start())
    assert not registered(client, "other/Other").paused


def test_a_definition_that_changed_while_the_server_was_away_is_served_later(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[str] = []
    # A proxy may answer with a page in place of JSON.
    faults = [httpx.ConnectError("the server is restarted"), ValueError("no JSON")]

    async def update(_: Serving) -> None:
        attempts.append("update")
        if len(attempts) <= len(faults):
            raise faults[len(attempts) - 1]

    monkeypatch.setattr(Serving, "update", update)
    monkeypatch.setattr(Serving, "_watched", Mock(side_effect=faults))
    monkeypatch.setattr(Serving, "update_choices", AsyncMock())
    served = Serving(Runner(name="test"), Settings.load(definitions=file))
    file.write_text(DECLARED + OTHER)

    for _ in faults:
        asyncio.run(served.watch_deployments())
        asyncio.run(served.follow_files())
    for _ in range(2):
        asyncio.run(served.follow_files())

    assert len(attempts) == 3


def test_a_deployment_that_a_user_deleted_keeps_no_other_form_from_new_choices(
    client: SyncPrefectClient, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "load_definitions", partial(load_definitions, builtin=False))
    file.write_text(DECLARED + OTHER)
    served = Serving(Runner(name="test"), Settings.load(definitions=file))
    asyncio.run(served.update())
    client.delete_deployment(registered(client).id)
    monkeypatch.setattr(Choices, "of_settings", lambda _settings: Choices(tenants=("anna",)))

    asyncio.run(served.update_choices())

    form = registered(client, "other/Other").parameter_openapi_schema
    assert form is not None
    assert "anna" in str(form["properties"]["tenant_id"])
    assert caplog.messages == []


def test_a_definition_that_prefect_refuses_keeps_no_other_from_being_served(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "load_definitions", partial(load_definitions, builtin=False))
    # A disk that ignores case has this time zone, and Prefect does not know it.
    monkeypatch.setattr(zoneinfo, "ZoneInfo", lambda name: UTC)
    file.write_text(DECLARED.replace("30 2 * * *", "{cron: 30 2 * * *, timezone: europe/berlin}") + OTHER + RESERVED)
    served = AsyncMock(return_value=True)
    monkeypatch.setattr(Serving, "_register", served)

    asyncio.run(Serving(Runner(name="test"), Settings.load(definitions=file)).update())

    assert [call.args[0].full_name for call in served.await_args_list] == ["other/Other"]
    assert any("switched: " in text and "europe/berlin" in text for text in caplog.messages)
    assert any("drain_queue: is a name" in text for text in caplog.messages)


@pytest.mark.parametrize("joins", ["before it is served", "while it is served"])
def test_a_deployment_of_a_work_pool_is_left_to_its_workers(
    client: SyncPrefectClient, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joins: str
) -> None:
    monkeypatch.setattr(runner, "load_definitions", partial(load_definitions, builtin=False))
    # A flow run that the runner started would use this database.
    monkeypatch.setenv("PHOTOJOBS_DATABASE_URL", f"sqlite:///{tmp_path}/photojobs.db")
    definition = load_definitions(file, builtin=False)["switched"]
    pool = f"pool-{uuid4().hex[:8]}"
    client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    polling = Runner(name="test", pause_on_shutdown=False)
    served = Serving(polling, Settings.load(definitions=file))
    if joins == "while it is served":
        asyncio.run(served.update())
    deployment_of(definition, Settings.load(), work_pool=pool).apply()
    before = registered(client)
    run = client.create_flow_run_from_deployment(before.id)

    async def look() -> None:
        await served.update()
        await served.watch_deployments()
        await served.update_choices()
        await polling.start(run_once=True)

    # In a second thread, because a runner in the main thread would replace the signal handlers.
    with ThreadPoolExecutor() as threads:
        threads.submit(copy_context().run, asyncio.run, look()).result()

    state, after = client.read_flow_run(run.id).state_name, registered(client)
    client.delete_work_pool(pool)
    assert state == "Scheduled"
    assert (after.updated, after.work_pool_name) == (before.updated, pool)


@pytest.mark.parametrize("active", [True, False])
def test_a_schedule_that_a_user_added_stays_beside_those_that_come_and_go(
    client: SyncPrefectClient, again: Again, active: bool
) -> None:
    again(DECLARED)
    found = registered(client)
    client.update_deployment_schedule(found.id, found.schedules[0].id, active=False)
    by_hand = DeploymentScheduleCreate(
        schedule=IntervalSchedule(interval=timedelta(hours=5)), active=active, parameters={"tenant_id": "anna"}
    )
    (added,) = client.create_deployment_schedules(found.id, [by_hand])

    again(DECLARED.replace("priority: 95", "priority: 96"))
    assert {(each.id, each.active) for each in registered(client).schedules} == {
        (found.schedules[0].id, False),
        (added.id, active),
    }

    again(DECLARED.replace("  schedule: 30 2 * * *\n", ""))
    (schedule,) = registered(client).schedules
    assert (schedule.id, schedule.active, schedule.schedule) == (added.id, active, added.schedule)

    again(DECLARED)
    assert len(registered(client).schedules) == 2


@pytest.mark.parametrize("again", ["reloading", "deploy"], indirect=True)
def test_a_definition_that_was_missing_runs_again_unless_a_user_had_paused_it(
    client: SyncPrefectClient, again: Again
) -> None:
    again(DECLARED)
    again(OTHER)
    missing = registered(client)
    assert missing.paused
    assert "definition-missing" in missing.tags

    again(DECLARED)
    assert not registered(client).paused
    assert "definition-missing" not in registered(client).tags
    assert planned(client, missing.id)

    client.pause_deployment(missing.id)
    again(OTHER)
    again(DECLARED)
    assert registered(client).paused


def test_what_is_due_while_a_deployment_is_registered_or_its_form_renewed_is_not_lost(
    client: SyncPrefectClient, prefect_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = {"label": "Often", "scope": "global", "schedule": {"interval_seconds": 1}}
    definition = load_definitions({"often": often | {"steps": [{"type": "manifest_check"}]}}, builtin=False)["often"]
    ours = _registered(client, definition)
    before = planned(client, ours)
    assert before
    client.pause_deployment(ours)
    client.resume_deployment(ours)

    began_at = datetime.now(UTC)
    update_form(client, deployment_of(definition, Settings.load()))
    ended_at = datetime.now(UTC)

    after = planned(client, ours)
    client.delete_deployment(ours)
    assert min(after) < ended_at + timedelta(seconds=1)
    assert {moment for moment in before if moment > ended_at + timedelta(seconds=1)} & after
    assert began_at < max(after)


def _registered(client: SyncPrefectClient, definition: TaskDefinition) -> UUID:
    deployment = deployment_of(definition, Settings.load())
    registration = begin_registration(client, deployment)
    deployment_id = cast("UUID", deployment.apply())
    finish_registration(client, registration, deployment_id)
    return deployment_id


def test_an_interval_does_not_move_when_it_is_registered_again(client: SyncPrefectClient, again: Again) -> None:
    text = DECLARED.replace("30 2 * * *", "{interval_seconds: 1000000, timezone: Europe/Berlin}")
    again(text)
    before = registered(client)
    runs = planned(client, before.id)
    assert len(runs) >= 3

    again(text.replace("priority: 95", "priority: 96"))

    after = registered(client)
    assert [(each.id, each.schedule) for each in after.schedules] == [
        (each.id, each.schedule) for each in before.schedules
    ]
    assert planned(client, after.id) == runs
