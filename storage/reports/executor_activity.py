"""Finds the executors and flow runs that are alive, according to the heartbeats in the tables.

An idle worker writes no heartbeat. So an idle worker is not found, but it would claim a waiting job at once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import Connection, TextualSelect, bindparam, func, select, text

from storage.database.column_types import Identifier, UtcTimestamp
from storage.database.tables import RUNNING, UNFINISHED_TASK, WAITED_FOR, jobs, tasks
from storage.lifecycle.job_statement import by_index


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """A process that runs jobs.

    Attributes:
        last_sign_at: the time of the executor's latest heartbeat; None if it has written none.
    """

    worker_id: str
    running: int
    last_sign_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """The recent activity of executors, from the tables.

    Attributes:
        alive: executors with running jobs and a recent heartbeat.
        silent: executors with running jobs, but without a recent heartbeat.
        followed_tasks: the number of unfinished tasks that flow runs follow; at least 1 if a process waits for a
            queued job.
        ended_at: when an executor last ended a job; None if none did so recently.
    """

    alive: tuple[Executor, ...]
    silent: tuple[Executor, ...]
    followed_tasks: int
    ended_at: datetime | None

    @property
    def is_any_alive(self) -> bool:
        """Whether there is any recent activity of an executor or flow run."""
        return bool(self.alive or self.followed_tasks or self.ended_at)


def read_activity(connection: Connection, *, now: datetime, silent_seconds: float) -> Activity:
    """Return the activity of executors within the last `silent_seconds`.

    Times that are more than `silent_seconds` in the future do not count: they may be from before the clock was set
    back.
    """
    since, until = now - timedelta(seconds=silent_seconds), now + timedelta(seconds=silent_seconds)
    by_worker = (
        select(jobs.c.worker_id, func.count().label("running"), func.max(jobs.c.heartbeat_at).label("last_sign_at"))
        .where(text(RUNNING))
        .group_by(jobs.c.worker_id)
        .order_by(jobs.c.worker_id)
    )
    executors = [
        Executor(worker_id=row.worker_id or "unknown", running=row.running, last_sign_at=row.last_sign_at)
        for row in connection.execute(by_worker)
    ]
    alive = tuple(one for one in executors if one.last_sign_at is not None and since <= one.last_sign_at <= until)
    followed = select(func.count()).where(text(UNFINISHED_TASK), tasks.c.attended_at.between(since, until))
    latest_signs = _latest_signs(connection.dialect.name == "postgresql")
    signs = connection.execute(latest_signs, {"since": since, "until": until}).one()
    return Activity(
        alive=alive,
        silent=tuple(one for one in executors if one not in alive),
        followed_tasks=max(connection.execute(followed).scalar_one(), int(signs.waited_for is not None)),
        ended_at=signs.ended_at,
    )


@cache
def _latest_signs(is_postgresql: bool) -> TextualSelect:
    attended, finished = (by_index(is_postgresql, index) for index in ("idx_jobs_attended", "idx_jobs_finished"))
    # Canceled jobs do not count, because canceling a job needs no executor.
    return (
        text(f"""
        SELECT (
            SELECT id FROM jobs{attended} WHERE {WAITED_FOR} AND heartbeat_at BETWEEN :since AND :until LIMIT 1
        ) AS waited_for, (
            SELECT max(finished_at) FROM jobs{finished}
            WHERE finished_at IS NOT NULL AND finished_at BETWEEN :since AND :until
                AND worker_id IS NOT NULL AND status IN ('completed', 'failed')
        ) AS ended_at
        """)
        .bindparams(bindparam("since", type_=UtcTimestamp), bindparam("until", type_=UtcTimestamp))
        .columns(waited_for=Identifier, ended_at=UtcTimestamp)
    )
