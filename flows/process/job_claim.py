"""An executor's hold on the job that it runs: its token, whether it was lost, and when its time is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import Connection, select

from flows.errors import ClaimLost, StepTimeout, StopRequested
from flows.process.patience import insist
from storage.database.engine import Database
from storage.database.tables import jobs
from storage.lifecycle import heartbeats
from storage.records import Job

_Result = TypeVar("_Result")


def awake_or_asleep() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where the system has one."""
    # `time.monotonic` stands still meanwhile, and a night would look like a moment.
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(slots=True, eq=False)
class JobClaim:
    """A claimed job in the hands of one executor.

    Attributes:
        job: the row as it was claimed.
        trusted_seconds: how long a confirmed heartbeat is believed without asking the database again.
        deadline: when the step's time limit is over, on the monotonic clock; None where it has none.
        stopping: set when the process is to end and running handlers are to hand their jobs back.
        confirmed_at: when the claim was last known to stand; it begins with the moment of the claim itself.
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
        """The claim token, which every write of this executor carries."""
        assert self.job.claim_token is not None  # noqa: S101 - a claim always writes one.
        return self.job.claim_token

    def confirm(self, asked_at: float) -> None:
        """Note that the claim stood at a moment, by the clock `awake_or_asleep`.

        It is the moment before the database was asked: this process may have been stopped since.
        """
        self.confirmed_at = max(self.confirmed_at, asked_at)

    def check(self) -> None:
        """Return if the executor may go on.

        After a pause of the process (a stopped or swapped-out program), the heartbeat of before says nothing, so the
        database is asked; while it is away, this waits.

        Raises:
            ClaimLost: the job was canceled or given to another executor.
            StepTimeout: the step's time is over.
            StopRequested: the process is to end.
            DatabaseFault: the process is to end, and the database cannot be asked.
        """
        if not self.lost.is_set() and awake_or_asleep() - self.confirmed_at > self.trusted_seconds:
            self.insist(self._ask)
        if self.lost.is_set():
            raise self._loss()
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise StepTimeout(f"job {self.job.id}: took longer than its step's timeout_seconds")
        if self.stopping.is_set():
            raise StopRequested(f"job {self.job.id}: the process is to end")

    def lock(self, connection: Connection) -> None:
        """Lock the job's row until the transaction ends.

        Raises:
            ClaimLost: the job was canceled or given to another executor.
        """
        claimed = (jobs.c.id == self.job.id, jobs.c.claim_token == self.token, jobs.c.status == "running")
        if connection.execute(select(jobs.c.id).where(*claimed).with_for_update()).first() is None:
            self.lost.set()
            raise self._loss()

    def insist(self, call: Callable[[], _Result], *, stopping_seconds: float = 0.0) -> _Result:
        """Repeat a call until the database takes it, the claim is lost, or the process is to end.

        Args:
            call: as for `flows.process.patience.insist`.
            stopping_seconds: for so long it goes on when the process is to end.
        """
        stopping_since: list[float] = []

        def is_over() -> bool:
            if self.stopping.is_set() and not stopping_since:
                stopping_since.append(time.monotonic())
            has_stopped = bool(stopping_since) and time.monotonic() - stopping_since[0] >= stopping_seconds
            return has_stopped or self.lost.is_set()

        return insist(call, unless=is_over)

    def _loss(self) -> ClaimLost:
        return ClaimLost(f"job {self.job.id}: was canceled or given to another executor")

    def _ask(self) -> None:
        asked_at = awake_or_asleep()
        if heartbeats.beat(self.database, [(self.job.id, self.token)]):
            self.lost.set()
        else:
            self.confirm(asked_at)
