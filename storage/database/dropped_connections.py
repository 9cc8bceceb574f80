"""Detects pooled connections that the PostgreSQL server has dropped, before they are used.

A connection is tested by a query only if it was idle for long, or if its socket has something to read. A query before
each use would take as long as a claim.
"""

from __future__ import annotations

import select
import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError

from storage.database.answer_watch import AnswerWatch

#: A connection that was idle for this number of seconds is tested by a query, because a network can drop it silently.
SILENT_SECONDS = 30.0

#: How many seconds a server may take to answer the test query; a frozen server never answers.
ANSWER_SECONDS = 5.0

_watch = AnswerWatch()


def replace_dropped_connections(engine: Engine) -> None:
    """Make the pool of an engine test a connection when it is checked out, and replace a dropped connection."""

    @event.listens_for(engine, "checkin")
    def note(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def check(connection: Any, record: Any, _proxy: object) -> None:
        idle_since = record.info.get("idle_since")
        if idle_since is None:
            return
        is_silent = time.monotonic() - idle_since > SILENT_SECONDS
        # An idle connection usually has something to read only if the server has closed it, so it is tested.
        if (is_silent or _has_something_to_read(connection)) and not _answers(engine, connection):
            raise DisconnectionError


def _has_something_to_read(connection: Any) -> bool:
    poller = select.poll()
    poller.register(connection.pgconn.socket, select.POLLIN)
    return bool(poller.poll(0))


def _answers(engine: Engine, connection: Any) -> bool:
    try:
        with _watch.within(ANSWER_SECONDS, connection):
            return bool(engine.dialect.do_ping(connection))
    except engine.dialect.loaded_dbapi.Error:
        return False
