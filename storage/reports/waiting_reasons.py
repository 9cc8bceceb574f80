"""Explains why a queued job is not claimed, and the state of a running or ended job.

For a queued job, everything is checked that can prevent a claim. The checks only read, by a fixed number of index
lookups that does not depend on the length of the queue. The commands `jobs why`, `status` and `run` show the reasons.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial

from sqlalchemy import Connection

from storage.database.engine import Access, Database
from storage.errors import UnknownJob
from storage.lifecycle.heartbeats import WAITER_STALE_SECONDS
from storage.lifecycle.state_machine import HELD_BY_STEPS, NO_REASON, get_task
from storage.photos.project_labels import project_label
from storage.photos.projects import ProjectsRepository
from storage.queue.holds import Hold, HoldsRepository
from storage.queue.job_reading import JobReading
from storage.queue.lanes import LanesRepository, lane_of
from storage.queue.project_claims import claiming_jobs
from storage.records import Job, JobStatus, Lane
from storage.reports.executor_activity import Activity, read_activity
from storage.reports.place_in_lane import LaneQueue, count_before, read_lane_queue
from task_definitions import Scope
from task_definitions.wording import lasting, listed, printable, quantity

#: The maximum number of jobs, executors or tenants in the text of a reason.
MAX_NAMED_JOBS = 5

#: A job that has been ready for less than this number of seconds counts as just queued, because executors check for
#: jobs only about twice a second.
JUST_QUEUED_SECONDS = 3.0


#: The checks that do not matter to a run that follows the job. Such a run is itself an executor, it passes over better
#: jobs that no run follows, and it waits for a project only after the start of the job.
_NO_OBSTACLES = frozenset({"executor", "rank", "project"})


class Standing(StrEnum):
    """The meaning of a reason: no obstacle, a wait that ends by itself, or a block that a user must remove."""

    FINE = "fine"
    WAITS = "waits"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """The result of one check.

    Attributes:
        name: the name of the check, for programs; it never changes.
        says: the result, as a sentence.
        remedy: an instruction for the user; empty if there is nothing to do.
        job_ids: the ids of the first jobs that the result mentions.
    """

    name: str
    standing: Standing
    says: str
    remedy: str = ""
    job_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExplanation:
    """A job and the results of all checks; the decisive result comes first."""

    job: Job
    reasons: tuple[Reason, ...]

    @property
    def decisive(self) -> Reason:
        """The decisive reason: the first block, else the first wait, else the first of the other results."""
        return self.reasons[0]

    @property
    def obstacle(self) -> Reason | None:
        """The first reason why a run that follows the queued job cannot start the job; None if there is no reason."""
        return next(
            (one for one in self.reasons if one.standing is not Standing.FINE and one.name not in _NO_OBSTACLES), None
        )


def explain_job(
    source: Database | Connection,
    job_id: int,
    *,
    stale_seconds: float,
    why_not_run: Callable[[str], str | None] = lambda _: None,
) -> JobExplanation:
    """Explain the status of a job, whatever the status is.

    A running job without a heartbeat for `stale_seconds` counts as abandoned. `why_not_run` returns the reason why this
    installation cannot run a step type, or None if it can.

    Raises:
        UnknownJob: the job does not exist.
    """
    access = Access(source)
    with access.read() as connection:
        job = JobReading(connection).get_by_id(job_id)
        if job is None:
            raise UnknownJob(f"job {job_id} does not exist. `photojobs jobs list` shows the latest jobs.")
        waiting = WaitingReasons(connection, now=access.clock(), stale_seconds=stale_seconds, why_not_run=why_not_run)
        return waiting.explain(job)


class WaitingReasons:
    """Explains why jobs wait, with queries on one connection. Lanes, holds and activity are read once for all jobs."""

    def __init__(
        self,
        connection: Connection,
        *,
        now: datetime,
        stale_seconds: float,
        why_not_run: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._now = now
        self._stale_seconds = stale_seconds
        self._why_not_run = why_not_run
        self._lanes = LanesRepository(connection).list()
        self._holds = {(hold.kind, hold.name): hold for hold in HoldsRepository(connection).list()}
        self._queues: dict[str, LaneQueue] = {}
        self._activity: Activity | None = None

    def explain(self, job: Job) -> JobExplanation:
        """Return the results of all checks of a job, with the decisive result first."""
        if job.is_final:
            found = [self._ended(job)]
        elif job.status == "running":
            found = [self._running(job), *self._projects(job)]
        else:
            found = list(self._queued(job))
        order = (Standing.BLOCKED, Standing.WAITS, Standing.FINE)
        # The sort is stable, so reasons of the same standing keep the order of the checks.
        return JobExplanation(job=job, reasons=tuple(sorted(found, key=lambda reason: order.index(reason.standing))))

    @property
    def activity(self) -> Activity:
        """The current activity of executors."""
        if self._activity is None:
            silent_seconds = max(WAITER_STALE_SECONDS, self._stale_seconds)
            self._activity = read_activity(self._connection, now=self._now, silent_seconds=silent_seconds)
        return self._activity

    def _ended(self, job: Job) -> Reason:
        moment = "" if job.finished_at is None else f" {self._ago(job.finished_at)}"
        reason = job.error_message or NO_REASON
        again = f"`photojobs retry {job.task_id}`" if job.task_id else f"`photojobs jobs retry {job.id}`"
        if job.status == "failed":
            attempts = f" at attempt {job.attempts + 1}"
            return _blocked("failed", f"It failed{moment}{attempts}: {reason}", f"{again} runs it again.")
        if job.status == "canceled":
            return _blocked("canceled", f"It was canceled{moment}: {reason}", f"{again} queues it again.")
        if job.status == "completed":
            return _fine("completed", f"It completed{moment}; nothing is left to do.")
        return _blocked(
            "status",
            f'Its status "{job.status}" is unknown, so it never runs or ends.',
            f"Set the column status of job {job.id} by SQL to one of {', '.join(JobStatus)}.",
        )

    def _running(self, job: Job) -> Reason:
        sign = job.heartbeat_at or job.started_at or job.created_at
        says = f"It has run for {self._age(job.started_at or sign)}, by {job.worker_id or 'an unknown executor'}"
        if self._is_stale(job):
            silence = f"which has sent no heartbeat for {self._age(sign)}"
            if _is_known(sign) and sign > self._now:
                silence = "whose last heartbeat is in the future, because the clock was set back"
            return _blocked(
                "stale",
                f"{says}, {silence}: this executor counts as dead.",
                "Start `photojobs up` or `photojobs worker`; it gives the job to another executor within seconds.",
                job.id,
            )
        return _fine("running", f"{says}, whose last heartbeat was {self._ago(sign)}.")

    def _queued(self, job: Job) -> Iterator[Reason]:
        yield _fine("status", f"It has been queued for {self._age(job.created_at)}.")
        yield from self._scope(job)
        yield from self._held(job)
        yield self._delay(job)
        yield self._handler(job)
        lane = lane_of(job.priority, self._lanes)
        if lane is None:
            yield _blocked(
                "lane",
                f"No lane covers its priority {job.priority}, so no worker takes it.",
                f"Add a lane for {job.priority} (`LanesRepository.add`), or change the job's priority.",
            )
        else:
            yield from self._in_lane(job, lane)
        yield from self._projects(job)
        yield self._executor(job)
        if job.total_chunks is not None and job.chunk_index is not None:
            yield _fine("chunk", f"It is chunk {job.chunk_index + 1} of {job.total_chunks} of its step.")

    def _scope(self, job: Job) -> Iterator[Reason]:
        problem = ""
        if job.scope not in frozenset(Scope):
            problem = f'Its scope "{job.scope}" is not one of {listed(Scope)}.'
        elif job.scope == Scope.PROJECT and job.project_id is None:
            problem = "Its scope is project, but it names no project: the project was removed or never given."
        elif job.scope == Scope.GLOBAL and job.project_id is not None:
            problem = f"Its scope is global, but it names the project {job.project_id}."
        if problem:
            yield _blocked(
                "scope",
                problem,
                "An executor that takes it may find nothing to work on. Cancel it, and enqueue it with a valid scope.",
            )
        else:
            yield _fine("scope", f"Its scope, {job.scope}, is valid.")

    def _held(self, job: Job) -> Iterator[Reason]:
        if job.held_by == HELD_BY_STEPS:
            task = None if job.task_id is None else get_task(self._connection, job.task_id)
            if task is None or task.is_final:
                state = "no longer exists" if task is None else f"has ended ({task.status})"
                yield _blocked(
                    "held",
                    f"It waits for the steps of its task {job.task_id}, which {state}.",
                    f"It will never start; `photojobs jobs cancel {job.id}` cancels it.",
                )
            else:
                at = f"its task {task.id} is at step {task.step_index}"
                yield _waits("held", f"It starts after all earlier steps of its task; {at}.")
            return
        found = [self._holds.get(("task", job.task_id or "")), self._holds.get(("tenant", job.tenant_id))]
        holds = [hold for hold in found if hold is not None]
        for hold in holds:
            yield self._hold(hold)
        if job.held_by is not None and not holds:
            name = {"tenant": job.tenant_id, "task": job.task_id}.get(job.held_by)
            yield _blocked(
                "held",
                f'Its column held_by is "{job.held_by}", but no such hold exists.',
                f"Set this column of job {job.id} to NULL by SQL."
                if name is None
                else f"`photojobs release {job.held_by} {name}` clears this column.",
            )

    def _hold(self, hold: Hold) -> Reason:
        because = f" ({hold.reason})" if hold.reason else ""
        return _blocked(
            "held",
            f"The {hold.kind} {hold.name} has been held for {self._age(hold.created_at)}{because}.",
            f"`photojobs release {hold.kind} {hold.name}` ends the hold.",
        )

    def _delay(self, job: Job) -> Reason:
        failed = "" if not job.attempts else f", after {quantity(job.attempts, 'failed attempt')}"
        if job.run_after is None or job.run_after <= self._now:
            return _fine("run_after", f"It may start now{failed}.")
        because = f": {job.error_message.rstrip('.')}" if failed and job.error_message else ""
        return _waits(
            "run_after",
            f"It may not start before {job.run_after:%Y-%m-%d %H:%M:%S} UTC (in "
            f"{lasting((job.run_after - self._now).total_seconds())}){failed}{because}.",
        )

    def _handler(self, job: Job) -> Reason:
        problem = self._why_not_run(job.type)
        if problem is None:
            return _fine("handler", f"This installation can run its type {job.type}.")
        return _blocked(
            "handler",
            problem,
            "The job will fail when an executor takes it. Install the package with the step type or, if the package "
            "cannot be loaded, upgrade it.",
        )

    def _in_lane(self, job: Job, lane: Lane) -> Iterator[Reason]:
        if ("lane", lane.name) in self._holds:
            yield self._hold(self._holds["lane", lane.name])
        queue = self._queue(lane)
        if lane.slots is not None and lane.slots <= 0:
            yield _blocked(
                "slots",
                f"The lane {lane.name} has no slots.",
                f"`photojobs lanes set {lane.name} --slots N` gives slots to the lane.",
            )
        elif lane.slots is not None and queue.running_count >= lane.slots:
            yield self._full(lane, queue)
        else:
            limit = "no limit" if lane.slots is None else f"{lane.slots}"
            yield _fine(
                "slots", f"The lane {lane.name} has a free slot: {queue.running_count} running, slots: {limit}."
            )
        if job.run_after is None and job.held_by is None:
            yield from self._rank(job, lane, queue)

    def _full(self, lane: Lane, queue: LaneQueue) -> Reason:
        named = queue.running[:MAX_NAMED_JOBS]
        held = ", ".join(f"{one.id} ({one.type}) for {self._age(one.started_at or one.created_at)}" for one in named)
        more = " and others" if queue.running_count > len(named) else ""
        stale = [one.id for one in queue.running if self._is_stale(one)]
        says = f"The lane {lane.name} has no free slot; slots: {lane.slots}, in use by {held}{more}."
        if stale:
            return _blocked(
                "slots",
                f"{says} Jobs without a recent heartbeat: {', '.join(map(str, stale))}.",
                "Start `photojobs up` or `photojobs worker`; it gives these jobs to another executor.",
                *stale,
            )
        return _waits(
            "slots",
            says,
            f"`photojobs lanes set {lane.name} --slots N` allows more jobs at a time.",
            *(one.id for one in named),
        )

    def _rank(self, job: Job, lane: Lane, queue: LaneQueue) -> Iterator[Reason]:
        ahead = count_before(self._connection, job, lane)
        best = queue.best_id
        if ahead.count:
            number = f"{'more than ' if ahead.is_more else ''}{ahead.count}"
            yield _waits(
                "rank",
                f"{number} {'job ranks' if ahead.count == 1 else 'jobs rank'} before it in the lane {lane.name}"
                + (f"; the best is job {best}." if best not in (None, job.id) else "."),
                "Higher priorities go first; among equal priorities, the oldest job goes first.",
                *(() if best is None else (best,)),
            )
        else:
            yield _fine("rank", f"No job ranks before it in the lane {lane.name}.")
        if lane.aging_seconds and _is_known(job.created_at):
            older = int((self._now - job.created_at).total_seconds() // lane.aging_seconds)
            yield _fine("aging", f"Because of its age, its rank is {job.priority + older} instead of {job.priority}.")
        if lane.fair_tenants:
            mine = queue.running_by_tenant.get(job.tenant_id, 0)
            before = sorted(
                tenant
                for tenant in queue.tenants_waiting(job.priority)
                if tenant != job.tenant_id and queue.running_by_tenant.get(tenant, 0) < mine
            )
            if before:
                yield _waits(
                    "fairness",
                    f"Its tenant runs {quantity(mine, 'job')} in this lane; "
                    f"{', '.join(before[:MAX_NAMED_JOBS])} "
                    f"{'runs fewer and goes' if len(before) == 1 else 'run fewer and go'} first at equal priority.",
                )

    def _projects(self, job: Job) -> Iterator[Reason]:
        project = None if job.project_id is None else ProjectsRepository(self._connection).get_by_id(job.project_id)
        if project is None:
            return
        others = [other for other in claiming_jobs(self._connection, project.id) if other != job.id]
        if others:
            yield _waits(
                "project",
                f"Job {others[0]} uses project {project_label(project)}; this job waits until that job has ended.",
                f"`photojobs jobs why {others[0]}` explains that job's state.",
                *others,
            )

    def _executor(self, job: Job) -> Reason:
        activity = self.activity
        asks = f"tenant {job.tenant_id} and priority {job.priority}"
        if job.heartbeat_at is not None and self._distance(job.heartbeat_at) < WAITER_STALE_SECONDS:
            return _fine(
                "executor", f"A flow run waits for this job; its last heartbeat was {self._ago(job.heartbeat_at)}."
            )
        if activity.is_any_alive:
            workers = ", ".join(f"{one.worker_id} ({one.running} running)" for one in activity.alive[:MAX_NAMED_JOBS])
            busy = f"Active executors: {workers}." if workers else "Executors were active recently."
            return _waits(
                "executor",
                f"{busy} None of them has taken this job yet.",
                "The setting `concurrency` limits how many jobs a process runs at a time. The process must accept "
                f"{asks} (`photojobs worker` without --tenant and --lane accepts every job).",
            )
        ready_at = job.run_after or job.created_at
        if _is_known(ready_at) and 0 <= (self._now - ready_at).total_seconds() < JUST_QUEUED_SECONDS:
            return _waits("executor", "It was queued just now.")
        return _blocked(
            "executor",
            "No worker or flow run is active: there is no recent heartbeat.",
            f"Start `photojobs up` or `photojobs worker`; it must accept {asks}.",
        )

    def _queue(self, lane: Lane) -> LaneQueue:
        if lane.name not in self._queues:
            self._queues[lane.name] = read_lane_queue(self._connection, lane, now=self._now)
        return self._queues[lane.name]

    def _is_stale(self, job: Job) -> bool:
        sign = job.heartbeat_at or job.started_at or job.created_at
        return not _is_known(sign) or self._distance(sign) > self._stale_seconds

    def _distance(self, moment: datetime) -> float:
        # An executor that wrote a much later time than now may have died before the clock was set back.
        return abs((self._now - moment).total_seconds())

    def _age(self, moment: datetime) -> str:
        if not _is_known(moment):
            return "an unknown time"
        return lasting(max(0.0, (self._now - moment).total_seconds()))

    def _ago(self, moment: datetime) -> str:
        return f"{self._age(moment)} ago"


def _is_known(moment: datetime | None) -> bool:
    """Return whether a time is known. Other programs may insert rows with a text that cannot be read as a time."""
    return moment is not None


def _reason(standing: Standing, name: str, says: str, remedy: str = "", *job_ids: int) -> Reason:
    # Both texts can have names that other programs chose, so control characters are escaped.
    return Reason(name=name, standing=standing, says=printable(says), remedy=printable(remedy), job_ids=job_ids)


_fine = partial(_reason, Standing.FINE)
_waits = partial(_reason, Standing.WAITS)
_blocked = partial(_reason, Standing.BLOCKED)
