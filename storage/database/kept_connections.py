"""Keeps connections to an SQLite file open, so that short transactions reuse them without the pool.

Taking a connection from the pool and returning it would add a tenth to the time of a claim. No connection that is kept
here has an open transaction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, PoolProxiedConnection


class KeptConnections:
    """Takes connections from an engine's pool, and keeps them for the next use instead of returning them.

    It keeps as many connections as were ever in use at the same time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # The methods `append` and `pop` of a deque are atomic, so no two threads get the same connection.
        self._idle: deque[tuple[PoolProxiedConnection, Any]] = deque()

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """Give the block a driver's connection for single statements, each of which is its own transaction."""
        try:
            pooled, driver = self._idle.pop()
        except IndexError:
            pooled = self._engine.raw_connection()
            driver = pooled.driver_connection
        try:
            yield driver
        except BaseException:
            # The connection may be in any state, so it must not be used again.
            pooled.invalidate()
            pooled.close()
            raise
        self._idle.append((pooled, driver))

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Give the block a driver's connection in a transaction that may write."""
        with self.connection() as driver:
            driver.execute("BEGIN IMMEDIATE")
            yield driver
            driver.execute("COMMIT")

    def close(self) -> None:
        """Return every idle connection to the pool."""
        while self._idle:
            pooled, _ = self._idle.pop()
            pooled.close()
