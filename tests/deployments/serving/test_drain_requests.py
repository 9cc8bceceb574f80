"""`photojobs up` requests runs of Drain Queue for standalone jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.states import Crashed, Scheduled

from deployments.deploying.runner_deployments import drain_deployment
from deployments.serving import flow_run_recovery
from deployments.serving.drain_requests import request_needed_drain
from deployments.serving.flow_run_recovery import MAX_RESTARTS, recover_flow_runs
from flows.process.runtime import Runtime
from storage import JobsRepository
from storage.settings import Settings

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


def test_standalone_jobs_wait_only_for_a_drain_that_is_due_and_takes_all_jobs(
    prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load(database_url=f"sqlite:///{tmp_path}/photojobs.db", library_root=tmp_path)
    with Runtime.open(settings) as runtime, get_client(sync_client=True) as client:
        JobsRepository(runtime.database).enqueue(type="noop", tenant_id="t")
        deployment_id = drain_deployment().apply()
        assert isinstance(deployment_id, UUID)
        drains = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
        tomorrow = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
        client.create_flow_run_from_deployment(deployment_id, state=tomorrow)
        client.create_flow_run_from_deployment(deployment_id, parameters={"lane": "priority", "tenant_id": None})
        counts = []
        for _ in range(2):
            recover_flow_runs(runtime)
            request_needed_drain(runtime.database)
            counts.append(len(client.read_flow_runs(flow_run_filter=drains)))
        # Its process dies each time, such as by a broken plug-in: the next run is requested after a while.
        for _ in range(2):
            for run in client.read_flow_runs(flow_run_filter=drains):
                if not run.parameters and run.state_name == "Scheduled" and run.expected_start_time < datetime.now(UTC):
                    for _ in range(MAX_RESTARTS + 1):
                        client.set_flow_run_state(run.id, Crashed(), force=True)
            recover_flow_runs(runtime)
            request_needed_drain(runtime.database)
            counts.append(len(client.read_flow_runs(flow_run_filter=drains)))
            monkeypatch.setattr(flow_run_recovery, "RESTART_DELAYS", (0.0, 0.0))
        client.delete_deployment(deployment_id)
    assert counts == [3, 3, 3, 4]
