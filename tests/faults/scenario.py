"""Runs one task with several executors that die at random moments, and then checks rows and files.

A seed determines the moments.
"""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from operator import itemgetter
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from flows.starting.new_task import new_task
from storage import Database, LanesRepository, PhotosRepository, ProjectsRepository, TasksRepository
from storage.database.tables import job_items, jobs, project_claims
from storage.errors import StorageError
from storage.queue.lanes import free_slots
from tests.faults.database_faults import DatabaseFaults, SmallDisk, harness_url, met_in
from tests.faults.fault_steps import survivor
from tests.faults.nursery import Nursery
from tests.faults.server import PrefectServer

#: The number of photos of the task.
PHOTOS = 24

TASK_ID = "survivor"

#: The slots of the lane in which the first steps run.
SLOTS = 3

#: A scenario that has not ended after this time has failed.
LIMIT_SECONDS = 120.0

HEARTBEAT_SECONDS = 0.3
STALE_SECONDS = 1.5


@dataclass
class Outcome:
    """The result of a scenario.

    Attributes:
        met: how often a fault of the database affected executors, according to their log.
    """

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    attempts: int = 0

    def __str__(self) -> str:
        faults = ", ".join(f"{number} {kind}" for kind, number in sorted(self.faults.items())) or "no faults"
        return f"seed {self.seed}: {faults}; {self.attempts} attempts more; {self.seconds:.1f} s"


def environment(url: str, library: Path) -> dict[str, str]:
    """Return the environment of executors that notice the death of another executor within seconds."""
    return {
        "PHOTOJOBS_DATABASE_URL": url,
        "PHOTOJOBS_LIBRARY_ROOT": str(library),
        "PHOTOJOBS_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
        "PHOTOJOBS_STALE_SECONDS": str(STALE_SECONDS),
        "PHOTOJOBS_POLL_SECONDS": "0.05",
        "PHOTOJOBS_CONCURRENCY": "2",
        "PHOTOJOBS_DRAIN_SECONDS": "5",
    }


def prepare(database: Database, *, task_id: str) -> list[int]:
    """Create two projects with photos, and a task for these photos; return the ids of the photos."""
    projects = [
        ProjectsRepository(database).create(project_name=name, project_folder=name, tenant_id="user_0")
        for name in (f"alps-{task_id}", f"coast-{task_id}")
    ]
    photo_ids = PhotosRepository(database).create_many(
        {"project_id": projects[number % 2].id, "filename": f"photo-{number}"} for number in range(PHOTOS)
    )
    LanesRepository(database).change("priority", slots=SLOTS)
    TasksRepository(database).start(
        new_task(
            survivor(),
            task_id=task_id,
            tenant_id="user_0",
            items=[{"photo_id": photo_id} for photo_id in photo_ids],
        )
    )
    return photo_ids


def run_scenario(
    seed: int,
    url: str,
    folder: Path,
    *,
    faults: int = 6,
    prefect: PrefectServer | None = None,
    disk: SmallDisk | None = None,
    only: str | None = None,
) -> Outcome:
    """Run the task to its end while executors are killed, frozen and cut off at random; then check everything.

    Args:
        seed: the seed of all random choices.
        url: the URL of an empty database.
        folder: an empty folder for the library and the log.
        faults: the largest number of faults; after them, the executors run without faults.
        prefect: a server. If it is given, one of the executors is a flow run, and the server is killed too.
        disk: the disk that contains the database, if it can be filled.
        only: the only kind of fault; by default all kinds.

    Raises:
        AssertionError: a check failed; the message names the seed.
    """
    outcome = Outcome(seed)
    library = folder / "library"
    library.mkdir()
    database = Database(harness_url(url))
    with ExitStack() as stack:
        stack.callback(database.close)
        database.migrate()
        database_faults = stack.enter_context(DatabaseFaults(database, disk))
        photo_ids = prepare(database, task_id=TASK_ID)
        variables = environment(url, library) | (prefect.environment() if prefect else {})
        nursery = stack.enter_context(Nursery(variables, folder / "executors.log"))
        executors = Executors(nursery, ["worker", f"flow {TASK_ID}"] if prefect else ["worker", "worker"])
        began_at = time.monotonic()
        executors.start()
        trouble = Trouble(random.Random(seed), database, executors, database_faults, prefect, only=only)
        trouble.make(outcome, faults, limit_at=began_at + LIMIT_SECONDS)
        outcome.seconds = time.monotonic() - began_at
        assert executors.end(), f"seed {seed}: an executor did not end; see {folder}"
        problems = check(database, library, photo_ids)
        assert not problems, f"seed {seed}: " + "; ".join(problems) + f"; see {folder}"
        with database.connect() as connection:
            outcome.met = met_in(folder / "executors.log")
            outcome.attempts = connection.execute(select(func.sum(jobs.c.attempts))).scalar_one()
    return outcome


@dataclass
class Executors:
    """The processes that run the task, each with its role."""

    nursery: Nursery
    roles: list[str]
    process_ids: list[int] = field(default_factory=list)
    frozen: dict[int, float] = field(default_factory=dict)
    started_at: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Start all executors."""
        self.process_ids = [self.nursery.start(role) for role in self.roles]
        self.started_at = [time.monotonic()] * len(self.roles)

    def kill(self, place: int) -> None:
        """Kill the executor at this place, and start another in its place."""
        self.nursery.kill(self.process_ids[place])
        self.frozen.pop(self.process_ids[place], None)
        self._restart(place)

    def freeze(self, place: int, seconds: float) -> None:
        """Freeze the executor at this place; `look` thaws it after this many seconds."""
        self.nursery.kill(self.process_ids[place], signal.SIGSTOP)
        self.frozen[self.process_ids[place]] = time.monotonic() + seconds

    def awake(self) -> list[int]:
        """Return the places of executors that are not frozen. Faults spare frozen ones, so that they continue later."""
        return [place for place, process_id in enumerate(self.process_ids) if process_id not in self.frozen]

    def look(self) -> None:
        """Thaw executors whose time is over, and restart executors that ended although there is work."""
        for process_id, thaw_at in list(self.frozen.items()):
            if time.monotonic() >= thaw_at:
                self.nursery.kill(process_id, signal.SIGCONT)
                del self.frozen[process_id]
        for place, process_id in enumerate(self.process_ids):
            if time.monotonic() - self.started_at[place] > 1.0 and not self.nursery.is_alive(process_id):
                self._restart(place)

    def end(self) -> bool:
        """Thaw all executors, and end the workers; return False if one does not end."""
        for process_id in self.frozen:
            self.nursery.kill(process_id, signal.SIGCONT)
        for role, process_id in zip(self.roles, self.process_ids, strict=True):
            if role == "worker":
                self.nursery.kill(process_id, signal.SIGTERM)
        return all(self.nursery.wait_for_end(process_id, 60) for process_id in self.process_ids)

    def _restart(self, place: int) -> None:
        self.process_ids[place] = self.nursery.start(self.roles[place])
        self.started_at[place] = time.monotonic()


class Trouble:
    """Makes faults at random moments while executors run jobs.

    Args:
        chance: chooses the moments and the faults.
        only: the only kind of fault; by default all kinds.
    """

    def __init__(
        self,
        chance: random.Random,
        database: Database,
        executors: Executors,
        database_faults: DatabaseFaults,
        prefect: PrefectServer | None,
        *,
        only: str | None = None,
    ) -> None:
        self._chance, self._database, self._executors = chance, database, executors
        self._database_faults, self._prefect = database_faults, prefect
        weights = {"kill": 6, "freeze": 2, "cut off": 2, "server": 2} | dict.fromkeys(database_faults.kinds, 2)
        left_out = {"" if database.is_postgresql else "cut off", "" if prefect is not None else "server"}
        self._weights = {
            kind: weight for kind, weight in weights.items() if kind not in left_out and only in (None, kind)
        }

    def make(self, outcome: Outcome, faults: int, *, limit_at: float) -> None:
        """Make faults until the task has ended, at most this many; count them in the outcome."""
        tasks = TasksRepository(self._database)
        next_fault_at = time.monotonic() + self._chance.uniform(0.05, 0.5)
        while not _is_final(tasks):
            assert time.monotonic() < limit_at, f"seed {outcome.seed}: did not end"
            self._executors.look()
            self._database_faults.look()
            # A death has an effect only while an executor runs a job.
            is_due = sum(outcome.faults.values()) < faults and time.monotonic() >= next_fault_at
            if is_due and _is_at_work(self._database):
                [kind] = self._chance.choices(list(self._weights), list(self._weights.values()))
                if not self._database_faults.is_on(kind):
                    self._strike(kind)
                    outcome.faults[kind] += 1
                next_fault_at = time.monotonic() + self._chance.uniform(0.05, 0.5)
            threading.Event().wait(0.02)

    def _strike(self, kind: str) -> None:
        place = self._chance.choice(self._executors.awake() or [0])
        if kind == "kill":
            self._executors.kill(place)
        elif kind == "freeze":
            # A short freeze, or a freeze so long that the jobs of the executor have been given to others.
            self._executors.freeze(place, self._chance.choice([0.5, 3 * STALE_SECONDS]))
        elif kind == "cut off":
            self._database_faults.cut(self._chance.choice([30, 100]))
        elif kind == "server":
            assert self._prefect is not None
            self._prefect.kill()
            self._prefect.start()
        else:
            # For a moment, or for longer than the time after which an executor without heartbeats counts as dead.
            self._database_faults.begin(kind, self._chance.choice([0.5, 2 * STALE_SECONDS]))


def check(database: Database, library: Path, photo_ids: list[int], *, task_id: str = TASK_ID) -> list[str]:
    """Return what is wrong after the task and all executors have ended, each as a text."""
    problems: list[str] = []
    task = TasksRepository(database).get(task_id)
    if task.status != "completed":
        problems.append(f"the task is {task.status}: {task.error_message}")
    with database.begin() as connection:
        rows = connection.execute(select(jobs).where(jobs.c.task_id == task_id)).all()
        items = connection.execute(
            select(job_items, jobs.c.step_index, jobs.c.type.label("job_type"))
            .join(jobs, jobs.c.id == job_items.c.job_id)
            .where(jobs.c.task_id == task_id)
        ).all()
        open_jobs = connection.execute(select(func.count()).where(jobs.c.status.in_(("queued", "running")))).scalar()
        if open_jobs:
            problems.append(f"{open_jobs} jobs are still open")
        problems += [
            f"a slot of the lane {lane.name} leaked"
            for lane in LanesRepository(connection).list()
            if lane.slots is not None and free_slots(connection, lane) != lane.slots
        ]
        if connection.execute(select(func.count()).select_from(project_claims)).scalar():
            problems.append("a project is still held")
    expected = {0: ["fault_write"] * 5, 1: ["fault_survey"], 2: ["fault_ask"] * 3, 3: ["fault_follow"]}
    for step_index, types in expected.items():
        of_step = [row for row in rows if row.step_index == step_index]
        if [row.type for row in of_step] != types:
            problems.append(f"step {step_index} has the jobs {[row.type for row in of_step]}")
        chunks = [row.chunk_index for row in of_step if row.chunk_index is not None]
        if len(chunks) != len(set(chunks)):
            problems.append(f"step {step_index} has a chunk twice: {chunks}")
    problems += [f"job {row.id} is {row.status}: {row.error_message}" for row in rows if row.status != "completed"]
    for step_index in (0, 2, 3):
        of_step = [item for item in items if item.step_index == step_index]
        if sorted(item.photo_id for item in of_step) != sorted(photo_ids):
            problems.append(f"step {step_index} has the photos {sorted(item.photo_id for item in of_step)}")
        problems += [
            f"item {item.id} is {item.status} after {item.attempts} attempts: {item.message}"
            for item in of_step
            if item.status != "done" or item.attempts != 1
        ]
    for stage in ("first", "second", "third"):
        found = {path.name: path.read_text() for path in (library / stage).iterdir() if not path.name.startswith(".")}
        wanted = {str(photo_id): f"photo-{number}" for number, photo_id in enumerate(photo_ids)}
        if found != wanted:
            problems.append(f"the files of the {stage} stage are {found}")
    return problems + _ghosts(library)


def _ghosts(library: Path) -> list[str]:
    """Return a text for each executor that passed a checkpoint after another executor had taken over its job.

    An executor that was frozen between its checkpoint and its line in the trace does not count: no program can close
    this gap for files.
    """
    latest: dict[int, str] = {}
    problems = []
    traces = [json.loads(line) for line in (library / "trace.jsonl").read_text().splitlines()]
    for trace in sorted(traces, key=itemgetter("passed_at")):
        if trace["claimed_at"] < latest.setdefault(trace["job"], trace["claimed_at"]):
            problems.append(f"job {trace['job']}: process {trace['pid']} went on after it had lost its claim")
        latest[trace["job"]] = max(latest[trace["job"]], trace["claimed_at"])
    return problems


def _is_at_work(database: Database) -> bool:
    beat_since = database.clock() - timedelta(seconds=2 * HEARTBEAT_SECONDS)
    working = select(func.count()).where(jobs.c.status == "running", jobs.c.heartbeat_at > beat_since)
    try:
        with database.connect() as connection:
            return bool(connection.execute(working).scalar())
    except (StorageError, DBAPIError):
        # Our own connection was cut as well.
        return False


def _is_final(tasks: TasksRepository) -> bool:
    try:
        return tasks.get(TASK_ID).is_final
    except StorageError:
        # Our own connection was cut as well.
        return False
