"""A scheduled run is skipped while an earlier run of the same schedule is unfinished."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry, Pending, Running

from deployments.deploying.runner_deployments import deployment_of
from deployments.errors import ScheduleOverlap
from deployments.serving.start_checks import checked_start
from storage.settings import Settings
from task_definitions import load_definitions

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


@pytest.fixture
def deployment_id(client: SyncPrefectClient) -> UUID:
    made = deployment_of(load_definitions()["regenerate_metadata"], Settings.load(schedules={})).apply()
    assert isinstance(made, UUID)
    return made


def test_a_scheduled_run_starts_only_after_its_predecessor_of_the_same_tenant(
    client: SyncPrefectClient, deployment_id: UUID, prefect_databases: list[Path]
) -> None:
    due_at = datetime.now(UTC)

    def run(state: State, *, seconds: int, tenant: str = "anna", **parameters: object) -> UUID:
        made = client.create_flow_run_from_deployment(deployment_id, parameters={"tenant_id": tenant, **parameters})
        client.set_flow_run_state(made.id, state, force=True)
        moments[made.id] = due_at + timedelta(seconds=seconds)
        return made.id

    moments: dict[UUID, datetime] = {}
    second = run(Pending(), seconds=2)
    first = run(Pending(), seconds=0)
    of_another = run(Pending(), seconds=2, tenant="ben")
    of_project = run(Pending(), seconds=2, project_id=7)
    planned(prefect_databases, moments)
    assert [starts(run_id) for run_id in (first, second, of_another, of_project)] == [True, False, True, True]
    skipped = client.read_flow_run(second)
    assert (skipped.state_name, skipped.state.message if skipped.state else "") == (
        "Skipped",
        f"An earlier run of this schedule is not finished: {client.read_flow_run(first).name}.",
    )

    client.set_flow_run_state(first, Running(), force=True)
    late = run(Pending(), seconds=-60)
    pressed = client.create_flow_run_from_deployment(deployment_id, parameters={"tenant_id": "anna"}).id
    again = run(Running(), seconds=4)
    client.set_flow_run_state(again, AwaitingRetry(), force=True)
    planned(prefect_databases, moments)
    assert [starts(run_id) for run_id in (late, pressed, again)] == [False, True, True]


def planned(databases: list[Path], moments: dict[UUID, datetime]) -> None:
    """Change runs in Prefect's database to runs that its scheduler planned for these moments; the API cannot do so."""
    marked = 0
    for file in databases:
        with closing(sqlite3.connect(file, timeout=30)) as database, database:
            for run_id, moment in moments.items():
                marked += database.execute(
                    "UPDATE flow_run SET auto_scheduled = 1, expected_start_time = ? WHERE id = ?",
                    (moment.strftime("%Y-%m-%d %H:%M:%S.%f"), str(run_id)),
                ).rowcount
    assert marked == len(moments)


def starts(run_id: UUID) -> bool:
    """Return True if the runner would start a process for this run."""
    started: list[str] = []

    async def start(_command: list[str], **_options: Any) -> None:
        started.append("started")

    async def ask() -> None:
        await checked_start(start)(["python"], env={"PREFECT__FLOW_RUN_ID": str(run_id)})

    try:
        asyncio.run(ask())
    except ScheduleOverlap:
        assert not started
    return bool(started)


def test_a_skipped_run_leaves_no_traceback_in_the_log_of_the_runner() -> None:
    checked_start(asyncio.sleep)
    logger = logging.getLogger("prefect.runner.flow_run_executor")

    def is_logged(error: BaseException) -> bool:
        record = logger.makeRecord(logger.name, logging.ERROR, "", 0, "", (), (type(error), error, None))
        return bool(logger.filter(record))

    overlap = ScheduleOverlap("an earlier run is not finished")
    assert not is_logged(overlap)
    assert not is_logged(BaseExceptionGroup("in a task group", [overlap]))
    assert is_logged(OSError("no memory"))
    assert is_logged(BaseExceptionGroup("in a task group", [OSError("no memory")]))
