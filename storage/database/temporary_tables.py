"""Temporary tables of one connection, for sets that are too large for memory.

On SQLite they are in a separate file and lock nothing. On both databases they are dropped at the end of the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

#: Rows that one statement writes to a temporary table, or that are read from one in a batch.
BATCH_SIZE = 5_000


@contextmanager
def temporary_tables(connection: Connection) -> Iterator[Connection]:
    """Allow temporary tables on a connection for reading that has no open transaction.

    The block must commit after each step, so that no transaction stays open for long.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite:
        # In a file, although the setting is otherwise MEMORY: a table may have a row for each of a million files.
        _pragma(connection, "temp_store = FILE")
    try:
        yield connection
    finally:
        try:
            connection.rollback()
            if is_sqlite:
                # A change of this setting drops every temporary table.
                _pragma(connection, "temp_store = MEMORY")
            else:
                connection.exec_driver_sql("DISCARD TEMP")
                connection.commit()
        except Exception:  # noqa: BLE001 - temporary tables may be left: the connection must not be used again.
            connection.invalidate()


def _pragma(connection: Connection, setting: str) -> None:
    # Use the driver's connection: SQLAlchemy would begin a transaction, in which this setting cannot change.
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None  # noqa: S101 - it is checked out.
    driver_connection.execute(f"PRAGMA {setting}")
