"""`photojobs up` requests flow runs for tasks that no process follows, but at most `max_flow_runs` at a time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Crashed, Pending, Running, Suspended
from sqlalchemy import update

from deployments.deploying.registration import pause_missing
from deployments.deploying.runner_deployments import deployment_of
from deployments.serving import flow_run_recovery
from deployments.serving.flow_run_recovery import FlowRunRecovery, runs_under_way
from flows.orchestration.compiler import compile_task
from flows.process.runtime import Runtime
from flows.starting.new_task import new_task
from storage import Database, TasksRepository
from storage.database import tables
from storage.database.clock import system_clock
from storage.queue.holds import HoldKind, HoldsRepository
from storage.settings import Settings
from task_definitions import TaskDefinition, load_definitions

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


def test_no_more_flow_runs_are_asked_for_than_may_be_under_way(
    prefect_url: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("recovery")
    settings = Settings.load(
        database_url=f"sqlite:///{folder}/photojobs.db", library_root=folder, schedules={}, max_flow_runs=2
    )
    definition = load_definitions()["project_scavenge_global"]
    deployment_id = deployment_of(definition, settings).apply()
    assert isinstance(deployment_id, UUID)
    # Two minutes later, no process has followed the tasks in the meantime.
    later = Database(f"sqlite:///{folder}/photojobs.db", clock=lambda: system_clock() + timedelta(minutes=2))
    with Runtime(later, settings=settings) as runtime, get_client(sync_client=True) as client:
        later.migrate()
        tasks = TasksRepository(Database(folder / "photojobs.db"))
        ids = [tasks.start(new_task(definition, task_id=f"waiting-{number}", tenant_id="t")).id for number in range(4)]
        # Other tests start runs on the same server.
        monkeypatch.setattr(
            flow_run_recovery,
            "runs_under_way",
            lambda client: [run for run in runs_under_way(client) if run.deployment_id == deployment_id],
        )

        recovery = FlowRunRecovery(runtime, doubts=False)

        def asked_for() -> list[UUID]:
            recovery.search()
            return [UUID(run_id) for task_id in ids if (run_id := tasks.get(task_id).flow_run_id) is not None]

        first = asked_for()
        assert len(first) == 2
        # Its process is starting, so no other is requested.
        client.set_flow_run_state(first[0], Pending(), force=True)
        assert asked_for() == first
        assert client.read_flow_run(first[0]).state_name == "Pending"
        tasks.cancel(ids[1])
        client.set_flow_run_state(first[1], Completed(), force=True)
        assert len(asked_for()) == 3
        # It has not begun within a minute, so its process is dead.
        monkeypatch.setattr(flow_run_recovery, "START_SECONDS", -60)
        recovery.search()
        assert client.read_flow_run(first[0]).state_name == "AwaitingRetry"

        def seconds_until_restart(begun: State) -> float:
            """Let the process of the first flow run die in a state, and return the delay of its next start."""
            for state in (begun, Crashed()):
                client.set_flow_run_state(first[0], state, force=True)
            recovery.search()
            restarted = client.read_flow_run(first[0]).state
            assert restarted is not None
            assert restarted.name == "AwaitingRetry"
            assert restarted.state_details.scheduled_time is not None
            return (restarted.state_details.scheduled_time - restarted.timestamp).total_seconds()

        # A process may also die while it imports the handlers.
        delays = [seconds_until_restart(Running() if number % 2 else Pending()) for number in range(5)]
        assert max(delays[:3]) < 1
        assert 20 < delays[3] < 40 < delays[4] < 80
        # While it waits for its restart, it takes no place.
        assert first[0] not in [run.id for run in runs_under_way(client)]
        client.delete_deployment(deployment_id)


def test_a_task_whose_flow_run_cannot_start_again_continues_in_another_run(
    prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.load(
        database_url=f"sqlite:///{tmp_path}/photojobs.db",
        library_root=tmp_path,
        schedules={},
        max_flow_runs=5,
        heartbeat_seconds=0.01,
    )
    definition = load_definitions()["project_scavenge_global"]
    relabeled = definition.model_copy(update={"name": "scavenge_again", "label": "Before"})
    # Two minutes later, no process has followed the tasks in the meantime.
    later = Database(f"sqlite:///{tmp_path}/photojobs.db", clock=lambda: system_clock() + timedelta(minutes=2))
    with Runtime(later, settings=settings) as runtime, get_client(sync_client=True) as client:
        later.migrate()
        tasks = TasksRepository(Database(tmp_path / "photojobs.db"))

        def begun(run: FlowRun, definition: TaskDefinition) -> str:
            """Let the process of a flow run begin, write its task and die, and return the id of the task."""
            client.set_flow_run_state(run.id, Running(), force=True)
            tasks.start(new_task(definition, task_id=str(run.id), tenant_id="t", flow_run_id=str(run.id)))
            tasks.heartbeat([str(run.id)])
            return str(run.id)

        def served(definition: TaskDefinition, work_pool: str | None = None) -> UUID:
            deployment_id = deployment_of(definition, settings, work_pool=work_pool).apply()
            assert isinstance(deployment_id, UUID)
            return deployment_id

        # Another program has damaged this row.
        corrupt = tasks.start(new_task(definition, task_id="corrupt", tenant_id="t")).id
        with later.begin() as connection:
            connection.execute(update(tables.tasks).values(definition_json={}))
        deleted, before = served(definition), served(relabeled)
        without = begun(client.create_flow_run(compile_task(definition)), definition)
        of_deleted = begun(client.create_flow_run_from_deployment(deleted), definition)
        of_relabeled = begun(client.create_flow_run_from_deployment(before), relabeled)
        # `photojobs up` requested the run of this task.
        asked = tasks.start(new_task(definition, task_id=str(uuid4()), tenant_id="t")).id
        dead = client.create_flow_run_from_deployment(
            deleted, parameters={"task_id": asked, "tenant_id": "t"}, idempotency_key=asked
        )
        tasks.link_flow_run(asked, str(dead.id))
        tasks.heartbeat([asked])
        client.set_flow_run_state(dead.id, Running(), force=True)
        unserved = relabeled.model_copy(update={"name": "unserved"})
        for number in range(2):
            tasks.start(new_task(unserved, task_id=f"unserved-{number}", tenant_id="t"))
        client.delete_deployment(deleted)
        deployment_id, now = served(definition), served(relabeled.model_copy(update={"label": "Now"}))
        assert pause_missing(client, client.read_deployment(before))
        # These runs, whose definition is missing, take no place.
        for _ in range(2):
            client.create_flow_run_from_deployment(before)
        ids = {deleted, before, deployment_id, now}
        monkeypatch.setattr(
            flow_run_recovery,
            "runs_under_way",
            lambda client: [run for run in runs_under_way(client) if run.deployment_id in ids],
        )
        slept = begun(client.create_flow_run_from_deployment(deployment_id), definition)
        paused = begun(client.create_flow_run_from_deployment(deployment_id), definition)
        client.set_flow_run_state(UUID(paused), Suspended(), force=True)
        holds = HoldsRepository(later)

        recovery = FlowRunRecovery(runtime)
        recovery.search()
        # The machine slept: the process of a run writes its heartbeat after the first look.
        tasks.heartbeat([slept])
        recovery.search()
        assert holds.get(HoldKind.TASK, paused) is not None
        # A worker is to run the task although its flow run is paused.
        holds.release(HoldKind.TASK, paused)
        for task_id, first, wanted in (
            (without, without, deployment_id),
            (of_deleted, of_deleted, deployment_id),
            (of_relabeled, of_relabeled, now),
            (asked, str(dead.id), deployment_id),
        ):
            flow_run_id = tasks.get(task_id).flow_run_id
            assert flow_run_id not in (None, first)
            assert client.read_flow_run(UUID(flow_run_id)).deployment_id == wanted
            assert client.read_flow_run(UUID(first)).state_name == "Crashed"
        # This is logged once, and not at each search.
        for text in ("unserved/Before", "task corrupt: "):
            assert sum(text in record.getMessage() for record in caplog.records) == 1
        assert tasks.get(corrupt).status == "queued"
        assert client.read_flow_run(UUID(slept)).state_name == "Running"
        # A worker of a pool starts a container, which first needs its image.
        client.create_work_pool(WorkPoolCreate(name="slow", type="process"))
        pooled = served(relabeled.model_copy(update={"name": "pooled"}), work_pool="slow")
        image = begun(client.create_flow_run_from_deployment(pooled), relabeled)
        client.set_flow_run_state(UUID(image), Pending(), force=True)
        monkeypatch.setattr(flow_run_recovery, "START_SECONDS", -60)
        for _ in range(2):
            recovery.search()
        assert holds.get(HoldKind.TASK, paused) is None
        assert client.read_flow_run(UUID(slept)).state_name == "AwaitingRetry"
        assert client.read_flow_run(UUID(image)).state_name == "Pending"
        for each in (deployment_id, before, now, pooled):
            client.delete_deployment(each)
        client.delete_work_pool("slow")
