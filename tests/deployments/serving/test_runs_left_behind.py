"""Flow runs without a process: they died before they had a task, were canceled, or are not due yet."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from unittest.mock import Mock
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed, Pending, Running, Scheduled, Suspended
from sqlalchemy import update

from deployments.deploying.runner_deployments import deployment_of
from deployments.serving import canceled_runs, flow_run_recovery
from deployments.serving.canceled_runs import end_canceled_runs
from deployments.serving.flow_run_recovery import (
    begun_runs,
    report_ended_tasks,
    restart_dead_runs,
    revive_runs_left_behind,
)
from deployments.serving.scheduled_run_names import PLANNED_TAG, name_scheduled_runs
from flows.api.start import start_task
from flows.execution.worker import drain_queue
from flows.orchestration.server_clock import server_lead
from flows.process.runtime import Runtime
from storage.database import tables
from storage.database.clock import system_clock
from storage.queue.tasks import TasksRepository
from storage.settings import Settings
from task_definitions import load_definitions

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


def test_runs_without_a_task_go_on_and_those_with_one_are_left_to_it(
    prefect_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("left-behind")
    settings = Settings.load(database_url=f"sqlite:///{folder}/photojobs.db", library_root=folder, schedules={})
    deployment = deployment_of(load_definitions()["project_scavenge_global"], settings)
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        # Delete a deployment that another test moved to a work pool, because the pool's workers restart its runs.
        client.delete_deployment(client.read_deployment_by_name(deployment.full_name).id)
    deployment_id = deployment.apply()
    assert isinstance(deployment_id, UUID)
    with Runtime.open(settings) as runtime, runtime.as_current(), get_client(sync_client=True) as client:
        task_id = str(uuid4())
        start_task(type="folder_discovery", tenant_id="user_0", task_id=task_id)

        def run(state: State, **parameters: str) -> UUID:
            made = client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
            client.set_flow_run_state(made.id, state, force=True)
            return made.id

        of_deleted = run(Running())
        client.delete_deployment(deployment_id)
        deployment_id = deployment_of(load_definitions()["project_scavenge_global"], settings).apply()
        assert isinstance(deployment_id, UUID)
        pending, running, with_task = run(Pending()), run(Running()), run(Running(), task_id=task_id)
        # A worker has ended the task in the meantime.
        ended_id = start_task(type="folder_discovery", tenant_id="user_0").task_id
        with_ended = run(Pending(), task_id=ended_id)
        TasksRepository(runtime.database).cancel(ended_id)

        assert revive_runs_left_behind(runtime) == 3
        assert revive_runs_left_behind(runtime) == 0
        # No runner starts the run of a deployment that was deleted.
        assert restart_dead_runs(client, runtime.database, begun_runs(client)) == 0

        pages = (pending, with_ended, running, with_task, of_deleted)
        names = [client.read_flow_run(run_id).state_name for run_id in pages]
        client.delete_deployment(deployment_id)
    assert names == ["AwaitingRetry", "AwaitingRetry", "AwaitingRetry", "Running", "Crashed"]


def test_a_run_whose_process_died_before_it_wrote_its_task_is_started_again_three_times(
    prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load(database_url=f"sqlite:///{tmp_path}/photojobs.db", library_root=tmp_path, schedules={})
    deployment_id = deployment_of(load_definitions()["project_scavenge_global"], settings).apply()
    assert isinstance(deployment_id, UUID)
    with Runtime.open(settings) as runtime, runtime.as_current(), get_client(sync_client=True) as client:
        task_id = start_task(type="folder_discovery", tenant_id="user_0").task_id

        def crash(run_id: UUID) -> UUID:
            for state in (Running(), Crashed(message="Process exited with status code: -9.")):
                client.set_flow_run_state(run_id, state, force=True)
            return run_id

        died = crash(client.create_flow_run_from_deployment(deployment_id).id)
        with_task = crash(client.create_flow_run_from_deployment(deployment_id, parameters={"task_id": task_id}).id)
        restarts = [
            restart_dead_runs(client, runtime.database, begun_runs(client)),
            restart_dead_runs(client, runtime.database, begun_runs(client)),
        ]
        names = [client.read_flow_run(run_id).state_name for run_id in (died, with_task)]
        for _ in range(3):
            crash(died)
            restarts.append(restart_dead_runs(client, runtime.database, begun_runs(client)))
        last = client.read_flow_run(died).state_name
        # The runner could not report to Prefect that the process died.
        pending = client.create_flow_run_from_deployment(deployment_id).id
        client.set_flow_run_state(pending, Pending(), force=True)
        # The clock of this machine is ahead of the clock of Prefect's server.
        ahead = Mock(wraps=datetime, now=lambda zone: datetime.now(zone) + timedelta(minutes=2))
        monkeypatch.setattr(flow_run_recovery, "datetime", ahead)
        monkeypatch.setattr(runtime.database, "clock", lambda: system_clock() + timedelta(minutes=2))
        lead = server_lead(client, runtime.database)
        for seconds, wanted in ((60, "Pending"), (-60, "AwaitingRetry")):
            monkeypatch.setattr(flow_run_recovery, "START_SECONDS", seconds)
            restart_dead_runs(client, runtime.database, begun_runs(client), lead=lead)
            assert client.read_flow_run(pending).state_name == wanted
        client.delete_deployment(deployment_id)
    assert names == ["AwaitingRetry", "Crashed"]
    assert restarts == [1, 0, 1, 1, 0]
    assert last == "Crashed"


def test_the_end_of_a_task_is_reported_if_its_flow_run_died_before_it_could(
    prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user_0" / "alps").mkdir(parents=True)
    settings = Settings.load(database_url=f"sqlite:///{tmp_path}/photojobs.db", library_root=tmp_path, schedules={})
    deployment_id = deployment_of(load_definitions()["project_scavenge_global"], settings).apply()
    assert isinstance(deployment_id, UUID)
    with Runtime.open(settings) as runtime, runtime.as_current(), get_client(sync_client=True) as client:
        tasks = TasksRepository(runtime.database)

        def run(status: str, *states: State) -> UUID:
            task_id = start_task(type="folder_discovery", tenant_id="user_0").task_id
            made = client.create_flow_run_from_deployment(deployment_id, parameters={"task_id": task_id})
            client.set_flow_run_state(made.id, Running(), force=True)
            if status == "canceled":
                tasks.cancel(task_id)
            elif status == "completed":
                drain_queue(runtime=runtime)
            for state in states:
                client.set_flow_run_state(made.id, state, force=True)
            assert tasks.get(task_id).status == status
            return made.id

        crashed, silent = run("completed", Crashed()), run("completed")
        canceled = run("canceled", Crashed())
        retried_and_dead = run("canceled", Running(), Crashed())
        retried = run("canceled", Running())
        # A worker ran the task of a suspended run, after its hold was released.
        suspended = run("completed", Suspended())
        held, unfinished = run("queued", Suspended()), run("queued", Crashed())
        pages = [crashed, silent, canceled, suspended, held, retried_and_dead, retried, unfinished]

        def names() -> list[str | None]:
            return [client.read_flow_run(run_id).state_name for run_id in pages]

        report_ended_tasks(client, runtime.database, begun_runs(client))
        early = names()
        # A minute later.
        monkeypatch.setattr(flow_run_recovery, "REPORT_SECONDS", -1)
        report_ended_tasks(client, runtime.database, begun_runs(client))
        late = names()
        message = client.read_flow_run(crashed).state.message
        # The clock that dates tasks is an hour ahead of the clock of Prefect's server.
        monkeypatch.setattr(runtime.database, "clock", lambda: system_clock() + timedelta(hours=1))
        ended_at = runtime.database.clock() - timedelta(minutes=2)
        with runtime.database.begin() as connection:
            is_canceled = tables.tasks.c.status == "canceled"
            connection.execute(update(tables.tasks).where(is_canceled).values(finished_at=ended_at))
        lead = server_lead(client, runtime.database)
        report_ended_tasks(client, runtime.database, begun_runs(client), lead=lead)
        restart_dead_runs(client, runtime.database, begun_runs(client), lead=lead)
        revive_runs_left_behind(runtime)
        restarted = names()
        client.delete_deployment(deployment_id)
    suspended_runs = ["Completed", "Suspended"]
    assert early == ["Completed", "Running", "Cancelled", *suspended_runs, "Crashed", "Running", "Crashed"]
    assert message == "1 job completed, 0 failed, 0 canceled"
    assert late == ["Completed", "Completed", "Cancelled", *suspended_runs, "Crashed", "Running", "Crashed"]
    assert restarted[:-3] == late[:-3]
    assert restarted[-3:] == ["AwaitingRetry", "AwaitingRetry", "Crashed"]


def test_canceled_runs_that_no_process_runs_end_and_planned_ones_have_readable_names(
    prefect_url: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("canceled")
    settings = Settings.load(database_url=f"sqlite:///{folder}/photojobs.db", library_root=folder, schedules={})
    deployment_id = deployment_of(load_definitions()["maintenance"], settings).apply()
    assert isinstance(deployment_id, UUID)
    with Runtime.open(settings) as runtime, runtime.as_current(), get_client(sync_client=True) as client:
        tasks = TasksRepository(runtime.database)
        held, canceled, waiting, again, of_another, retried = (
            start_task(type="folder_discovery", tenant_id="user_0").task_id for _ in range(6)
        )
        tasks.cancel(canceled)

        def run(*states: State, **parameters: object) -> UUID:
            made = client.create_flow_run_from_deployment(
                deployment_id, parameters={"project_id": 7, **parameters}, tags=[PLANNED_TAG]
            )
            for state in states:
                client.set_flow_run_state(made.id, state, force=True)
            return made.id

        starting, at_work = run(Pending(), Cancelling()), run(Running(), Cancelling())
        paused = run(Running(), Suspended(), task_id=held)
        paused_and_canceled = run(Running(), Suspended(), task_id=canceled)
        for task_id in (waiting, again):
            flow_run_id = run(Scheduled(), task_id=task_id)
            tasks.link_flow_run(task_id, str(flow_run_id))
            # Prefect's server ends the run at once, because it has no process.
            client.set_flow_run_state(flow_run_id, Cancelling())
        # The user thinks better of it.
        tasks.cancel(again)
        tasks.retry(again)
        # The form of a tenant names the task of another tenant.
        run(Pending(), Cancelling(), task_id=of_another, tenant_id="anna")
        # The user retries a task while the run that the user canceled still ends.
        run(Running(), Cancelling(), task_id=retried)
        tasks.link_flow_run(retried, str(uuid4()))
        planned, plan = run(Scheduled()), run(Scheduled(), plan=True, project_id="Alps (#7)")

        end_canceled_runs(client, runtime.database)
        report_ended_tasks(client, runtime.database, begun_runs(client))
        name_scheduled_runs()

        # The process of the run does not begin after the user has canceled it.
        client.set_flow_run_state(starting, Running())
        states = [
            client.read_flow_run(run_id).state_name for run_id in (starting, paused, paused_and_canceled, at_work)
        ]
        names = [client.read_flow_run(run_id).name for run_id in (planned, plan)]
        # A minute later.
        monkeypatch.setattr(canceled_runs, "CANCELING_SECONDS", -1)
        end_canceled_runs(client, runtime.database)
        ended = [client.read_flow_run(run_id).state_name for run_id in (starting, at_work)]
        client.delete_deployment(deployment_id)
        statuses = [tasks.get(task_id).status for task_id in (held, waiting, again, of_another, retried)]
    assert states == ["Cancelling", "Suspended", "Cancelled", "Cancelling"]
    assert ended == ["Cancelled", "Cancelled"]
    assert statuses == ["queued", "canceled", "queued", "queued", "queued"]
    assert names == ["maintenance (user_0, project 7)", "plan of maintenance (user_0, Alps (#7))"]
