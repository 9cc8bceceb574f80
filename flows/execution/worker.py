"""The worker, which runs the best jobs of its lanes without Prefect."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows.execution.executor import Executor
from flows.execution.sweep import Sweeper, sweep
from flows.process.runtime import Runtime
from storage.queue.claims import next_due_at
from storage.queue.exchange import End, Exchanged, Wanted
from storage.queue.jobs import JobsRepository
from storage.queue.lanes import LanesRepository
from storage.records import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainSummary:
    """The runs of jobs that a worker made, counted by the status after each; a repeated job counts as `queued`."""

    ended: dict[str, int]

    @property
    def total(self) -> int:
        """The number of runs."""
        return sum(self.ended.values())


class Lanes:
    """The source of an executor that serves lanes: the jobs of all tasks, and standalone jobs.

    Args:
        runtime: the runtime of the executor.
        names: the names of the lanes, in order; by default all lanes, the highest first.
        tenant_id: serve only this tenant.
    """

    def __init__(self, runtime: Runtime, names: Sequence[str] | None, *, tenant_id: str | None = None) -> None:
        self._runtime = runtime
        known = LanesRepository(runtime.database)
        lanes = [known.get(name).name for name in names] if names else [lane.name for lane in known.list()]
        self._wanted = Wanted(lanes=tuple(lanes), tenant_id=tenant_id)

    def exchange(self, ended: Sequence[End], limit: int) -> Exchanged:
        """Write the ends of jobs, and claim the best jobs of the first lane that has any."""
        jobs = JobsRepository(self._runtime.database)
        return jobs.claim(self._runtime.worker_id, self._wanted, limit=limit, ended=ended)

    def next_due_seconds(self) -> float:
        """Return the seconds until the first delayed job is due; infinite if it is due already and waits for a slot."""
        due_at = next_due_at(self._runtime.database)
        seconds = math.inf if due_at is None else (due_at - self._runtime.database.clock()).total_seconds()
        return seconds if seconds > 0 else math.inf


class Worker:
    """Runs the jobs of all tasks, and standalone jobs. The setting `concurrency` limits how many run at a time.

    Args:
        runtime: the runtime of this process.
        lanes: the names of the lanes to serve; by default all, the highest first.
        tenant_id: serve only this tenant.
    """

    def __init__(self, runtime: Runtime, *, lanes: Sequence[str] | None = None, tenant_id: str | None = None) -> None:
        self._runtime = runtime
        #: Set when handlers are to stop.
        self._stopping = threading.Event()
        source = Lanes(runtime, lanes, tenant_id=tenant_id)
        self._executor = Executor(runtime, source, reporter=self, stopping=self._stopping)
        # Several threads append to it; a counter would miss some.
        self._ended: list[str] = []

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
        """Stop running handlers at their next checkpoint; their jobs go back to the queue. As safe as `stop`."""
        self._executor.stop_now()

    def began(self, job: Job) -> Callable[[int, int | None], None] | None:
        """Return None, because a worker shows no progress."""

    def ended(self, job: Job, row: Job | None) -> None:
        """Count a run."""
        self._ended.append(row.status if row is not None else "gone")

    def _summary(self) -> DrainSummary:
        return DrainSummary(ended=dict(Counter(self._ended)))


def drain_queue(
    *,
    lane: str | None = None,
    tenant_id: str | None = None,
    runtime: Runtime | None = None,
) -> DrainSummary:
    """Run the queued jobs, the best of each lane first, and return when no job is left to claim.

    Args:
        lane: serve only this lane; by default all lanes, the highest first.
        tenant_id: serve only this tenant.
        runtime: by default that of this process.

    Raises:
        UnknownLane: there is no such lane.
    """
    worker = Worker(runtime or Runtime.current(), lanes=None if lane is None else [lane], tenant_id=tenant_id)
    return worker.drain()
