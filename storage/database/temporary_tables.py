"""Allows temporary tables on a connection, for data that is too large for memory.

On SQLite the tables are in a separate file, and writing to them locks nothing. On both databases they are dropped at
the end of the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

#: The number of rows that one statement writes to a temporary table, or reads from it.
BATCH_SIZE = 5_000


@contextmanager
def temporary_tables(connection: Connection) -> Iterator[Connection]:
    """Allow temporary tables on a connection for reading that has no open transaction.

    The block must commit after each step, so that no transaction stays open for long.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite:
        # The tables are in a file, unlike the temporary tables of other connections, because they may have a row for
        # each of a million files.
        _pragma(connection, "temp_store = FILE")
    try:
        yield connection
    finally:
        try:
            connection.rollback()
            if is_sqlite:
                # Changing this setting drops every temporary table.
                _pragma(connection, "temp_store = MEMORY")
            else:
                connection.exec_driver_sql("DISCARD TEMP")
                connection.commit()
        except Exception:  # noqa: BLE001 - temporary tables may be left, so the connection must not be used again.
            connection.invalidate()


def _pragma(connection: Connection, setting: str) -> None:
    # The driver's connection is used, because SQLAlchemy would begin a transaction, in which the setting cannot change.
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None  # noqa: S101 - it is checked out.
    driver_connection.execute(f"PRAGMA {setting}")
