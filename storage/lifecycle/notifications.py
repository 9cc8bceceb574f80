"""On PostgreSQL, notifies waiting processes that there may be work. On SQLite, waiting processes poll.

`storage.queue.wakeups` decides how a process waits, and how often it polls.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, text

from storage.database.column_types import UtcTimestamp
from storage.database.tables import WAITED_FOR
from storage.lifecycle.heartbeats import WAITER_STALE_SECONDS

#: The notification channel of the waiters; the payload is always empty.
CHANNEL = "photojobs_jobs"

#: The condition that an executor that waits for a job is alive.
IS_FRESH = "heartbeat_at BETWEEN :fresh_since AND :fresh_until"


def has_waiters(touched: str) -> str:
    """Return the SQL condition that an executor waits for a slot, or a process waits for a task of the table `touched`.

    `touched` has a column `task_id`. `touched` is not joined with `tasks`, because PostgreSQL might then read all
    tasks. `ORDER BY` leaves PostgreSQL only one index to read the jobs by.
    """
    waited_for = f"SELECT 1 FROM jobs WHERE {WAITED_FOR} AND {IS_FRESH} ORDER BY priority DESC LIMIT 1"
    return f"""(({waited_for}) IS NOT NULL OR EXISTS (
        SELECT 1 FROM {touched} WHERE (SELECT attended_at FROM tasks WHERE tasks.id = task_id) > :fresh_since))"""


def notify_waiters(touched: str) -> str:
    """Return SQL that wakes the executors that wait for a slot and the processes that wait for tasks of `touched`."""
    return f"SELECT pg_notify('{CHANNEL}', '') WHERE {has_waiters(touched)}"


def notify(connection: Connection) -> None:
    """Wake the waiters in other processes when the transaction commits, because there may be new work."""
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY)


def notify_followers(connection: Connection, task_ids: Sequence[str], *, now: datetime) -> None:
    """Wake waiters when the transaction commits, because jobs of these tasks have ended.

    `task_ids` is empty if only standalone jobs have ended.

    Sends a notification only if a process waits for a slot or for one of the tasks. PostgreSQL commits transactions
    with notifications one after another, which must not slow down workers that have a long queue.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY_FOLLOWERS, {"task_ids": list(task_ids), **fresh(now)})


def fresh(now: datetime) -> dict[str, datetime]:
    """Return the parameters of `IS_FRESH`.

    A heartbeat that is much later than now is not fresh: its process may have died before the clock was set back.
    """
    stale = timedelta(seconds=WAITER_STALE_SECONDS)
    return {"fresh_since": now - stale, "fresh_until": now + stale}


_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")
_NOTIFY_FOLLOWERS = text(notify_waiters("unnest(CAST(:task_ids AS text[])) AS touched(task_id)")).bindparams(
    bindparam("fresh_since", type_=UtcTimestamp), bindparam("fresh_until", type_=UtcTimestamp)
)
