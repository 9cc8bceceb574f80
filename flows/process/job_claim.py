"""The claim of an executor on the job that it runs: its token, whether it was lost, and its deadline.

`flows.process.heartbeat_thread` finds out that a claim is lost, for example because the task was canceled, at the next
heartbeat. In the process that cancels, `flows.execution.task_stops` marks the claim as lost at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import Connection, select

from flows.errors import ClaimLost, StepTimeout, StopRequested
from flows.process.database_retry import retry_while_unavailable
from storage.database.engine import Database
from storage.database.tables import jobs
from storage.lifecycle import heartbeats
from storage.records import Job

_Result = TypeVar("_Result")


def awake_or_asleep() -> float:
    """Return the seconds of a clock that also counts while the machine sleeps, if the system has one."""
    # `time.monotonic` stops while the machine sleeps, so a claim would seem valid after a night of sleep.
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(slots=True, eq=False)
class JobClaim:
    """The claim of one executor on one job.

    Attributes:
        job: the job's row when it was claimed.
        trusted_seconds: how long the claim counts as valid after a confirmation, without asking the database.
        deadline: the end of the step's time limit, on the monotonic clock; None without a limit.
        stopping: set when running handlers are to hand their jobs back, because the process is to end or stops working
            on the task.
        lost: set when the claim was found to be lost.
        confirmed_at: the last time at which the claim was known to be valid, on the clock `awake_or_asleep`; at first,
            the time of the claim.
    """

    database: Database
    job: Job
    trusted_seconds: float
    deadline: float | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)
    confirmed_at: float = 0.0

    def __post_init__(self) -> None:
        claimed_at = self.job.heartbeat_at or self.job.started_at
        if claimed_at is not None:
            age_seconds = (self.database.clock() - claimed_at).total_seconds()
            self.confirmed_at = awake_or_asleep() - max(0.0, age_seconds)

    @property
    def token(self) -> str:
        """The claim token; every write of this executor checks it."""
        assert self.job.claim_token is not None  # noqa: S101 - a claim always writes one.
        return self.job.claim_token

    def confirm(self, asked_at: float) -> None:
        """Store that the claim was valid at `asked_at`, by the clock `awake_or_asleep`.

        Pass the time before the database was asked, because the process may have been paused since.
        """
        self.confirmed_at = max(self.confirmed_at, asked_at)

    def check(self) -> None:
        """Return if the executor may continue, otherwise raise.

        If the last confirmation is too old, for example after a pause of the process, the method asks the database.
        While the database is unavailable, the method waits.

        Raises:
            ClaimLost: the job was canceled or given to another executor.
            StepTimeout: the handler has run for longer than the time limit of the step.
            StopRequested: the process was asked to end, or to stop working on the task.
            DatabaseFault: the process was asked to end, and the database is unavailable.
        """
        if not self.lost.is_set() and awake_or_asleep() - self.confirmed_at > self.trusted_seconds:
            self.retry_while_unavailable(self._ask)
        if self.lost.is_set():
            raise self._loss()
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise StepTimeout(f"job {self.job.id}: the job ran for longer than the timeout_seconds of its step")
        if self.stopping.is_set():
            raise StopRequested(f"job {self.job.id}: the process was asked to end")

    def lock(self, connection: Connection) -> None:
        """Lock the job's row until the transaction ends.

        Raises:
            ClaimLost: the job was canceled or given to another executor.
        """
        claimed = (jobs.c.id == self.job.id, jobs.c.claim_token == self.token, jobs.c.status == "running")
        if connection.execute(select(jobs.c.id).where(*claimed).with_for_update()).first() is None:
            self.lost.set()
            raise self._loss()

    def retry_while_unavailable(self, call: Callable[[], _Result], *, stopping_seconds: float = 0.0) -> _Result:
        """Repeat a call until it succeeds, the claim is lost, or the process was asked to end.

        Args:
            call: a function that reads or writes in its own transaction. Running it twice must be harmless.
            stopping_seconds: how long the call is still repeated after the process was asked to end.

        Raises:
            DatabaseFault: the call did not succeed before that.
        """
        stopping_since: list[float] = []

        def is_over() -> bool:
            if self.stopping.is_set() and not stopping_since:
                stopping_since.append(time.monotonic())
            has_stopped = bool(stopping_since) and time.monotonic() - stopping_since[0] >= stopping_seconds
            return has_stopped or self.lost.is_set()

        return retry_while_unavailable(call, unless=is_over)

    def _loss(self) -> ClaimLost:
        return ClaimLost(f"job {self.job.id}: the job was canceled or given to another executor")

    def _ask(self) -> None:
        asked_at = awake_or_asleep()
        if heartbeats.write_heartbeats(self.database, [(self.job.id, self.token)]):
            self.lost.set()
        else:
            self.confirm(asked_at)
