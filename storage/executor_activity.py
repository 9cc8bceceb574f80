"""Who runs jobs, as far as the tables can tell: executors that beat for what they run, and flow runs that wait.

An idle worker leaves no sign, but none stays idle for longer than a moment while a job could be claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, text

from storage.tables import ATTENDED, RUNNING, UNFINISHED_TASK, jobs, tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """A process that has claimed jobs.

    Attributes:
        running: how many of its claims have not ended.
        last_sign_at: its latest heartbeat.
    """

    worker_id: str
    running: int
    last_sign_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What the tables tell of executors.

    Attributes:
        alive: executors with running jobs that have beaten lately.
        silent: executors with running jobs that have not.
        attended_tasks: unfinished tasks that a flow run follows.
        ended_at: when an executor ended a job last, if that was lately.
    """

    alive: tuple[Executor, ...]
    silent: tuple[Executor, ...]
    attended_tasks: int
    ended_at: datetime | None

    @property
    def is_any_alive(self) -> bool:
        """Whether anybody has given a sign of life lately."""
        return bool(self.alive or self.attended_tasks or self.ended_at)


def read_activity(connection: Connection, *, now: datetime, silent_seconds: float) -> Activity:
    """What the tables tell of executors at this moment; a sign older than `silent_seconds` counts as none."""
    since = now - timedelta(seconds=silent_seconds)
    by_worker = (
        select(jobs.c.worker_id, func.count().label("running"), func.max(jobs.c.heartbeat_at).label("beat"))
        .where(text(RUNNING))
        .group_by(jobs.c.worker_id)
        .order_by(jobs.c.worker_id)
    )
    executors = [
        Executor(worker_id=row.worker_id or "unknown", running=row.running, last_sign_at=row.beat)
        for row in connection.execute(by_worker)
    ]
    alive = tuple(one for one in executors if one.last_sign_at is not None and one.last_sign_at >= since)
    followed = select(func.count()).where(text(UNFINISHED_TASK), tasks.c.attended_at >= since)
    waited_for = select(jobs.c.id).where(text(ATTENDED), jobs.c.heartbeat_at >= since).limit(1)
    # Cancels end jobs as well, and are no executor's.
    ended = select(func.max(jobs.c.finished_at)).where(
        jobs.c.finished_at >= since, jobs.c.worker_id.is_not(None), jobs.c.status.in_(("completed", "failed"))
    )
    return Activity(
        alive=alive,
        silent=tuple(one for one in executors if one not in alive),
        attended_tasks=max(
            connection.execute(followed).scalar_one(), int(connection.execute(waited_for).first() is not None)
        ),
        ended_at=connection.execute(ended).scalar_one(),
    )
