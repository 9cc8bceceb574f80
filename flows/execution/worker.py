"""The worker, which runs the best jobs of its lanes without Prefect. A lane is a range of priorities with slots.

`RANK` in `storage.queue.exchange_statements` decides which job of a lane runs next. `flows.process.executor` decides
how many run at a time, and how the worker stops.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flows.execution.job_run import run_claimed_job
from flows.execution.sweep import Sweeper, sweep
from flows.process.executor import EndWriter, Executor
from flows.process.runtime import Runtime
from storage.queue.claims import next_due_at
from storage.queue.exchange import End, Exchanged, Wanted
from storage.queue.jobs import JobsRepository
from storage.queue.lanes import LanesRepository
from storage.records import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainSummary:
    """Counts runs of jobs by the status of the job after the run.

    A job that will be repeated counts as `queued`, and a job whose row no longer exists as `removed`.
    """

    ended: dict[str, int]

    @property
    def total(self) -> int:
        """The number of all runs of jobs."""
        return sum(self.ended.values())


class Lanes:
    """The source of an executor that serves lanes: the jobs of all tasks, and standalone jobs.

    Args:
        runtime: the runtime of the executor.
        names: the names of the lanes, in order; by default all lanes, the highest first.
        tenant_id: the only tenant to serve; by default all tenants.
    """

    def __init__(self, runtime: Runtime, names: Sequence[str] | None, *, tenant_id: str | None = None) -> None:
        self._runtime = runtime
        known = LanesRepository(runtime.database)
        lanes = [known.get(name).name for name in names] if names else [lane.name for lane in known.list()]
        self._wanted = Wanted(lanes=tuple(lanes), tenant_id=tenant_id)
        self._stopping = threading.Event()
        #: The status of each job after its run; `removed` if its row no longer exists.
        self.ended: list[str] = []

    def exchange(self, ended: Sequence[End], limit: int) -> Exchanged:
        """Write the ends of jobs, and claim the best jobs; jobs of the first lane come before jobs of the next lane."""
        jobs = JobsRepository(self._runtime.database)
        return jobs.claim(self._runtime.worker_id, self._wanted, limit=limit, ended=ended)

    def seconds_to_wait(self, *, has_room: bool) -> float:
        """Return the seconds until the first delayed job is due.

        The result is infinite if no job is delayed, if no thread is free, or if the first delayed job is due already
        and waits for a slot.
        """
        due_at = next_due_at(self._runtime.database) if has_room else None
        seconds = math.inf if due_at is None else (due_at - self._runtime.database.clock()).total_seconds()
        return seconds if seconds > 0 else math.inf

    def is_over(self) -> bool:
        """Return False, because jobs may be queued at any time."""
        return False

    def run(self, job: Job, write_end: EndWriter) -> None:
        """Run a claimed job to its end."""
        ended = run_claimed_job(job, self._runtime, stopping=self._stopping, write_end=write_end)
        # Several threads append to the list at once. A shared counter could miss some of the jobs, so the jobs are not
        # counted here.
        self.ended.append("removed" if ended is None else ended.status)

    def give_back(self, job: Job) -> None:
        """Queue a claimed job again, because no thread could be started for it."""
        JobsRepository(self._runtime.database).hand_back(job.id, claim_token=str(job.claim_token))

    def stop_running(self) -> None:
        """Make running handlers stop at their next checkpoint; their jobs go back to the queue."""
        self._stopping.set()


class Worker:
    """Runs the jobs of all tasks, and standalone jobs. The setting `concurrency` limits how many run at a time.

    Args:
        runtime: the runtime of this process.
        lanes: the names of the lanes to serve; by default all, the highest first.
        tenant_id: serve only this tenant.
    """

    def __init__(self, runtime: Runtime, *, lanes: Sequence[str] | None = None, tenant_id: str | None = None) -> None:
        self._runtime = runtime
        self._lanes = Lanes(runtime, lanes, tenant_id=tenant_id)
        self._executor = Executor(self._lanes, settings=runtime.settings, wakeups=runtime.wakeups)

    def run(self) -> DrainSummary:
        """Run jobs until `stop` is called, then finish the running jobs or hand them back, within `drain_seconds`."""
        with Sweeper(self._runtime):
            self._executor.run(until_empty=False)
        return self._summary()

    def drain(self) -> DrainSummary:
        """Run all jobs that may run now, and return when no job is left to claim."""
        sweep(self._runtime)
        self._executor.run(until_empty=True)
        return self._summary()

    def stop(self) -> None:
        """Claim no more jobs. A signal handler may call this, and more than once."""
        self._executor.stop()

    def stop_now(self) -> None:
        """Stop running handlers at their next checkpoint; their jobs go back to the queue.

        A signal handler may call this, and more than once.
        """
        self._executor.stop_now()

    def _summary(self) -> DrainSummary:
        return DrainSummary(ended=dict(Counter(self._lanes.ended)))


def drain_queue(
    *,
    lane: str | None = None,
    tenant_id: str | None = None,
    runtime: Runtime | None = None,
) -> DrainSummary:
    """Run the queued jobs, the best of each lane first, and return when no job is left to claim.

    Args:
        lane: the only lane to serve; by default all lanes, the highest first.
        tenant_id: the only tenant to serve; by default all tenants.
        runtime: the runtime to use; by default the runtime of this process.

    Raises:
        UnknownLane: there is no such lane.
    """
    worker = Worker(runtime or Runtime.current(), lanes=None if lane is None else [lane], tenant_id=tenant_id)
    return worker.drain()
