"""A task is started while the database of the Prefect server is locked for some time."""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId

from deployments.deploying.runner_deployments import deployment_of
from flows.api.start import start_task
from flows.process.runtime import Runtime
from flows.starting import prefect_requests
from storage import TasksRepository
from storage.settings import Settings
from task_definitions import load_definitions

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


#: The definition whose task is started; its schedule is off, so that the server plans no flow runs of it.
NAME = "project_scavenge_global"


class OpensAtTheFirstRepetition(logging.Handler):
    """A log handler that ends the locks when `prefect_requests` logs that it repeats a request."""

    def __init__(self, locks: ExitStack) -> None:
        super().__init__()
        self._locks = locks
        self.asked_again = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "again" in record.getMessage():
            self.asked_again.set()
            self._locks.close()


def test_a_start_waits_and_asks_again_and_there_is_one_flow_run(
    prefect_url: str,
    prefect_databases: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefect_requests, "ANSWER_SECONDS", 1.0)
    folder = tmp_path_factory.mktemp("locked-server")
    settings = Settings.load(
        database_url=f"sqlite:///{folder}/photojobs.db", library_root=folder, schedules={NAME: "off"}
    )
    deployment_id = deployment_of(load_definitions()[NAME], settings).apply()
    assert isinstance(deployment_id, UUID)
    logger = logging.getLogger("photojobs.requests")
    with Runtime.open(settings) as runtime, runtime.as_current(), ExitStack() as locks:
        for file in prefect_databases:
            database = locks.enter_context(closing(sqlite3.connect(file, timeout=30, check_same_thread=False)))
            database.execute("BEGIN IMMEDIATE")
        opener = OpensAtTheFirstRepetition(locks)
        logger.addHandler(opener)
        monkeypatch.setattr(logger, "level", logging.INFO)
        try:
            started = start_task(type=NAME, tenant_id="user_0")
        finally:
            logger.removeHandler(opener)
        task = TasksRepository(runtime.database).get(started.task_id)
    assert opener.asked_again.is_set()
    assert started.flow_run_id == task.flow_run_id is not None
    with get_client(sync_client=True) as client:
        of_deployment = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
        runs = client.read_flow_runs(flow_run_filter=of_deployment)
        client.delete_deployment(deployment_id)
    assert [str(run.id) for run in runs] == [task.flow_run_id]
