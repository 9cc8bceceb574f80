"""Keeps the values of columns that other programs added to a table, so that an undo restores them with their row."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Table, TextClause, bindparam, inspect, text
from sqlalchemy.sql.selectable import TextualSelect

#: The key in a snapshot for the values of these columns, by name. A table without such columns has no such key.
FOREIGN: Final = "columns_of_other_programs"


def select_all_columns(table: Table) -> TextualSelect:
    """Return a statement for the rows with an id in `ids`, with all columns that the table has in the database."""
    statement: TextClause = text(f"SELECT * FROM {table.name} WHERE id IN :ids")
    types = {column.name: column.type for column in table.columns}
    return statement.bindparams(bindparam("ids", expanding=True)).columns(**types)


def foreign_values(table: Table, row: RowMapping) -> dict[str, Any]:
    """Return the values of the columns that the table has only in the database, as the part of a snapshot.

    A value that JSON has no type for, such as a moment, is stored as a text. Bytes, lists and objects are left out.
    """
    values = {name: row[name] for name in row if name not in table.columns}
    kept = {name: _as_json(value) for name, value in values.items() if not isinstance(value, bytes | list | dict)}
    return {FOREIGN: kept} if kept else {}


def restore_foreign_values(connection: Connection, table: Table, snapshots: Sequence[Mapping[str, Any]]) -> None:
    """Write the values of these snapshots to their rows, in the columns that the table still has."""
    kept = [(snapshot["id"], snapshot[FOREIGN]) for snapshot in snapshots if snapshot.get(FOREIGN)]
    if not kept:
        return
    columns = inspect(connection).get_columns(table.name)
    writable = {column["name"] for column in columns if not column.get("computed")} - set(table.columns.keys())
    # The driver passes a text without a type, so PostgreSQL converts it to the type of the column.
    mark = "%s" if connection.dialect.name == "postgresql" else "?"
    quote = connection.dialect.identifier_preparer.quote_identifier
    for row_id, values in kept:
        found = {name: value for name, value in values.items() if name in writable}
        if found:
            changes = ", ".join(f"{quote(name)} = {mark}" for name in found)
            statement = f"UPDATE {table.name} SET {changes} WHERE id = {mark}"
            connection.exec_driver_sql(statement, (*found.values(), row_id))


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
