"""Notifies the waiters of other processes that there may be work. Only on PostgreSQL; on SQLite the waiters poll."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, text

from storage.database.column_types import UtcTimestamp
from storage.database.tables import ATTENDED
from storage.lifecycle.heartbeats import ATTENDANCE_SECONDS

#: The notification channel of the waiters; the payload is always empty.
CHANNEL = "photojobs_jobs"

_IS_WAITED_FOR = f"EXISTS (SELECT 1 FROM jobs WHERE {ATTENDED} AND heartbeat_at > :fresh_since)"


def notify_waiters(tasks: str) -> str:
    """Return SQL that wakes the waiters for a slot and the followers of tasks; `tasks` is an SQL condition."""
    return f"""SELECT pg_notify('{CHANNEL}', '') WHERE {_IS_WAITED_FOR}
        OR EXISTS (SELECT 1 FROM tasks WHERE {tasks} AND attended_at > :fresh_since)"""


def notify(connection: Connection) -> None:
    """Wake the waiters of other processes when the transaction commits: there may be new work."""
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY)


def notify_followers(connection: Connection, task_ids: Sequence[str], *, now: datetime) -> None:
    """Wake waiters when the transaction commits: jobs of these tasks, or of no task, have ended and freed slots.

    Notifies only if a process waits for a slot or follows one of the tasks. PostgreSQL commits transactions that notify
    one after another, and workers with a long queue must not be slowed down by that.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY_FOLLOWERS, {"task_ids": list(task_ids), "fresh_since": fresh_since(now)})


def fresh_since(now: datetime) -> datetime:
    """Return the earliest time of a live waiter's or follower's last heartbeat."""
    return now - timedelta(seconds=ATTENDANCE_SECONDS)


_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")
_NOTIFY_FOLLOWERS = text(notify_waiters("id = ANY(:task_ids)")).bindparams(bindparam("fresh_since", type_=UtcTimestamp))
