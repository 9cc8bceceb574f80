"""Random operations on jobs and tasks give the same results as a plain Python model, on both databases.

The suite runs a small form. The long form: `HYPOTHESIS_PROFILE=full pytest
tests/storage/lifecycle/test_model.py --timeout 0`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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
from sqlalchemy import text

from storage import Database, JobsRepository, LanesRepository, TasksRepository
from storage.errors import ConstraintViolated, TaskConflict
from storage.queue.bulk import JobFilter, cancel_jobs, retry_jobs
from storage.queue.exchange import End, Wanted
from storage.queue.holds import HoldsRepository
from storage.queue.new_tasks import NewTask
from storage.queue.rescue import rescue_stale
from storage.records import JobStatus
from task_definitions import Scope

STALE_SECONDS = 60
MAX_ATTEMPTS = 3
TENANTS = ("a", "b")
FINAL = ("completed", "failed", "canceled")
NORMAL_LANE = range(-(2**31), 90)


@dataclass
class ModelJob:
    """The values of a row of `jobs` in the model; `waits` is whether the job waits for earlier steps of its task."""

    id: int
    tenant: str
    priority: int
    created_at: datetime
    task: str | None = None
    step: int | None = None
    key: str | None = None
    status: str = "queued"
    attempts: int = 0
    max_attempts: int | None = None
    run_after: datetime | None = None
    beat: datetime | None = None
    token: str | None = None
    old_tokens: list[str] = field(default_factory=list)
    waits: bool = False

    @property
    def rank(self) -> tuple[int, datetime, int]:
        return (-self.priority, self.created_at, self.id)

    def queue_again(self, *, run_after: datetime | None = None) -> None:
        if self.token is not None:
            self.old_tokens.append(self.token)
        self.status, self.token, self.beat, self.run_after = "queued", None, None, run_after
        self.waits = False


@dataclass
class ModelTask:
    """The values of a row of `tasks` in the model; `steps` are pairs of the number of chunks and `on_failure`."""

    id: str
    tenant: str
    steps: list[tuple[int, str]]
    step: int = 0
    status: str = "open"


class Engine(RuleBasedStateMachine):
    """Calls the repositories and the model, and compares their results."""

    def __init__(self, database: Database, clock: Any, make_definition: Any, photo_ids: dict[str, list[int]]) -> None:
        super().__init__()
        self.database, self.clock, self.make_definition, self.photo_ids = database, clock, make_definition, photo_ids
        self.jobs, self.tasks = JobsRepository(database), TasksRepository(database)
        self.model: dict[int, ModelJob] = {}
        self.model_tasks: dict[str, ModelTask] = {}
        self.holds: set[tuple[str, str]] = set()
        self.slots: int | None = 4
        with database.begin() as connection:
            for table in ("job_items", "jobs", "task_items", "task_projects", "tasks", "holds"):
                connection.execute(text(f"DELETE FROM {table}"))
        LanesRepository(database).change("normal", slots=4)

    # The operations.

    @initialize(tenants=st.lists(st.tuples(st.sampled_from(TENANTS), st.integers(0, 2)), min_size=2, max_size=6))
    def begin(self, tenants: list[tuple[str, int]]) -> None:
        for tenant, priority in tenants:
            self.enqueue(tenant=tenant, priority=priority, delay=None, max_attempts=None, key=None)
        self.start_task(tenant="a", steps=[(2, "stop"), (4, "continue"), (1, "stop")])

    @rule(
        tenant=st.sampled_from(TENANTS),
        priority=st.integers(0, 2),
        delay=st.none() | st.sampled_from([-5, 20]),
        max_attempts=st.none() | st.just(1),
        key=st.none() | st.sampled_from("kl"),
    )
    def enqueue(self, tenant: str, priority: int, delay: int | None, max_attempts: int | None, key: str | None) -> None:
        run_after = None if delay is None else self.clock() + timedelta(seconds=delay)
        job = self.jobs.enqueue(
            tenant_id=tenant,
            type="x",
            priority=priority,
            run_after=run_after,
            max_attempts=max_attempts,
            unique_key=key,
        )
        twin = self.twin(tenant, key)
        if twin is not None:
            assert job.id == twin.id
            return
        assert job.id not in self.model
        self.model[job.id] = ModelJob(
            job.id, tenant, priority, self.clock(), key=key, max_attempts=max_attempts, run_after=run_after
        )

    @rule(
        tenant=st.sampled_from(TENANTS),
        steps=st.lists(
            st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from(["stop", "continue"])), min_size=1, max_size=3
        ),
    )
    def start_task(self, tenant: str, steps: list[tuple[int, str]]) -> None:
        declared = [
            {"unit": "items", "chunk_size": 4 // chunks, "on_failure": on_failure, "priority": index}
            for index, (chunks, on_failure) in enumerate(steps)
        ]
        task = ModelTask(f"task-{len(self.model_tasks)}", tenant, steps)
        self.tasks.start(
            NewTask(
                id=task.id,
                tenant_id=tenant,
                definition=self.make_definition(*declared),
                scope=Scope.PHOTO_SET,
                items=[{"photo_id": photo_id} for photo_id in self.photo_ids[tenant]],
            )
        )
        self.model_tasks[task.id] = task
        self.lay_out(task)

    @rule(tenant=st.none() | st.sampled_from(TENANTS), lowest=st.none() | st.integers(-1, 2))
    def claim(self, tenant: str | None, lowest: int | None) -> None:
        self.claimed(self.jobs.claim_next("worker", tenant_id=tenant, min_priority=lowest), self.ready(tenant, lowest))

    @rule()
    def claim_in_lane(self) -> None:
        running = sum(job.status == "running" for job in self.model.values())
        ready = self.ready(None, None) if self.slots is None or running < self.slots else []
        self.claimed(self.jobs.claim_next("worker", lane="normal"), ready)

    @rule(ends=st.lists(st.sampled_from(["completed", "completed", "failed"]), min_size=1, max_size=5))
    def work(self, ends: list[str]) -> None:
        for how in ends:
            ready = self.ready(None, None)
            claimed = self.jobs.claim_next("worker")
            self.claimed(claimed, ready)
            if claimed is None:
                return
            if how == "completed":
                assert self.jobs.complete(claimed.id, claim_token=claimed.claim_token) is not None
            else:
                assert self.jobs.fail(claimed.id, "no", claim_token=claimed.claim_token) is not None
            self.finish(ready[0], how)

    @rule(count=st.integers(2, 6))
    def let_several_run_and_end_in_any_order(self, count: int) -> None:
        claimed = []
        for _ in range(count):
            ready = self.ready(None, None)
            job = self.jobs.claim_next("worker")
            self.claimed(job, ready)
            claimed += ready[:1]
        # The last claimed chunk ends first, so that chunks end in another order than they began.
        for model in reversed(claimed):
            assert self.jobs.complete(model.id, claim_token=model.token) is not None
            self.finish(model, "completed")

    @precondition(lambda self: self.model)
    @rule(data=st.data(), how=st.sampled_from(FINAL), by=st.sampled_from(["anybody", "holder", "former holder"]))
    def end(self, data: Any, how: str, by: str) -> None:
        job = self.any_job(data)
        former = job.old_tokens[-1] if job.old_tokens else "never-a-token"
        token = {"anybody": None, "holder": job.token or former, "former holder": former}[by]
        if how == "completed":
            ended = self.jobs.complete(job.id, claim_token=token)
        elif how == "failed":
            ended = self.jobs.fail(job.id, "no", claim_token=token)
        else:
            token, ended = None, self.jobs.cancel(job.id)
        is_allowed = job.status in ("queued", "running") if token is None else job.status == "running"
        is_allowed = is_allowed and token in (None, job.token)
        assert (ended is not None) == is_allowed
        if is_allowed:
            self.finish(job, how)

    @rule(data=st.data(), batches=st.integers(1, 4))
    def exchange(self, data: Any, batches: int) -> None:
        """In one call, end jobs that run, wait, have ended or were lost, and claim jobs of one lane or of any lane."""
        for _ in range(batches):
            self.one_exchange(data)

    def one_exchange(self, data: Any) -> None:
        running = [job for job in self.model.values() if job.status == "running"]
        others = [job for job in self.model.values() if job.status != "running"]
        chosen = data.draw(st.lists(st.sampled_from(running), max_size=4, unique_by=id)) if running else []
        chosen += data.draw(st.lists(st.sampled_from(others), max_size=1)) if others else []
        ends = []
        for job in chosen:
            token = data.draw(st.sampled_from([job.token, job.token, job.token, None, "lost"]))
            ends.append((job, token, data.draw(st.sampled_from([JobStatus.COMPLETED] * 3 + [JobStatus.FAILED]))))
        limit, in_lane = data.draw(st.integers(0, 5)), data.draw(st.booleans())
        tenant = data.draw(st.sampled_from([None, None, *TENANTS]))
        wanted = Wanted(lanes=("priority", "normal") if in_lane else None, tenant_id=tenant)
        given = [End(job_id=job.id, status=status, claim_token=token) for job, token, status in ends]

        done = self.jobs.claim("worker", wanted, limit=limit, ended=given)

        ended = [
            (job, status)
            for job, token, status in ends
            if (job.status == "running" and token in (None, job.token)) or (job.status == "queued" and token is None)
        ]
        for job, status in ended:
            job.status = str(status)
        assert {(job.id, job.status) for job in done.ended} == {(job.id, job.status) for job, _ in ended}
        claimed = list(done.claimed)
        self.take(claimed, limit, in_lane=in_lane, tenant=tenant)
        before = [(task.status, task.step) for task in self.model_tasks.values()]
        for job, _, _ in ends:
            self.settle_of(job)
        if before != [(task.status, task.step) for task in self.model_tasks.values()]:
            # The same call takes jobs of the next step.
            self.take(claimed, limit - (len(done.claimed) - len(claimed)), in_lane=in_lane, tenant=tenant)
        assert claimed == []

    def take(self, claimed: list[Any], limit: int, *, in_lane: bool, tenant: str | None) -> None:
        running = sum(job.status == "running" for job in self.model.values())
        if in_lane and self.slots is not None:
            limit = min(limit, self.slots - running)
        for _ in range(min(limit, len(self.ready(tenant, None)))):
            self.claimed(claimed.pop(0) if claimed else None, self.ready(tenant, None))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def requeue(self, data: Any) -> None:
        job = self.any_job(data)
        twin = self.twin(job.tenant, job.key)
        if twin is not None and twin is not job:
            with pytest.raises(ConstraintViolated):
                self.jobs.requeue(job.id)
            return
        assert self.jobs.requeue(job.id) is not None
        job.queue_again()
        self.reopen(job)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), delay=st.sampled_from([0, 30]), counts=st.booleans())
    def give_back(self, data: Any, delay: int, counts: bool) -> None:
        job = self.any_job(data)
        token = job.token or "none"
        if counts:
            run_after = self.clock() + timedelta(seconds=delay)
            given = self.jobs.retry_later(job.id, "flaky", run_after=run_after, claim_token=token)
        else:
            run_after, given = None, self.jobs.hand_back(job.id, claim_token=token)
        assert (given is not None) == (job.status == "running")
        if job.status == "running":
            job.attempts += counts
            job.queue_again(run_after=run_after)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def heartbeat(self, data: Any) -> None:
        job = self.any_job(data)
        assert self.jobs.heartbeat(job.id, claim_token=job.token) == (job.status == "running")
        if job.status == "running":
            job.beat = self.clock()

    @rule(seconds=st.sampled_from([0.001, 10, 61]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds=seconds)

    @rule()
    def rescue(self) -> None:
        limit = self.clock() - timedelta(seconds=STALE_SECONDS)
        silent = [job for job in self.model.values() if job.status == "running" and job.beat and job.beat < limit]
        spent = [job for job in silent if job.attempts + 1 >= (job.max_attempts or MAX_ATTEMPTS)]
        rescued = rescue_stale(self.database, stale_seconds=STALE_SECONDS, max_attempts=MAX_ATTEMPTS)
        assert set(rescued.failed) == {job.id for job in spent}
        # If a rescue fails a job, and this cancels other jobs of its task, these jobs are not rescued.
        assert set(rescued.requeued) == {job.id for job in silent if job not in spent}
        for job in silent:
            if job not in spent:
                job.attempts += 1
                job.queue_again()
        for job in spent:
            job.status = "failed"
        for job in spent:
            self.settle_of(job)

    @rule(kind=st.sampled_from(["tenant", "task"]), data=st.data(), hold=st.booleans())
    def hold_or_release(self, kind: str, data: Any, hold: bool) -> None:
        names = TENANTS if kind == "tenant" else tuple(self.model_tasks)
        if not names:
            return
        name = data.draw(st.sampled_from(names))
        repository = HoldsRepository(self.database)
        if hold:
            repository.hold(kind, name)
            self.holds.add((kind, name))
        else:
            assert repository.release(kind, name) == ((kind, name) in self.holds)
            self.holds.discard((kind, name))

    @rule(slots=st.integers(0, 3))
    def change_slots(self, slots: int) -> None:
        LanesRepository(self.database).change("normal", slots=slots)
        self.slots = slots or None

    @precondition(lambda self: self.model_tasks)
    @rule(data=st.data())
    def cancel_task(self, data: Any) -> None:
        task = data.draw(st.sampled_from(list(self.model_tasks.values())))
        self.tasks.cancel(task.id)
        if task.status == "open":
            self.cancel_all(task)

    @precondition(lambda self: self.model_tasks)
    @rule(data=st.data())
    def retry_task(self, data: Any) -> None:
        task = data.draw(st.sampled_from(list(self.model_tasks.values())))
        closed = [job for job in self.jobs_of(task) if job.status in ("failed", "canceled")]
        if task.status == "open" or not closed:
            with pytest.raises(TaskConflict):
                self.tasks.retry(task.id)
            return
        self.tasks.retry(task.id)
        self.retried(closed)

    @precondition(lambda self: self.model_tasks)
    @rule(data=st.data())
    def settle_task(self, data: Any) -> None:
        self.tasks.settle(data.draw(st.sampled_from(list(self.model_tasks))))

    @rule(tenant=st.sampled_from(TENANTS))
    def cancel_in_bulk(self, tenant: str) -> None:
        cancel_jobs(self.database, JobFilter(tenant_id=tenant))
        chosen = [job for job in self.model.values() if job.tenant == tenant and job.status in ("queued", "running")]
        for job in chosen:
            job.status = "canceled"
        for job in chosen:
            self.settle_of(job)

    @rule(tenant=st.sampled_from(TENANTS))
    def retry_in_bulk(self, tenant: str) -> None:
        closed = [job for job in self.model.values() if job.tenant == tenant and job.status in ("failed", "canceled")]
        chosen, keys = [], set()
        for job in sorted(closed, key=lambda job: -job.id):
            if job.key is None or (job.key not in keys and self.twin(tenant, job.key) is None):
                chosen.append(job)
            keys.add(job.key)
        assert retry_jobs(self.database, JobFilter(tenant_id=tenant)) == len(chosen)
        self.retried(chosen)

    # The invariants.

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        with self.database.connect() as connection:
            rows = connection.execute(text("SELECT id, status, attempts, claim_token FROM jobs")).all()
            tasks = connection.execute(text("SELECT id, status, step_index FROM tasks")).all()
            chunks = connection.execute(
                text("SELECT task_id, step_index, count(*) FROM jobs WHERE task_id IS NOT NULL GROUP BY 1, 2")
            ).all()
        assert {row.id: (row.status, row.attempts) for row in rows} == {
            job.id: (job.status, job.attempts) for job in self.model.values()
        }
        running = [row for row in rows if row.status == "running"]
        assert {row.id: row.claim_token for row in running} == {
            job.id: job.token for job in self.model.values() if job.status == "running"
        }
        assert {row.id: (row.status if row.status in FINAL else "open", row.step_index) for row in tasks} == {
            task.id: (task.status, task.step) for task in self.model_tasks.values()
        }
        for task_id, step, count in chunks:
            assert count == self.model_tasks[task_id].steps[step][0], f"step {step} of {task_id} was not started once"

    # The model.

    def any_job(self, data: Any) -> ModelJob:
        """Choose a job, mostly one that has not ended, because operations have an effect on such jobs."""
        unfinished = [job for job in self.model.values() if job.status not in FINAL]
        is_unfinished = unfinished and data.draw(st.sampled_from([True, True, True, False]))
        job: ModelJob = data.draw(st.sampled_from(unfinished if is_unfinished else list(self.model.values())))
        return job

    def twin(self, tenant: str, key: str | None) -> ModelJob | None:
        same = (job for job in self.model.values() if key is not None and (job.tenant, job.key) == (tenant, key))
        return next((job for job in same if job.status in ("queued", "running")), None)

    def ready(self, tenant: str | None, lowest: int | None) -> list[ModelJob]:
        return sorted(
            (
                job
                for job in self.model.values()
                if job.status == "queued"
                and not job.waits
                and (job.run_after is None or job.run_after <= self.clock())
                and not self.holds & {("tenant", job.tenant), ("task", job.task or "")}
                and tenant in (None, job.tenant)
                and (lowest is None or job.priority >= lowest)
                and job.priority in NORMAL_LANE
            ),
            key=lambda job: job.rank,
        )

    def claimed(self, claimed: Any, ready: list[ModelJob]) -> None:
        assert (claimed and claimed.id) == (ready[0].id if ready else None)
        if ready:
            job = ready[0]
            assert claimed.claim_token not in [job.token, *job.old_tokens]
            job.status, job.token, job.beat = "running", claimed.claim_token, self.clock()

    def finish(self, job: ModelJob, status: str) -> None:
        job.status = status
        self.settle_of(job)

    def retried(self, chosen: list[ModelJob]) -> None:
        for job in chosen:
            job.queue_again()
            job.attempts = 0
        for job in chosen:
            self.reopen(job)

    def reopen(self, job: ModelJob) -> None:
        task = self.model_tasks.get(job.task or "")
        if task is None or job.step is None:
            return
        if task.status != "open" or task.step > job.step:
            task.status, task.step = "open", job.step
        for later in self.later_jobs(task):
            later.waits = True

    def jobs_of(self, task: ModelTask, step: int | None = None) -> list[ModelJob]:
        return [job for job in self.model.values() if job.task == task.id and step in (None, job.step)]

    def later_jobs(self, task: ModelTask) -> list[ModelJob]:
        """Return the queued jobs of the steps after the current one."""
        return [job for job in self.jobs_of(task) if job.status == "queued" and (job.step or 0) > task.step]

    def settle_of(self, job: ModelJob) -> None:
        if job.task is not None:
            self.settle(self.model_tasks[job.task])

    def settle(self, task: ModelTask) -> None:
        while task.status == "open":
            here = Counter(job.status for job in self.jobs_of(task, task.step))
            if here["queued"] + here["running"]:
                return
            everywhere = Counter(job.status for job in self.jobs_of(task))
            is_at_end = task.step == len(task.steps)
            if here["canceled"] or (is_at_end and everywhere["canceled"]):
                self.cancel_all(task)
            elif is_at_end:
                task.status = "failed" if everywhere["failed"] else "completed"
            elif here["failed"] and task.steps[task.step][1] == "stop":
                for later in self.later_jobs(task):
                    later.status = "failed"
                task.step = len(task.steps)
            else:
                task.step += 1
                self.lay_out(task)

    def cancel_all(self, task: ModelTask) -> None:
        task.status = "canceled"
        for job in self.jobs_of(task):
            if job.status in ("queued", "running"):
                job.status = "canceled"

    def lay_out(self, task: ModelTask) -> None:
        for waiting in self.jobs_of(task, task.step):
            waiting.waits = False
        if task.step == len(task.steps) or self.jobs_of(task, task.step):
            return
        for job in self.tasks.list_jobs(task.id):
            if job.step_index == task.step:
                assert job.id not in self.model
                self.model[job.id] = ModelJob(
                    job.id, task.tenant, job.priority, self.clock(), task=task.id, step=task.step
                )


class Batches(Engine):
    """Mostly calls with several jobs, and operations that disturb them."""

    claim = claim_in_lane = work = requeue = heartbeat = settle_task = None  # type: ignore[assignment]
    cancel_in_bulk = retry_in_bulk = let_several_run_and_end_in_any_order = None  # type: ignore[assignment]

    @rule(data=st.data(), batches=st.integers(10, 20))
    def exchange(self, data: Any, batches: int) -> None:
        for _ in range(batches):
            self.one_exchange(data)


def test_any_sequence_of_operations_does_what_the_model_says(
    database: Database, clock: Any, make_definition: Any, make_project: Any, make_photos: Any
) -> None:
    photo_ids = {tenant: make_photos(make_project(tenant_id=tenant), 4) for tenant in TENANTS}
    run_state_machine_as_test(
        lambda: Engine(database, clock, make_definition, photo_ids),
        settings=settings(
            max_examples=3 * settings().max_examples,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_batches_of_ends_and_claims_do_what_the_model_says(
    database: Database, clock: Any, make_definition: Any, make_project: Any, make_photos: Any
) -> None:
    photo_ids = {tenant: make_photos(make_project(tenant_id=tenant), 4) for tenant in TENANTS}
    run_state_machine_as_test(
        lambda: Batches(database, clock, make_definition, photo_ids),
        settings=settings(stateful_step_count=40, suppress_health_check=list(HealthCheck)),
    )
