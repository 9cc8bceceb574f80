"""Makes each transaction of the embedded server in SQLite take the write lock at its beginning.

Prefect begins most transactions deferred. If such a transaction has read, and another connection then writes, the
transaction's own write fails at once, whatever the busy timeout is. The API then answers 503, and the page shows an
error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import provide_database_interface, set_database_config
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


class SerialWriters(AioSqliteConfiguration):
    """Prefect's configuration for SQLite, except that every explicit transaction begins with `BEGIN IMMEDIATE`.

    Reads outside of a transaction are not affected: they see the last commit, and never wait.
    """

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """Begin a transaction with the write lock; wait for the lock at most for Prefect's busy timeout, 60 s."""
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def serialize_writers() -> None:
    """Let the Prefect server in this process use `SerialWriters`, if its database is SQLite."""
    configuration = provide_database_interface().database_config
    if isinstance(configuration, AioSqliteConfiguration):
        set_database_config(SerialWriters(configuration.connection_url))
