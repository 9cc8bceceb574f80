"""Keeps the values of columns that other programs added to our tables, so that an undo can restore them."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Select, Table, TextClause, bindparam, column, inspect, select, text
from sqlalchemy.sql.selectable import TextualSelect

from storage.batches import batched
from storage.history.snapshot_values import as_hexadecimal, stored_value

#: The key in a snapshot for the values of other programs' columns, by column name. A snapshot of a table without such
#: columns lacks this key.
FOREIGN: Final = "columns_of_other_programs"

#: A default that is a number, a text or a truth value; PostgreSQL writes the type after the value.
_CONSTANT: Final = re.compile(r"(?:([-+]?[\d.]+|true|false)|'((?:[^']|'')*)')(?:::.*)?", re.IGNORECASE)

#: The texts of defaults that are empty bytes, lists or objects.
_EMPTY: Final = frozenset({"", r"\x", "{}", "[]"})


def select_all_columns(table: Table) -> TextualSelect:
    """Return a statement for the rows with an id in `ids`, with all columns that the table has in the database."""
    statement: TextClause = text(f"SELECT * FROM {table.name} WHERE id IN :ids")
    types = {column.name: column.type for column in table.columns}
    return statement.bindparams(bindparam("ids", expanding=True)).columns(**types)


def foreign_values(table: Table, row: RowMapping) -> dict[str, Any]:
    """Return the values of the columns that the table has only in the database, to be added to a snapshot.

    A value that JSON has no type for, such as a moment, is stored as a text. `storage.history.snapshot_values` stores a
    text with a NUL character. Bytes, lists and objects are left out.
    """
    values = {name: row[name] for name in row if name not in table.columns}
    kept = {name: _as_json(value) for name, value in values.items() if not isinstance(value, bytes | list | dict)}
    return {FOREIGN: kept} if kept else {}


def snapshot_foreign_values(connection: Connection, table: Table, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the `foreign_values` of rows by id; empty if the table has no column of another program."""
    statement = select_all_columns(table)
    first = connection.execute(statement, {"ids": ids[:1]}).mappings().first()
    if first is None or not foreign_values(table, first):
        return {}
    return {
        row["id"]: foreign_values(table, row)
        for batch in batched(ids)
        for row in connection.execute(statement, {"ids": batch}).mappings()
    }


def added_values(row: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the `FOREIGN` values that the journal recorded for an added row."""
    values: Mapping[str, Any] = ((row or {}).get("after") or row or {}).get(FOREIGN) or {}
    return values


def changed_columns(
    connection: Connection, table: Table, added: Mapping[int, Mapping[str, Any]]
) -> dict[int, frozenset[str]]:
    """Return the columns of other programs that have been changed since a task added the rows, by the id of the row.

    Rows without such a column are left out.

    Args:
        connection: an open connection.
        table: the table of the rows.
        added: the ids of the rows, each with the `FOREIGN` values that the row had when it was added. For a column that
            is missing there, the value was NULL or the column's default.
    """
    if not added:
        return {}
    rows = connection.execute(select_all_columns(table), {"ids": list(added)}).mappings().all()
    if not rows or rows[0].keys() <= set(table.columns.keys()):
        return {}
    defaults = _defaults(connection, table)

    def is_changed(row: RowMapping, name: str) -> bool:
        known, value = added[row["id"]], row[name]
        if name in known:
            return bool(known[name] != _as_json(value))
        return value is not None and not _is_default(value, defaults[name])

    changed = {row["id"]: frozenset(name for name in defaults if is_changed(row, name)) for row in rows}
    return {row_id: names for row_id, names in changed.items() if names}


def restore_foreign_values(connection: Connection, table: Table, snapshots: Sequence[Mapping[str, Any]]) -> None:
    """Write the `FOREIGN` values of snapshots to the rows, in the columns that the table still has."""
    kept = {snapshot["id"]: snapshot[FOREIGN] for snapshot in snapshots if snapshot.get(FOREIGN)}
    if kept:
        writable = _defaults(connection, table).keys()
        _write(connection, table, {row_id: _only(writable, values) for row_id, values in kept.items()})


def copy_foreign_columns(source: Connection, target: Connection, table: Table, ids: Select[Any]) -> None:
    """Add the columns of other programs to a table of a new SQLite database, with the values of the rows `ids`.

    The rows must have been copied before. Their snapshots and `changed_columns` are then the same in both databases.
    """
    defaults = _defaults(source, table)
    if not defaults:
        return
    quote = target.dialect.identifier_preparer.quote_identifier
    for name, default in defaults.items():
        # A column without a type stores each value as it is.
        escaped = (default or "").replace("'", "''")
        clause = "" if default is None else f" DEFAULT '{escaped}'"
        target.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {quote(name)}{clause}")

    def stored(value: Any, default: str | None) -> Any:
        if not isinstance(value, bytes | list | dict):
            return _as_json(value)
        return default if _is_default(value, default) else b"a value that no snapshot has"

    rows = source.execute(select(table.c.id, *map(column, defaults)).where(table.c.id.in_(ids))).all()
    values = {row[0]: {name: stored(row[i], defaults[name]) for i, name in enumerate(defaults, 1)} for row in rows}
    _write(target, table, values)


def _defaults(connection: Connection, table: Table) -> dict[str, str | None]:
    """Return the columns of other programs that can be written, each with its default as a text.

    The value is None if the column has no default, or a default that is computed for each row.
    """
    columns = inspect(connection).get_columns(table.name)
    own = set(table.columns.keys())
    found = [one for one in columns if one["name"] not in own and not (one.get("computed") or one.get("identity"))]
    return {one["name"]: _constant(one["default"] or "") for one in found}


def _constant(default: str) -> str | None:
    match = _CONSTANT.fullmatch(default)
    if match is None:
        return None
    word, quoted = match.groups()
    return quoted.replace("''", "'") if word is None else {"true": "1", "false": "0"}.get(word.lower(), word)


def _is_default(value: Any, default: str | None) -> bool:
    if default is None:
        return False
    if isinstance(value, bytes | list | dict):
        return not value and default in _EMPTY
    try:
        return Decimal(int(value) if isinstance(value, bool) else str(value)) == Decimal(default)
    except InvalidOperation:
        return str(value) == default


def _only(names: Collection[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def _write(connection: Connection, table: Table, rows: Mapping[int, Mapping[str, Any]]) -> None:
    # The driver passes a text without a type, so PostgreSQL converts it to the type of the column.
    mark = "%s" if connection.dialect.name == "postgresql" else "?"
    quote = connection.dialect.identifier_preparer.quote_identifier
    for row_id, values in rows.items():
        if values:
            changes = ", ".join(f"{quote(name)} = {mark}" for name in values)
            statement = f"UPDATE {table.name} SET {changes} WHERE id = {mark}"
            connection.exec_driver_sql(statement, (*map(stored_value, values.values()), row_id))


def _as_json(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        return as_hexadecimal(value)
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
