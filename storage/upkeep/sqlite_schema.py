"""Opens an SQLite file for reading, and reads its tables, indexes, triggers and views from its schema."""

import os
import sqlite3
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from storage.database.engine import BUSY_TIMEOUT_SECONDS
from storage.errors import DatabaseUnavailable
from storage.upkeep.table_definition import TableDefinition, quote


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table in a file.

    Attributes:
        key_position: the column's position in the primary key, from 1; 0 if the column is not part of the key.
        is_generated: whether SQLite computes the value, so that it cannot be written.
    """

    name: str
    type: str
    is_required: bool
    default: str | None
    key_position: int
    is_generated: bool


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of one column; `target` is None if it names no column, so that it refers to the primary key."""

    column: str
    table: str
    target: str | None
    on_delete: str


@dataclass(frozen=True, slots=True)
class IndexSchema:
    """An index of a table in a file.

    `columns` has the name of each column (None for an expression), and whether the order is descending.
    """

    name: str
    sql: str | None
    is_unique: bool
    is_partial: bool
    columns: tuple[tuple[str | None, bool], ...]


@dataclass(frozen=True)
class TableSchema:
    """A table in a file. Names are spelled as in the file; look up columns by their names in lower case."""

    name: str
    sql: str
    columns: dict[str, Column]
    foreign_keys: tuple[ForeignKey, ...]
    indexes: tuple[IndexSchema, ...]

    @cached_property
    def definition(self) -> TableDefinition:
        """The parts of the table's `CREATE TABLE` statement."""
        return TableDefinition.parse(self.sql)

    @property
    def stored_columns(self) -> list[str]:
        """The names of the columns that are not generated, in order."""
        return [column.name for column in self.columns.values() if not column.is_generated]


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """A row of `sqlite_schema` that has an SQL text: a table, index, trigger or view."""

    type: str
    name: str
    table: str
    sql: str

    @property
    def is_table_of_rows(self) -> bool:
        """Whether the object is an ordinary table. A virtual table is not: its module may not be installed."""
        return self.type == "table" and not self.sql.upper().startswith("CREATE VIRTUAL")


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open an SQLite file so that it cannot be changed.

    Raises:
        DatabaseUnavailable: the file does not exist.
        sqlite3.Error: the file cannot be read, for example because it is not a database.
    """
    if not path.is_file():
        raise DatabaseUnavailable(f"{path}: the file does not exist. Name the database in PHOTOJOBS_DATABASE_URL.")
    # SQLite follows a symlink before it derives the names of the other files.
    path = path.resolve()
    uri = path.as_uri()
    wal, journal = (path.with_name(f"{path.name}-{suffix}") for suffix in ("wal", "journal"))
    # In WAL mode, a read-only connection leaves its -wal and -shm files behind. A writable connection removes them, so
    # a file that may be written and has no -wal file is opened as writable.
    is_at_rest = os.access(path, os.W_OK) and not wal.exists()
    connection = sqlite3.connect(f"{uri}?mode={'rw' if is_at_rest else 'ro'}", uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000:.0f}")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        connection.close()
        # In a read-only folder, a file in WAL mode can only be opened as an immutable file. SQLite then ignores commits
        # in the -wal file, and a journal of an interrupted transaction.
        is_complete = not any(other.exists() and other.stat().st_size for other in (wal, journal))
        if not (is_complete and error.sqlite_errorname.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))):
            raise
        connection = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, isolation_level=None)
    return connection


def list_objects(connection: Connection) -> list[SchemaObject]:
    """Return all objects that were created with SQL, in the order of creation."""
    rows = connection.exec_driver_sql(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' "
        "ESCAPE '\\' ORDER BY rowid"
    )
    return [SchemaObject(*row) for row in rows]


def read_table(connection: Connection, name: str) -> TableSchema | None:
    """Return the table with this name; None if there is no such table, or if it is a view.

    Upper and lower case are the same.
    """
    row = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND lower(name) = ?", (name.lower(),)
    ).one_or_none()
    if row is None:
        return None
    table = quote(row.name)
    columns = {
        column.name.lower(): Column(
            name=column.name,
            type=column.type,
            is_required=bool(column.notnull),
            default=column.dflt_value,
            key_position=column.pk,
            is_generated=column.hidden in (2, 3),
        )
        for column in connection.exec_driver_sql(f"PRAGMA table_xinfo({table})")
    }
    keys = tuple(
        ForeignKey(column=key[3], table=key[2], target=key[4], on_delete=key[6].upper())
        for key in connection.exec_driver_sql(f"PRAGMA foreign_key_list({table})")
    )
    indexes = tuple(
        IndexSchema(
            name=index.name,
            sql=connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (index.name,)).scalar(),
            is_unique=bool(index.unique),
            is_partial=bool(index.partial),
            columns=tuple(
                (part.name, bool(part.desc))
                for part in connection.exec_driver_sql(f"PRAGMA index_xinfo({quote(index.name)})").all()
                if part.key
            ),
        )
        for index in connection.exec_driver_sql(f"PRAGMA index_list({table})").all()
    )
    return TableSchema(row.name, row.sql, columns, keys, indexes)


def count_rows(connection: Connection, table: str) -> int:
    """Return the number of rows of a table."""
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM {quote(table)}").scalar_one())


def foreign_key_violations(connection: Connection) -> dict[str, int]:
    """Return the number of rows with broken foreign keys, by table; all rows count if a key cannot be checked."""
    counts: dict[str, int] = {}
    for item in list_objects(connection):
        if (
            not item.is_table_of_rows
            or not connection.exec_driver_sql(f"PRAGMA foreign_key_list({quote(item.name)})").all()
        ):
            continue
        try:
            statement = "SELECT count(*) FROM pragma_foreign_key_check(?)"
            found = connection.exec_driver_sql(statement, (item.name,)).scalar_one()
        except OperationalError:
            # The foreign key refers to columns that are not unique, so it cannot be checked.
            found = max(1, count_rows(connection, item.name))
        if found:
            counts[item.name] = found
    return counts


def integrity_problems(connection: Connection) -> list[str]:
    """Return up to 20 problems that `PRAGMA integrity_check` finds; empty if the file is sound."""
    rows = connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars()
    return [str(row) for row in rows if row != "ok"]
