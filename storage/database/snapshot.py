"""Reads all tables as they were at one moment, also if another program changes their columns meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, inspect

from storage.database.engine import Database
from storage.database.tables import metadata


@contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """Open a connection for reading on which all statements see the same snapshot of our tables.

    On PostgreSQL, a change of the columns of these tables waits until the block ends. Changes of rows do not wait.

    Raises:
        DatabaseBusy: another program changes the columns of a table, and takes longer than `busy_timeout_seconds`.
    """
    if not database.is_postgresql:
        with database.connect() as connection:
            yield connection
        return
    with database.connect() as connection:
        present = set(inspect(connection).get_table_names())
        quote = connection.dialect.identifier_preparer.quote
        names = ", ".join(quote(table.name) for table in metadata.sorted_tables if table.name in present)
    with database.connect() as connection:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if names:
            # The first query takes the snapshot, so the lock comes before it. Without the lock, another program could
            # rewrite a table after the snapshot, for example for a new column, and the table would look empty.
            connection.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
        yield connection
