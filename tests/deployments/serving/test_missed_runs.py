"""Scheduled runs that were due while no runner was running."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.states import AwaitingRetry, Running, Scheduled

from deployments.deploying.registration import pause_missing
from deployments.deploying.runner_deployments import deployment_of
from deployments.serving import our_flow_runs
from deployments.serving.missed_runs import skip_missed_runs
from storage.settings import Settings
from task_definitions import load_definitions

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


@flow
def foreign() -> None:
    """A flow of another program on the same server."""


def test_of_the_runs_that_were_missed_only_the_latest_of_each_tenant_remains(
    prefect_url: str, prefect_databases: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # More runs than Prefect's server returns in one page.
    monkeypatch.setattr(our_flow_runs, "PAGE_SIZE", 2)
    deployment_id = deployment_of(load_definitions()["regenerate_metadata"], Settings.load(schedules={})).apply()
    assert isinstance(deployment_id, UUID)
    now = datetime.now(UTC)
    with get_client(sync_client=True) as client:

        def missed(of: UUID, hours: int, **parameters: object) -> UUID:
            due = Scheduled(scheduled_time=now - timedelta(hours=hours))
            return client.create_flow_run_from_deployment(of, parameters=parameters, state=due).id

        runs = {
            (tenant, hours): missed(deployment_id, hours, tenant_id=tenant)
            for tenant in ("anna", "ben")
            for hours in (2, 3, 1)
        }
        # A user has added a schedule for one project.
        of_project = missed(deployment_id, 4, tenant_id="anna", project_id=7)
        foreign_id = client.create_deployment(client.create_flow(foreign), "foreign")
        of_others = [missed(foreign_id, hours) for hours in (1, 2)]
        # This run has begun already, and its process died: its task is unfinished.
        begun = runs.pop(("ben", 3))
        for state in (Running(), AwaitingRetry()):
            client.set_flow_run_state(begun, state, force=True)
        # Prefect's scheduler plans only future runs, and its API cannot create runs that look like planned ones.
        marked = 0
        for file in prefect_databases:
            with closing(sqlite3.connect(file, timeout=30)) as database, database:
                made_here = (str(deployment_id), str(foreign_id))
                update = database.execute(
                    "UPDATE flow_run SET auto_scheduled = 1 WHERE deployment_id IN (?, ?)", made_here
                )
                marked += update.rowcount
        assert marked == len(runs) + 4

        # On a slow machine, runs of other tests' deployments on this server have been missed, too.
        assert skip_missed_runs() >= 3
        skipped_once = {key: client.read_flow_run(run_id).state_name for key, run_id in runs.items()}
        skip_missed_runs()
        skipped_twice = {key: client.read_flow_run(run_id).state_name for key, run_id in runs.items()}
        assert client.read_flow_run(begun).state_name == "AwaitingRetry"
        others = {client.read_flow_run(run_id).state_name for run_id in (of_project, *of_others)}
        # The definition is removed before its missed runs have started.
        pause_missing(client, client.read_deployment(deployment_id))
        left = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            )
        )
        for each in (deployment_id, foreign_id):
            client.delete_deployment(each)
    assert [run.id for run in left] == [begun]
    assert others <= {"Scheduled", "Late"}
    for states in (skipped_once, skipped_twice):
        # After some seconds, Prefect's server sets a run that did not start to `Late`.
        assert {key for key, name in states.items() if name in {"Scheduled", "Late"}} == {("anna", 1), ("ben", 1)}
        assert {name for (_, hours), name in states.items() if hours > 1} == {"Skipped"}
