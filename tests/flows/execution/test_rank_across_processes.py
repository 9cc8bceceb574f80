"""Flow runs in two processes get a shared slot in the order of rank."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from flows.starting.new_task import new_task
from storage import Database, LanesRepository, TasksRepository
from storage.database.tables import jobs
from tests.flows.conftest import add_photos, items_of
from tests.flows.execution.executor_process import Executor, definition
from tests.waiting import wait_until

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("prefect"), pytest.mark.slow]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(database_url: str, library: Path) -> dict[str, str]:
    return {
        "PHOTOJOBS_DATABASE_URL": database_url,
        "PHOTOJOBS_LIBRARY_ROOT": str(library),
        "PHOTOJOBS_HEARTBEAT_SECONDS": "1",
        "PHOTOJOBS_STALE_SECONDS": "30",
        "PHOTOJOBS_POLL_SECONDS": "0.1",
        "PHOTOJOBS_CONCURRENCY": "3",
    }


def start(rows: Database, name: str, photo_ids: list[int]) -> str:
    new = new_task(definition(name), task_id=name, tenant_id="t", items=items_of(*photo_ids))
    return TasksRepository(rows).start(new).id


def waited_for(rows: Database, priority: int) -> int:
    waiting = (jobs.c.priority == priority, jobs.c.status == "queued", jobs.c.heartbeat_at.is_not(None))
    with rows.connect() as connection:
        return connection.execute(select(func.count()).select_from(jobs).where(*waiting)).scalar_one()


def forget_heartbeats(rows: Database) -> None:
    """Set the heartbeats of waiting processes an hour back; processes that are alive write new ones."""
    with rows.begin() as connection:
        long_ago = rows.clock() - timedelta(hours=1)
        connection.execute(jobs.update().where(jobs.c.status == "queued").values(heartbeat_at=long_ago))


def test_a_free_slot_goes_to_the_best_waiting_job_of_all_flow_runs(
    environment: dict[str, str], rows: Database, library: Path, prefect_api: str
) -> None:
    LanesRepository(rows).change("priority", slots=1)
    photo_ids = add_photos(rows, "abc", tenant_id="t")
    low, high = start(rows, "patient", photo_ids), start(rows, "urgent", photo_ids)
    order = library / "order"

    with Executor(f"follow patient {low}", environment) as first:
        wait_until(order.exists, what="the first flow run has the slot")
        wait_until(lambda: waited_for(rows, 90) == 2, what="and waits for the next")
        with Executor(f"follow urgent {high}", environment) as second:
            wait_until(lambda: waited_for(rows, 100) == 3, what="the second waits")
            (library / "gate").touch()
            assert second.wait() == 0, second.output()
            assert first.wait() == 0, first.output()
        processes = {first.process.pid: 90, second.process.pid: 100}

    started = [tuple(map(int, line.split())) for line in order.read_text().splitlines()]
    assert [priority for priority, _ in started] == [90, 100, 100, 100, 90, 90]
    assert all(processes[process_id] == priority for priority, process_id in started)


def test_a_waiter_that_was_killed_holds_nobody_back(
    environment: dict[str, str], rows: Database, library: Path, prefect_api: str
) -> None:
    LanesRepository(rows).change("priority", slots=1)
    photo_ids = add_photos(rows, "ab", tenant_id="t")
    low, high = start(rows, "patient", photo_ids), start(rows, "urgent", photo_ids)

    with Executor(f"follow patient {low}", environment) as first:
        wait_until((library / "order").exists, what="the first flow run has the slot")
        with Executor(f"follow urgent {high}", environment) as second:
            wait_until(lambda: waited_for(rows, 100) == 2, what="the second waits")
            second.send(signal.SIGKILL)
            second.wait()
        forget_heartbeats(rows)
        (library / "gate").touch()
        assert first.wait() == 0, first.output()

    assert TasksRepository(rows).get(low).status == "completed"
    assert not TasksRepository(rows).get(high).is_final
