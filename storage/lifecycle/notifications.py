"""Telling the waiters of other processes that something may be done now. On PostgreSQL alone: elsewhere they look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, text

from storage.database.column_types import UtcTimestamp
from storage.database.tables import ATTENDED
from storage.lifecycle.heartbeats import ATTENDANCE_SECONDS

#: The notification channel on which waiters listen; the payload says nothing that they need.
CHANNEL = "photojobs_jobs"

_SOMEBODY_WAITS = f"EXISTS (SELECT 1 FROM jobs WHERE {ATTENDED} AND heartbeat_at > :fresh_since)"

#: Part of statements that make a slot free: wakes those who wait for one, where there are any.
NOTIFY_WHO_WAITS = f"SELECT pg_notify('{CHANNEL}', '') WHERE {_SOMEBODY_WAITS}"


def notify_who_follows(tasks: str) -> str:
    """Part of statements that end jobs: wakes as well who follows the tasks, a condition on rows of `tasks`."""
    return f"""{NOTIFY_WHO_WAITS}
        OR EXISTS (SELECT 1 FROM tasks WHERE {tasks} AND attended_at > :fresh_since)"""


def notify(connection: Connection) -> None:
    """Wake the waiters of other processes when the transaction commits: there is a job that was not there before."""
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY)


def notify_followers(connection: Connection, task_ids: Sequence[str], *, now: datetime) -> None:
    """Wake waiters when the transaction commits, in which jobs of these tasks ended, or others, so that slots are free.

    Only where somebody waits for a slot or follows one of the tasks: the commits of those who notify take turns, which
    workers that are busy with a long queue must not pay for.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY_FOLLOWERS, {"task_ids": list(task_ids), "fresh_since": fresh_since(now)})


def fresh_since(now: datetime) -> datetime:
    """The moment since when somebody who waits or follows must have beaten to be alive."""
    return now - timedelta(seconds=ATTENDANCE_SECONDS)


_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")
_NOTIFY_FOLLOWERS = text(notify_who_follows("id = ANY(:task_ids)")).bindparams(
    bindparam("fresh_since", type_=UtcTimestamp)
)
