"""A transaction of the embedded server in SQLite can write after it has read."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text


def test_between_a_transactions_read_and_its_write_no_other_connection_writes(tmp_path: Path) -> None:
    # The import is inside the function, because it would delay each process that collects the tests by a second.
    from deployments.embedded_server.serial_writers import SerialWriters

    file = tmp_path / "prefect.db"
    with closing(sqlite3.connect(file)) as setup:
        setup.execute("CREATE TABLE runs (id INTEGER)")

    async def read_and_write() -> None:
        configuration = SerialWriters(f"sqlite+aiosqlite:///{file}")
        session = await configuration.session(await configuration.engine())
        async with session, configuration.begin_transaction(session):
            await session.execute(text("SELECT count(*) FROM runs"))
            with (
                closing(sqlite3.connect(file, timeout=0)) as other,
                pytest.raises(sqlite3.OperationalError, match="locked"),
            ):
                other.execute("INSERT INTO runs VALUES (2)")
            await session.execute(text("INSERT INTO runs VALUES (1)"))

    asyncio.run(read_and_write())
    with closing(sqlite3.connect(file)) as check:
        assert check.execute("SELECT id FROM runs").fetchall() == [(1,)]
