"""Connections to an SQLite file that single statements use in turn, without going back to the pool in between.

Taking a connection from the pool and giving it back costs a tenth of what claiming a job costs. Only for statements
that are a transaction of their own: what is kept here is never within one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, PoolProxiedConnection


class KeptConnections:
    """As many connections of an engine's pool as threads ran a statement at the same moment."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Its `append` and `pop` are atomic, so no two threads get the same connection.
        self._idle: deque[tuple[PoolProxiedConnection, Any]] = deque()

    def run(self, sql: str, values: Mapping[str, Any]) -> list[Any]:
        """Run one statement as a transaction of its own; returns its rows."""
        try:
            pooled, driver = self._idle.pop()
        except IndexError:
            pooled = self._engine.raw_connection()
            driver = pooled.driver_connection
        try:
            found: list[Any] = driver.execute(sql, values).fetchall()
        except BaseException:
            # Whatever state it is in, nobody else gets this connection.
            pooled.invalidate()
            pooled.close()
            raise
        self._idle.append((pooled, driver))
        return found

    def close(self) -> None:
        """Give every connection that is not in use back to the pool."""
        while self._idle:
            pooled, _ = self._idle.pop()
            pooled.close()
