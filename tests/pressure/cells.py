"""Cells: measure the throughput of two workers before, during and after a disturbance, and stop them during it.

The cells are modeled on the chaos and pressure cells of the public harness hardbyte/postgresql-job-queue-benchmarking.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from storage import Database, LanesRepository
from tests.pressure import disturbances
from tests.pressure.disturbances import Stand
from tests.pressure.load import Load
from tests.pressure.programs import Programs
from tests.pressure.server import PostgresServer
from tests.pressure.workers import CONCURRENCY, DRAIN_SECONDS, SETTINGS, WORKERS, Workers
from tests.waiting import wait_until

#: How long each job waits, in seconds. The waits limit the throughput, so that it does not depend on a busy machine.
WORK_SECONDS = 0.25

#: Seconds from the end of a disturbance to the begin of the measurement `after`, in which a killed worker starts again.
SETTLE_SECONDS = 5.0

#: How long the end of a Python process may take on a busy machine, in addition to the setting `drain_seconds`.
_STOP_MORE_SECONDS = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A disturbance, and the part of the throughput that must remain.

    Attributes:
        least: the smallest accepted throughput after the disturbance, as a part of the throughput before it.
        counts_during: whether the throughput during the disturbance must reach `least` too.
        leaves_running: whether jobs may stay `running` after a stop during the disturbance, because their worker was
            killed or the database cannot be reached. A rescue then queues them again.
    """

    name: str
    disturb: Callable[[Stand], AbstractContextManager[None]]
    least: float
    counts_during: bool = False
    leaves_running: bool = False


CELLS = {
    cell.name: cell
    for cell in (
        Cell(name="server-restart", disturb=disturbances.server_restart, least=0.95, leaves_running=True),
        Cell(name="backends-killed", disturb=disturbances.backends_killed, least=0.95, leaves_running=True),
        Cell(name="pool-exhausted", disturb=disturbances.pool_exhausted, least=0.95, leaves_running=True),
        Cell(name="worker-crash", disturb=disturbances.worker_crash, least=0.95, leaves_running=True),
        Cell(name="repeated-kills", disturb=disturbances.repeated_kills, least=0.95, leaves_running=True),
        Cell(name="idle-transaction", disturb=disturbances.idle_transaction, least=0.90, counts_during=True),
        Cell(name="snapshots", disturb=disturbances.overlapping_snapshots, least=0.90, counts_during=True),
        Cell(name="overload", disturb=disturbances.sustained_overload, least=0.90, counts_during=True),
        Cell(name="burst", disturb=disturbances.burst, least=0.90, counts_during=True),
    )
}


@dataclass
class Passage:
    """The result of a cell: jobs per second, and the duration of the stop in seconds."""

    cell: Cell
    before: float = 0.0
    during: float = 0.0
    after: float = 0.0
    stop_seconds: float = 0.0
    left_running: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        line = (
            f"{self.cell.name:<17} before {self.before:6.1f}/s, during {self.during / self.before:4.0%}, "
            f"after {self.after / self.before:4.0%}, stop {self.stop_seconds:4.1f} s, left running {self.left_running}"
        )
        return "\n".join([line, *(f"  NOT as it must be: {problem}" for problem in self.problems)])


def run_cell(cell: Cell, folder: Path, *, seconds: float, settle_seconds: float = SETTLE_SECONDS) -> Passage:
    """Run a cell on a separate server.

    Args:
        cell: the cell.
        folder: an empty folder.
        seconds: the length of each of the three measurements.
        settle_seconds: the time from the end of the disturbance to the begin of the last measurement.
    """
    passage = Passage(cell)
    capacity = WORKERS * CONCURRENCY / WORK_SECONDS
    with PostgresServer(folder / "pg") as server:
        database = Database(server.url)
        database.migrate()
        # Only the workers limit how many jobs run.
        LanesRepository(database).change("normal", slots=0)
        with Programs(folder, server.url, **SETTINGS) as programs:
            workers = Workers(programs)
            with Load(database, work_seconds=WORK_SECONDS, capacity=capacity) as load:
                stand = Stand(server=server, workers=workers, load=load, period_seconds=seconds / 3)
                wait_until(
                    lambda: programs.log("worker").count(" begins") == WORKERS,
                    what="both workers have started",
                    limit_seconds=180,
                )
                wait_until(lambda: load.statuses().get("completed", 0) > capacity, what="the workers are at work")
                passage.before = _throughput(load, database, seconds)
                with cell.disturb(stand):
                    began = database.clock()
                    threading.Event().wait(seconds)
                    ended = database.clock()
                threading.Event().wait(settle_seconds)
                passage.after = _throughput(load, database, seconds)
                passage.during = load.completed_between(began, ended) / (ended - began).total_seconds()
                if dead := workers.dead():
                    passage.problems.append(f"{dead} workers have ended")
                _stop(passage, stand)
                left = load.running()
                passage.left_running = len(left)
                workers.start_another()
                wait_until(lambda: load.are_completed(left), what="what was left running is rescued and completed")
                if failed := load.statuses().get("failed", 0):
                    passage.problems.append(f"{failed} jobs failed")
        database.close()
    _judge(passage)
    return passage


def _throughput(load: Load, database: Database, seconds: float) -> float:
    began = database.clock()
    threading.Event().wait(seconds)
    return load.completed_between(began, began + timedelta(seconds=seconds)) / seconds


def _stop(passage: Passage, stand: Stand) -> None:
    """Stop the workers during the same disturbance."""
    with passage.cell.disturb(stand):
        threading.Event().wait(1.0)
        limit_seconds = DRAIN_SECONDS + _STOP_MORE_SECONDS
        passage.stop_seconds, codes = stand.workers.stop(limit_seconds)
    if any(code != 0 for code in codes):
        passage.problems.append(f"the workers ended with {codes}")


def _judge(passage: Passage) -> None:
    cell = passage.cell
    for name, value in [("after", passage.after)] + ([("during", passage.during)] if cell.counts_during else []):
        if value < cell.least * passage.before:
            passage.problems.append(f"{name} it, {value / passage.before:.0%} of the throughput are left")
    if passage.left_running and not cell.leaves_running:
        passage.problems.append(f"{passage.left_running} jobs were left running")
