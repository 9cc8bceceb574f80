"""Finds rows of other programs that refer to our rows, such as a public link to a photo.

If one of our rows is removed, the database also removes the rows that refer to it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, literal_column, select, text

from storage.database.tables import metadata

#: The tables and columns that refer to the ids of a table, by dialect. PostgreSQL quotes the names of the tables.
_REFERENCES: Final = {
    "sqlite": text("""
        SELECT tables.name, keys."from" FROM sqlite_master AS tables, pragma_foreign_key_list(tables.name) AS keys
        WHERE tables.type = 'table' AND lower(keys."table") = :name AND lower(coalesce(keys."to", 'id')) = 'id'"""),
    "postgresql": text("""
        SELECT CAST(CAST(conrelid AS regclass) AS text), referring.attname FROM pg_constraint
        JOIN pg_attribute AS referring ON referring.attrelid = conrelid AND referring.attnum = conkey[1]
        JOIN pg_attribute AS referred ON referred.attrelid = confrelid AND referred.attnum = confkey[1]
        WHERE contype = 'f' AND confrelid = CAST(:name AS regclass) AND referred.attname = 'id'
        AND cardinality(conkey) = 1 AND has_table_privilege(conrelid, 'SELECT')"""),
}


def referring_tables(connection: Connection, table: Table, ids: Sequence[int]) -> dict[int, frozenset[str]]:
    """Return the tables of other programs with a row that refers to one of these rows, by the id of the row."""
    found: dict[int, set[str]] = defaultdict(set)
    for name, row_id in _references(connection, table, ids) if ids else ():
        found[row_id].add(name)
    return {row_id: frozenset(names) for row_id, names in found.items()}


def copy_references(source: Connection, target: Connection, table: Table, ids: Select[Any]) -> None:
    """Make `referring_tables` the same in a new SQLite database that has copies of the rows `ids` of a table."""
    for name, row_id in _references(source, table, ids):
        keys = (f"{owner} REFERENCES {owner} (id) ON DELETE CASCADE" for owner in ("photos", "projects"))
        target.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {_quoted(name)} ({', '.join(keys)})")
        # SQLite without checks of foreign keys may have kept references to rows that no longer exist.
        values = f"SELECT id FROM {table.name} WHERE id = ?"
        target.exec_driver_sql(f"INSERT INTO {_quoted(name)} ({table.name}) {values}", (row_id,))


def _references(connection: Connection, table: Table, ids: Sequence[int] | Select[Any]) -> Iterator[tuple[str, int]]:
    """Yield the name of a table of another program and the id of a row to which it refers, for each of the rows."""
    is_quoted = connection.dialect.name == "postgresql"
    for name, column in connection.execute(_REFERENCES[connection.dialect.name], {"name": table.name}).all():
        if name not in metadata.tables:
            value: ColumnElement[int] = literal_column(_quoted(column))
            source = text(name if is_quoted else _quoted(name))
            for row_id in connection.execute(select(value).select_from(source).where(value.in_(ids)).distinct()):
                yield name, row_id[0]


def _quoted(name: str) -> str:
    return f'"{name.replace(chr(34), 2 * chr(34))}"'
