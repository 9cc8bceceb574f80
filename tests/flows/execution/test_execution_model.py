"""Invariants of a task hold in any order of starts, runs, deaths, rescues, cancels, retries and holds.

`tests/storage/lifecycle/test_model.py` checks each repository call. Here, real handlers run, fail, die and request
follow-up jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text

from flows.errors import PermanentStepError
from flows.execution.job_run import run_claimed_job
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.process.runtime import Runtime
from flows.starting.new_task import new_task
from storage import Database, JobsRepository, LanesRepository, TasksRepository
from storage.database.tables import job_items, jobs
from storage.errors import TaskConflict
from storage.queue.holds import HoldsRepository
from storage.queue.lanes import free_slots
from storage.queue.rescue import rescue_stale
from tests.flows.conftest import add_photos, define, quick_settings

STALE_SECONDS = 60
SLOTS = 2
PHOTOS = 5


#: The possible events for an item; mostly none.
OUTCOMES = st.sampled_from(["do", "do", "do", "stumble", "refuse", "die"])


class Death(BaseException):
    """A simulated death of the executor; nothing after this point happens."""


class Script:
    """Instructions for the next handler: after how many items it fails or dies, and how."""

    def __init__(self) -> None:
        self.steps: Iterator[str] = iter(())
        self.broken: list[str] = []

    def next(self) -> str:
        return next(self.steps, "do")


script = Script()


@step("modelled", unit="items", modifies_files=False)
def modelled(ctx: StepContext) -> None:
    """Follows the script for each item."""
    for batch in ctx.item_batches(size=1):
        if ctx.job.payload.get("asks"):
            ctx.enqueue("modelled_follow_up", photo_ids=[item.photo.id for item in batch], priority=10)
        for item in batch:
            with ctx.item(item):
                _act(ctx, item.id)


@step("modelled_follow_up", unit="items", modifies_files=False)
def modelled_follow_up(ctx: StepContext) -> None:
    """Follows the script for each item, and requests no follow-up job."""
    for batch in ctx.item_batches(size=1):
        for item in batch:
            with ctx.item(item):
                _act(ctx, item.id)


def _act(ctx: StepContext, item_id: int) -> None:
    with ctx.read() as connection:
        status = connection.execute(select(job_items.c.status).where(job_items.c.id == item_id)).scalar_one()
    if status != "pending":
        script.broken.append(f"item {item_id} is worked on although it is {status}")
    match script.next():
        case "die":
            raise Death
        case "stumble":
            raise OSError("stumbled")
        case "refuse":
            raise PermanentStepError("refused")


class Execution(RuleBasedStateMachine):
    """Tasks of two steps and follow-ups, run by executors of this process."""

    def __init__(self, runtime: Runtime, clock: Any, photo_ids: list[int]) -> None:
        super().__init__()
        self.runtime, self.clock, self.photo_ids = runtime, clock, photo_ids
        self.database = runtime.database
        self.tasks, self.jobs = TasksRepository(self.database), JobsRepository(self.database)
        self.canceled: set[int] = set()
        with self.database.begin() as connection:
            for table in ("job_items", "jobs", "task_items", "task_projects", "tasks", "holds"):
                connection.execute(text(f"DELETE FROM {table}"))
        runtime.pinned_definition.cache_clear()
        LanesRepository(self.database).change("priority", slots=SLOTS)

    @initialize(on_failure=st.sampled_from(["continue", "stop"]))
    def begin(self, on_failure: str) -> None:
        self.start(on_failure)

    @rule(on_failure=st.sampled_from(["stop", "continue"]))
    def start(self, on_failure: str) -> None:
        number = len(self.tasks.list_newest())
        if number == 3:
            return
        definition = define(
            "modelled_task",
            {"type": "modelled", "priority": 95, "chunk_size": 2, "max_attempts": 2, "on_failure": on_failure},
            {"type": "modelled", "priority": 99, "chunk_size": 3, "max_attempts": 2},
        )
        items = [{"photo_id": photo_id} for photo_id in self.photo_ids]
        self.tasks.start(
            new_task(definition, task_id=f"task-{number}", tenant_id="user_0", items=items, payload={"asks": True})
        )

    @rule(runs=st.lists(st.lists(OUTCOMES, max_size=4), min_size=1, max_size=5))
    def run_some(self, runs: list[list[str]]) -> None:
        for steps in runs:
            self.run_one("priority", steps) or self.run_one("normal", steps)

    def run_one(self, lane: str, steps: list[str]) -> bool:
        claimed = self.jobs.claim_next(self.runtime.worker_id, lane=lane)
        if claimed is None:
            return False
        script.steps = iter(steps)
        try:
            run_claimed_job(claimed, self.runtime)
        except Death:
            self.forget_end(claimed.id, str(claimed.claim_token))
        return True

    @rule()
    def claim_and_die(self) -> None:
        self.jobs.claim_next("dead", lane="priority")

    @rule()
    def rescue(self) -> None:
        self.clock.advance(seconds=STALE_SECONDS + 1)
        rescue_stale(self.database, stale_seconds=STALE_SECONDS, max_attempts=3)

    @precondition(lambda self: self.open_tasks())
    @rule(number=st.integers(0, 2))
    def cancel(self, number: int) -> None:
        tasks = self.open_tasks()
        self.tasks.cancel(tasks[number % len(tasks)])

    @precondition(lambda self: self.ended_tasks())
    @rule(number=st.integers(0, 2), from_step=st.none() | st.integers(0, 1))
    def retry(self, number: int, from_step: int | None) -> None:
        tasks = self.ended_tasks()
        task_id = tasks[number % len(tasks)]
        try:
            self.tasks.retry(task_id, from_step=from_step)
        except TaskConflict:
            return
        self.canceled -= {job.id for job in self.tasks.list_jobs(task_id)}

    @rule(hold=st.booleans())
    def hold_or_release(self, hold: bool) -> None:
        repository = HoldsRepository(self.database)
        repository.hold("tenant", "user_0") if hold else repository.release("tenant", "user_0")

    @precondition(lambda self: self.tasks.list_newest())
    @rule(refuses=st.booleans())
    def end_all(self, refuses: bool) -> None:
        """Without further events, every task ends, and its follow-up jobs were done."""
        HoldsRepository(self.database).release("tenant", "user_0")
        script.steps = iter(["refuse"] if refuses else [])
        self.rescue()
        while True:
            self.clock.advance(seconds=3600)
            claimed = [self.jobs.claim_next(self.runtime.worker_id, lane=lane) for lane in ("priority", "normal")]
            if not any(claimed):
                break
            for job in claimed:
                if job is not None:
                    run_claimed_job(job, self.runtime)
        assert all(task.is_final for task in self.tasks.list_newest())

    @invariant()
    def each_step_was_laid_out_once_with_each_photo_once(self) -> None:
        with self.database.connect() as connection:
            rows = connection.execute(select(jobs)).all()
            # A retry of a step may ask again for the follow-up of a photo that had one.
            items = connection.execute(
                select(jobs.c.task_id, jobs.c.step_index, job_items.c.photo_id)
                .join(jobs, jobs.c.id == job_items.c.job_id)
                .where(jobs.c.chunk_index.is_not(None) | jobs.c.status.in_(("queued", "running")))
            ).all()
        chunks = Counter((row.task_id, row.step_index, row.chunk_index) for row in rows if row.chunk_index is not None)
        assert set(chunks.values()) <= {1}
        for row in rows:
            if row.total_chunks is not None:
                assert sum(key[:2] == (row.task_id, row.step_index) for key in chunks) == row.total_chunks
        assert set(Counter(tuple(item) for item in items).values()) <= {1}

    @invariant()
    def a_task_has_ended_exactly_when_nothing_of_it_is_open(self) -> None:
        for task in self.tasks.list_newest():
            counts = self.tasks.count_jobs(task.id)
            is_open = bool(counts.get("queued", 0) + counts.get("running", 0))
            assert is_open != task.is_final, (task, counts)
            if task.status == "completed":
                assert set(counts) == {"completed"}

    @invariant()
    def a_finished_item_is_never_worked_on_again(self) -> None:
        assert script.broken == []

    @invariant()
    def slots_are_never_exceeded(self) -> None:
        with self.database.begin() as connection:
            lane = LanesRepository(connection).get("priority")
            assert 0 <= free_slots(connection, lane) <= SLOTS

    @invariant()
    def what_was_canceled_stays_canceled(self) -> None:
        with self.database.connect() as connection:
            now = set(connection.execute(select(jobs.c.id).where(jobs.c.status == "canceled")).scalars())
            there = set(connection.execute(select(jobs.c.id)).scalars())
        assert self.canceled & there <= now
        self.canceled = now

    @invariant()
    def a_job_is_completed_only_with_all_of_its_items(self) -> None:
        with self.database.connect() as connection:
            left = connection.execute(
                select(job_items.c.id)
                .join(jobs, jobs.c.id == job_items.c.job_id)
                .where(jobs.c.status == "completed", job_items.c.status.not_in(("done", "skipped")))
            ).all()
        assert left == []

    def open_tasks(self) -> list[str]:
        return [task.id for task in self.tasks.list_newest() if not task.is_final]

    def ended_tasks(self) -> list[str]:
        return [task.id for task in self.tasks.list_newest() if task.is_final]

    def forget_end(self, job_id: int, token: str) -> None:
        """Ignore the end of a job: a dead process does not return its job, as an interrupted one does."""
        with self.database.begin() as connection:
            connection.execute(
                jobs.update()
                .where(jobs.c.id == job_id, jobs.c.status == "queued", jobs.c.claim_token.is_(None))
                .values(status="running", claim_token=token, worker_id="dead", heartbeat_at=self.clock())
            )


@pytest.fixture
def executing(sqlite_url: str, clock: Any, tmp_path: Path) -> Iterator[Runtime]:
    database = Database(sqlite_url, clock=clock)
    with Runtime(database, settings=quick_settings(tmp_path, stale_seconds=STALE_SECONDS)) as runtime:
        yield runtime


def test_tasks_keep_their_promises_in_any_order_of_events(executing: Runtime, clock: Any) -> None:
    photo_ids = add_photos(executing.database, (f"p{number}" for number in range(PHOTOS)))
    run_state_machine_as_test(
        lambda: Execution(executing, clock, photo_ids),
        settings=settings(
            suppress_health_check=list(HealthCheck),
            stateful_step_count=30,
        ),
    )
