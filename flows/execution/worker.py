"""A worker: runs the best jobs of its lanes, without Prefect."""

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
    """How the jobs ended that a worker ran; a job that is to be repeated counts each time as `queued`."""

    ended: dict[str, int]

    @property
    def total(self) -> int:
        """How many runs of jobs there were."""
        return sum(self.ended.values())


class Lanes:
    """The source of an executor that serves lanes: jobs of any task, and standalone ones.

    Args:
        runtime: of the executor.
        names: of the lanes; by default all, the highest first.
        tenant_id: serve only this tenant.
    """

    def __init__(self, runtime: Runtime, names: Sequence[str] | None, *, tenant_id: str | None = None) -> None:
        self._runtime = runtime
        known = LanesRepository(runtime.database)
        lanes = [known.get(name).name for name in names] if names else [lane.name for lane in known.list()]
        self._wanted = Wanted(lanes=tuple(lanes), tenant_id=tenant_id)

    def exchange(self, ended: Sequence[End], limit: int) -> Exchanged:
        """Hand in ended jobs, and take the best jobs of the first of the lanes that has any."""
        jobs = JobsRepository(self._runtime.database)
        return jobs.claim(self._runtime.worker_id, self._wanted, limit=limit, ended=ended)

    def next_due_seconds(self) -> float:
        """Until the first of the delayed jobs is due; what is due already, and was not taken, has no slot."""
        due_at = next_due_at(self._runtime.database)
        seconds = math.inf if due_at is None else (due_at - self._runtime.database.clock()).total_seconds()
        return seconds if seconds > 0 else math.inf


class Worker:
    """Runs jobs of any task and standalone ones, as many at a time as the setting `concurrency` says.

    Args:
        runtime: what the executors of this process share.
        lanes: names of the lanes to serve; by default all, the highest first.
        tenant_id: serve only this tenant.
    """

    def __init__(self, runtime: Runtime, *, lanes: Sequence[str] | None = None, tenant_id: str | None = None) -> None:
        self._runtime = runtime
        #: What handlers see when they are to stop.
        self._stopping = threading.Event()
        source = Lanes(runtime, lanes, tenant_id=tenant_id)
        self._executor = Executor(runtime, source, reporter=self, stopping=self._stopping)
        # Appended to by several threads; a counter would lose some.
        self._ended: list[str] = []

    def run(self) -> DrainSummary:
        """Work until `stop` is called, then finish what runs, or hand it back, within `drain_seconds`."""
        with Sweeper(self._runtime):
            self._executor.run(until_empty=False)
        return self._summary()

    def drain(self) -> DrainSummary:
        """Work off everything that may run now, and return when nothing is left to claim."""
        sweep(self._runtime)
        self._executor.run(until_empty=True)
        return self._summary()

    def stop(self) -> None:
        """Claim nothing more; safe to call from a signal handler, and more than once."""
        self._executor.stop()

    def stop_now(self) -> None:
        """Have running handlers stop at their next checkpoint; their jobs go back to the queue. As safe as `stop`."""
        self._executor.stop_now()

    def began(self, job: Job) -> Callable[[int, int | None], None] | None:
        """A job began; nothing follows its progress."""

    def ended(self, job: Job, row: Job | None) -> None:
        """Count a job that is over."""
        self._ended.append(row.status if row is not None else "gone")

    def _summary(self) -> DrainSummary:
        return DrainSummary(ended=dict(Counter(self._ended)))


def drain_queue(
    *,
    lane: str | None = None,
    tenant_id: str | None = None,
    runtime: Runtime | None = None,
) -> DrainSummary:
    """Work off the jobs that wait, the best of each lane first, and return when nothing is left to claim.

    Args:
        lane: only this lane; by default all of them, the highest first.
        tenant_id: only this tenant.
        runtime: by default the one of this process.

    Raises:
        UnknownLane: there is no such lane.
    """
    worker = Worker(runtime or Runtime.current(), lanes=None if lane is None else [lane], tenant_id=tenant_id)
    return worker.drain()
