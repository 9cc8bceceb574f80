"""`photojobs up` requests flow runs for tasks that no process follows, but at most `max_flow_runs` at a time."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Completed, Crashed, Pending, Running

from deployments.deploying.runner_deployments import deployment_of
from deployments.serving import flow_run_recovery
from deployments.serving.flow_run_recovery import recover_flow_runs, runs_under_way
from flows.process.runtime import Runtime
from flows.starting.new_task import new_task
from storage import Database, TasksRepository
from storage.database.clock import system_clock
from storage.settings import Settings
from task_definitions import load_definitions

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

        def asked_for() -> list[UUID]:
            recover_flow_runs(runtime)
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
        monkeypatch.setattr(flow_run_recovery, "START_SECONDS", -1)
        recover_flow_runs(runtime)
        assert client.read_flow_run(first[0]).state_name == "AwaitingRetry"

        def seconds_until_restart() -> float:
            """Let the process of the first flow run begin and die, and return the delay of its next start."""
            for state in (Running(), Crashed()):
                client.set_flow_run_state(first[0], state, force=True)
            recover_flow_runs(runtime)
            restarted = client.read_flow_run(first[0]).state
            assert restarted is not None
            assert restarted.name == "AwaitingRetry"
            assert restarted.state_details.scheduled_time is not None
            return (restarted.state_details.scheduled_time - restarted.timestamp).total_seconds()

        delays = [seconds_until_restart() for _ in range(5)]
        assert max(delays[:3]) < 1
        assert 20 < delays[3] < 40 < delays[4] < 80
        client.delete_deployment(deployment_id)
