"""Many processes claim at once, some of them are killed: no job is lost, none is done twice, no slot is exceeded.

The suite runs a small form. The long one, 8 processes and 20,000 jobs on each database, takes some minutes:
`pytest -m full tests/storage/queue/test_claim_storm.py --timeout 0`.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import text

from storage import Database, JobsRepository, LanesRepository
from storage.queue.rescue import rescue_stale

#: A worker of the storm does a job in milliseconds. One that is slower on a busy machine loses its claim, which must do
#: no harm either.
STALE_SECONDS = 1.0

WORKER = Path(__file__).with_name("claim_storm_worker.py")


@pytest.mark.parametrize(
    ("processes", "count", "killed", "slots"),
    [
        pytest.param(4, 500, 2, 3, id="small", marks=pytest.mark.slow),
        pytest.param(8, 20_000, 4, 5, id="full", marks=pytest.mark.full),
    ],
)
def test_each_job_is_done_once_in_order_and_within_the_slots_though_workers_are_killed(
    database_url: str, tmp_path: Path, processes: int, count: int, killed: int, slots: int
) -> None:
    database = Database(database_url)
    generator = random.Random(7)
    priorities = [generator.randrange(90) for _ in range(count)]
    JobsRepository(database).enqueue_many(
        {"tenant_id": f"tenant-{number % 5}", "type": "x", "priority": priority}
        for number, priority in enumerate(priorities)
    )
    LanesRepository(database).change("normal", slots=slots)
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE storm (job_id BIGINT, worker TEXT, priority INTEGER, running INTEGER)"))
    claims: dict[str, list[tuple[int, int]]] = {}
    rescued: list[int] = []
    with _workers(database_url, tmp_path, [f"first-{number}" for number in range(processes)]) as workers:
        for number in range(killed):
            # The worker is killed after a part of its work.
            _wait_for_done(database, count * (number + 1) // (4 * killed))
            workers[f"first-{number}"].kill()
        # The other workers continue. The rescue frees the slots and jobs of the dead workers.
        while any(worker.poll() is None for worker in workers.values()):
            rescued += rescue_stale(database, stale_seconds=STALE_SECONDS, max_attempts=count).requeued
            time.sleep(0.05)
    claims |= _claims(tmp_path, workers)
    rescued += rescue_stale(database, stale_seconds=-1, max_attempts=count).requeued
    with _workers(database_url, tmp_path, ["last"]) as workers:
        assert workers["last"].wait() == 0
    claims |= _claims(tmp_path, workers)

    with database.connect() as connection:
        statuses = connection.execute(text("SELECT status, count(*) FROM jobs GROUP BY status")).all()
        done = connection.execute(text("SELECT job_id, priority FROM storm")).all()
        highest = connection.execute(text("SELECT max(running) FROM storm")).scalar_one()
    database.close()
    assert [tuple(row) for row in statuses] == [("completed", count)]
    assert len(done) == len({row.job_id for row in done}) == count
    assert sorted(row.priority for row in done) == sorted(priorities)
    assert highest <= slots
    for name, claimed in claims.items():
        if name != "last":
            # Rescued jobs return to the queue before jobs that others have claimed since.
            risen = sum(later > earlier for (_, earlier), (_, later) in pairwise(claimed))
            assert risen <= len(rescued), f"{name} claimed a better job after a worse one"
    # A dying worker may not have printed its claim. A job that was not rescued is claimed only once.
    assert count <= sum(map(len, claims.values())) + killed
    assert sum(map(len, claims.values())) <= count + len(rescued)


@contextmanager
def _workers(url: str, folder: Path, names: list[str]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in names:
            with (folder / f"{name}.claims").open("wb") as output:
                started[name] = subprocess.Popen([sys.executable, str(WORKER), url, name], stdout=output)
        yield started
    finally:
        for worker in started.values():
            worker.kill()
            worker.wait()


def _claims(folder: Path, names: dict[str, subprocess.Popen[bytes]]) -> dict[str, list[tuple[int, int]]]:
    claims = {}
    for name in names:
        lines = (folder / f"{name}.claims").read_text().splitlines()
        claims[name] = [(int(job_id), int(priority)) for job_id, priority in (line.split() for line in lines)]
    return claims


def _wait_for_done(database: Database, count: int) -> None:
    while True:
        with database.connect() as connection:
            if connection.execute(text("SELECT count(*) FROM storm")).scalar_one() >= count:
                return
        time.sleep(0.01)
