"""How the embedded server begins transactions in SQLite: each takes the write lock first, one after another.

Prefect begins most transactions deferred. If another connection writes after such a transaction has read, its own
write fails at once, whatever the busy timeout; the API then answers 503, and the page shows an error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import provide_database_interface, set_database_config
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


class SerialWriters(AioSqliteConfiguration):
    """Prefect's configuration for SQLite, with every explicit transaction begun by `BEGIN IMMEDIATE`.

    Reads outside of a transaction are not affected: they see the last commit, and wait for nothing.
    """

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """Begin with the write lock held; waits for it as long as Prefect's busy timeout, 60 s."""
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def serialise_writers() -> None:
    """Have this process's Prefect server use `SerialWriters`, if its database is SQLite."""
    configuration = provide_database_interface().database_config
    if isinstance(configuration, AioSqliteConfiguration):
        set_database_config(SerialWriters(configuration.connection_url))
