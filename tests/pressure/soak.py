"""Runs `photojobs up` and two workers on PostgreSQL for an hour, with tasks and faults; checks growth and losses."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from deployments.embedded_server.password import AUTH_FILE
from flows import Runtime, start_task
from flows.orchestration.supervision import running_processes
from storage import Database, PhotosRepository, ProjectsRepository, Settings
from storage.database.tables import job_items, jobs, project_claims, tasks
from storage.errors import StorageError
from tests.prefect_api import PrefectApi
from tests.pressure.process_figures import ProcessFigures, child_running
from tests.pressure.programs import Programs
from tests.pressure.server import PostgresServer
from tests.pressure.steps import TRACE
from tests.waiting import wait_until

#: The number of photos of each task.
PHOTOS = 12

#: One of ten tasks is started by a flow run of its deployment, as by a click on Run; workers run the other tasks.
PRESSED_EVERY = 10

#: Seconds between two faults, and between two measurements of the processes.
FAULT_SECONDS = 40.0
LOOK_SECONDS = 10.0

#: The kinds of faults, each with its relative frequency.
FAULTS = {"flow run killed": 1, "worker killed": 2, "sessions cut": 2, "server restarted": 1}

#: All tasks must end within this many seconds after the start of the last one.
PATIENCE_SECONDS = 300.0

#: For each figure, a factor and an addend. The median of the last fifth of the measurements may be at most the median
#: of the second fifth times the factor, plus the addend.
GROWTH = {"memory_mb": (1.10, 8.0), "threads": (1.0, 8.0), "files": (1.0, 20.0), "connections": (1.0, 6.0)}


@dataclass
class Soak:
    """The result of a soak test.

    Attributes:
        medians: the medians of the second and the last fifth of the measurements, by process and figure.
        problems: the failed checks, each as a text.
    """

    started: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    lines: int = 0
    medians: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{number} {kind}" for kind, number in sorted(self.faults.items()))
        lines = [f"{self.started} tasks; {faults}; {self.attempts} attempts more; {self.lines} photos worked on"]
        lines += [
            f"  {process:<12} {figure:<12} {early:7.1f} -> {late:7.1f}"
            for (process, figure), (early, late) in sorted(self.medians.items())
        ]
        return "\n".join([*lines, *(f"  NOT as it must be: {problem}" for problem in self.problems)])


def soak(folder: Path, *, minutes: float, tasks_per_minute: float, seed: int, say: Callable[[str], None]) -> Soak:
    """Run the soak test that the module describes.

    Args:
        folder: an empty folder.
        minutes: for how many minutes tasks are started.
        tasks_per_minute: how many tasks are started each minute.
        seed: the seed of the faults.
        say: called from time to time with the state as a text.
    """
    with PostgresServer(folder / "pg") as server:
        database = Database(server.url)
        database.migrate()
        project = ProjectsRepository(database).create(project_name="Alps", project_folder="alps", tenant_id="user_0")
        photo_ids = PhotosRepository(database).create_many(
            {"project_id": project.id, "filename": f"photo-{number}"} for number in range(PHOTOS)
        )
        settings = {"concurrency": 2, "heartbeat_seconds": 1, "stale_seconds": 6, "drain_seconds": 20}
        with Programs(folder, server.url, **settings) as programs:
            run = _Run(server, database, programs, photo_ids, random.Random(seed), say)
            run.go_on_for(minutes * 60, 60 / tasks_per_minute)
            run.check()
        database.close()
    return run.found


class _Run:
    def __init__(
        self,
        server: PostgresServer,
        database: Database,
        programs: Programs,
        photo_ids: list[int],
        chance: random.Random,
        say: Callable[[str], None],
    ) -> None:
        self.found = Soak()
        self._server, self._database, self._programs, self._say = server, database, programs, say
        self._items = [{"photo_id": photo_id} for photo_id in photo_ids]
        self._chance = chance
        self._next_fault = next(iter(FAULTS))
        self._task_ids: list[str] = []
        self._looks: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._up = programs.start("up", "--port", "0", "--folder", str(programs.folder / "up"))
        # The first worker is killed from time to time. The other one is measured, because its memory must not grow.
        self._killed, self._kept = programs.start("worker"), programs.start("worker")
        address = wait_until(programs.address_of_up, what="photojobs up is up", limit_seconds=600)
        password = (programs.folder / "up" / "prefect" / AUTH_FILE).read_text().strip()
        self._api = PrefectApi(f"{address}/api", password=password)
        self._deployment = self._api.deployment("pressure/Pressure")

    def go_on_for(self, seconds: float, between_tasks: float) -> None:
        with self._programs.in_this_process(), Runtime(self._database, settings=Settings.load()) as runtime:
            began = time.monotonic()
            rhythms = {self._start: between_tasks, self._disturb: FAULT_SECONDS, self._look: LOOK_SECONDS}
            due = {act: began + pause for act, pause in rhythms.items()}
            with runtime.as_current():
                while time.monotonic() - began < seconds:
                    for act, pause in rhythms.items():
                        if time.monotonic() >= due[act] and act():
                            due[act] += pause
                    threading.Event().wait(0.05)
                wait_until(
                    lambda: len(self._ended()) == len(self._task_ids),
                    what=lambda: f"all of {len(self._task_ids)} tasks end, {len(self._ended())} have",
                    limit_seconds=PATIENCE_SECONDS,
                    pause_seconds=0.5,
                )

    def check(self) -> None:
        found, problems = self.found, self.found.problems
        for process, name in ((self._killed, "a worker"), (self._kept, "the other worker"), (self._up, "up")):
            process.send_signal(signal.SIGTERM)
            try:
                if code := process.wait(60):
                    problems.append(f"{name} ended with code {code}")
            except subprocess.TimeoutExpired:
                problems.append(f"{name} did not end within 60 s")
        self._api.close()
        found.started = len(self._task_ids)
        # Scheduled tasks do not count.
        ours, ids = tasks.c.type == "pressure", select(tasks.c.id).where(tasks.c.type == "pressure")
        with self._database.begin() as connection:
            found.attempts = connection.execute(select(func.sum(jobs.c.attempts))).scalar_one()
            problems += [
                f"task {row.id} is {row.status}: {row.error_message}"
                for row in connection.execute(select(tasks).where(tasks.c.status != "completed", ours))
            ]
            problems += [
                f"job {row.id} is {row.status}: {row.error_message}"
                for row in connection.execute(select(jobs).where(jobs.c.status != "completed", jobs.c.task_id.in_(ids)))
            ]
            done = connection.execute(
                select(jobs.c.task_id, jobs.c.step_index, job_items.c.photo_id)
                .join(job_items, job_items.c.job_id == jobs.c.id)
                .where(job_items.c.status == "done", jobs.c.task_id.in_(ids))
            ).all()
            if held := connection.execute(select(func.count()).select_from(project_claims)).scalar_one():
                problems.append(f"{held} projects are still held")
        photo_ids = [item["photo_id"] for item in self._items]
        wanted = Counter((task, step, photo) for task in self._task_ids for step in (0, 1) for photo in photo_ids)
        if Counter(tuple(row) for row in done) != wanted:
            problems.append(f"{len(done)} items are done, not each of {wanted.total()} once")
        traces = [json.loads(line) for line in (self._programs.library / TRACE).read_text().splitlines()]
        found.lines = len(traces)
        if missing := set(wanted) - {(trace["task"], trace["step"], trace["photo"]) for trace in traces}:
            problems.append(f"{len(missing)} photos were never worked on")
        self._judge()

    def _judge(self) -> None:
        for (process, figure), values in self._looks.items():
            fifth = max(1, len(values) // 5)
            early, late = statistics.median(values[fifth : 2 * fifth] or values), statistics.median(values[-fifth:])
            self.found.medians[process, figure] = early, late
            factor, more = GROWTH[figure]
            if late > early * factor + more:
                self.found.problems.append(f"{figure} of {process} grew from {early:.1f} to {late:.1f}")

    def _start(self) -> bool:
        number = len(self._task_ids)
        if number % PRESSED_EVERY == PRESSED_EVERY - 1:
            self._task_ids.append(self._api.press_run(self._deployment, items=self._items))
            return True
        task_id = f"soak-{number}"
        try:
            start_task(type="pressure", tenant_id="user_0", items=self._items, task_id=task_id)
        except (StorageError, DBAPIError) as error:
            # The database did not answer. Repeat the start with the same id.
            self._say(f"not started: {error}")
            return False
        self._task_ids.append(task_id)
        return True

    def _disturb(self) -> bool:
        kind = self._next_fault
        if kind == "worker killed":
            self._killed.kill()
            self._killed.wait()
            self._killed = self._programs.start("worker")
        elif kind == "sessions cut":
            self._server.cut()
        elif kind == "server restarted":
            self._server.restart()
        else:
            runs = running_processes(self._programs.folder / "up" / "runs")
            if not runs:
                return False
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(runs), signal.SIGKILL)
        self.found.faults[kind] += 1
        [self._next_fault] = self._chance.choices(list(FAULTS), list(FAULTS.values()))
        return True

    def _look(self) -> bool:
        processes = {
            "up": self._up.pid,
            "server": child_running(self._up.pid, "deployments.embedded_server"),
            "runner": child_running(self._up.pid, "deployments.serving.runner"),
            "worker": self._kept.pid,
        }
        for name, process_id in processes.items():
            figures = None if process_id is None else ProcessFigures.of(process_id)
            if figures is None:
                self._say(f"{name} is not there")
                continue
            for figure in ("memory_mb", "threads", "files"):
                self._looks[name, figure].append(float(getattr(figures, figure)))
        self._looks["PostgreSQL", "connections"].append(float(self._server.connections()))
        newest = ", ".join(f"{name} {self._looks[name, 'memory_mb'][-1]:.0f} MB" for name in processes)
        self._say(f"{len(self._task_ids)} tasks, {dict(self.found.faults)}; {newest}")
        return True

    def _ended(self) -> list[str]:
        try:
            with self._database.connect() as connection:
                ended = tasks.c.status.in_(("completed", "failed", "canceled"))
                final = select(tasks.c.id).where(ended, tasks.c.type == "pressure")
                return list(connection.execute(final).scalars())
        except (StorageError, DBAPIError):
            return []
