"""Tables of one connection that nobody else sees, for sets that are too large for memory.

On SQLite they lie in a database of their own, which locks nobody; on both databases they are gone with the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

#: Rows that one statement writes into a temporary table, or that are read from one at a time.
BATCH_SIZE = 5_000


@contextmanager
def temporary_tables(connection: Connection) -> Iterator[Connection]:
    """Let temporary tables be made on a connection for reading, on which no transaction is open.

    The block commits after each step: what it reads from other tables must not keep a transaction open for long.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite:
        # In a file, not in memory as else: a table may hold a row for each of a million files.
        _pragma(connection, "temp_store = FILE")
    try:
        yield connection
    finally:
        try:
            connection.rollback()
            if is_sqlite:
                # Changing it drops every temporary table.
                _pragma(connection, "temp_store = MEMORY")
            else:
                connection.exec_driver_sql("DISCARD TEMP")
                connection.commit()
        except Exception:  # noqa: BLE001 - whatever is left on it, nobody else may get this connection.
            connection.invalidate()


def _pragma(connection: Connection, setting: str) -> None:
    # On the driver's connection: SQLAlchemy would begin a transaction, in which this setting cannot be changed.
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None  # noqa: S101 - it is checked out.
    driver_connection.execute(f"PRAGMA {setting}")
