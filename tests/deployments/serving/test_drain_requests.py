"""`photojobs up` requests runs of Drain Queue for standalone jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Running, Scheduled, Suspended

from deployments.deploying.runner_deployments import drain_deployment
from deployments.serving import drain_requests, flow_run_recovery
from deployments.serving.drain_requests import DrainRequests
from deployments.serving.flow_run_recovery import MAX_RESTARTS, FlowRunRecovery
from flows.process.runtime import Runtime
from storage import JobsRepository
from storage.settings import Settings

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


def test_standalone_jobs_wait_only_for_a_drain_that_takes_them_and_for_what_users_switched_off(
    prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.load(database_url=f"sqlite:///{tmp_path}/photojobs.db", library_root=tmp_path)
    with Runtime.open(settings) as runtime, get_client(sync_client=True) as client:
        JobsRepository(runtime.database).enqueue(type="noop", tenant_id="t")
        deployment_id = drain_deployment().apply()
        assert isinstance(deployment_id, UUID)
        drains = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
        recovery, requests = FlowRunRecovery(runtime), DrainRequests(runtime.database)
        found: dict[str, tuple[int, list[str]]] = {}

        def search(case: str) -> None:
            """Search twice, and note how many runs were requested, and the log lines about reasons to wait."""
            before = len(client.read_flow_runs(flow_run_filter=drains))
            caplog.clear()
            for _ in range(2):
                recovery.search()
                requests.request_if_needed()
            added = len(client.read_flow_runs(flow_run_filter=drains)) - before
            found[case] = added, [one.getMessage() for one in caplog.records if one.name == "photojobs.drain"]

        def set_state(*states: State) -> None:
            """Set states of the run for all jobs that is due."""
            for run in client.read_flow_runs(flow_run_filter=drains):
                is_open = run.state is not None and not run.state.is_final()
                if not run.parameters and is_open and run.expected_start_time < datetime.now(UTC):
                    for state in states:
                        client.set_flow_run_state(run.id, state, force=True)

        tomorrow = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
        client.create_flow_run_from_deployment(deployment_id, state=tomorrow)
        client.create_flow_run_from_deployment(deployment_id, parameters={"lane": "priority", "tenant_id": None})
        search("none for all jobs is due")
        # Its process dies each time, such as by a broken plug-in: the next run is requested after a while.
        set_state(*[Crashed()] * (MAX_RESTARTS + 1))
        search("it crashed")
        monkeypatch.setattr(flow_run_recovery, "RESTART_DELAYS", (0.0, 0.0))
        search("it crashed a while ago")
        set_state(Running(), Suspended())
        search("a user paused it")
        set_state(Cancelled(name="Skipped"))
        search("it was missed")
        set_state(Running(), Cancelling())
        search("a user is canceling it")
        set_state(Cancelled())
        search("a user canceled it")
        requests = DrainRequests(runtime.database)
        search("up was restarted")
        set_state(Running(), Cancelled())
        monkeypatch.setattr(drain_requests, "CANCELED_SECONDS", 0.0)
        search("it was canceled a while ago")
        set_state(Completed())
        client.update_deployment(deployment_id, DeploymentUpdate(paused=True))
        search("a user paused the deployment")
        client.delete_deployment(deployment_id)
        search("a user deleted the deployment")
    assert {case: added for case, (added, _) in found.items()} == {
        "none for all jobs is due": 1,
        "it crashed": 0,
        "it crashed a while ago": 1,
        "a user paused it": 0,
        "it was missed": 1,
        "a user is canceling it": 0,
        "a user canceled it": 0,
        "up was restarted": 1,
        "it was canceled a while ago": 1,
        "a user paused the deployment": 0,
        "a user deleted the deployment": 0,
    }
    # Each reason to wait is logged once.
    words = {
        "it crashed": "crashed",
        "a user paused it": "is paused",
        "a user canceled it": "was canceled",
        "a user paused the deployment": "deployment Drain Queue is paused",
        "a user deleted the deployment": "deployment Drain Queue is missing",
    }
    for case, (_, lines) in found.items():
        assert [words[case] in line for line in lines] == ([True] if case in words else []), case
