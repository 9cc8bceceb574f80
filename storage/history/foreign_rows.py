"""Finds rows of other programs that depend on a row of ours, such as a public link to a photo.

Such a row would be removed with our row, or would keep the database from removing our row.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, TextClause, literal, literal_column, or_, select, text

from storage.database.tables import metadata

#: The queries for the columns of all foreign keys, by dialect. PostgreSQL quotes the names of the tables. If a key
#: would set a NOT NULL column to NULL, the key counts as RESTRICT.
_KEYS: Final = {
    "sqlite": text("""
        SELECT tables.name, keys.id, lower(keys."from"), referred.name, lower(columns.name),
            CASE WHEN EXISTS (
                SELECT 1 FROM pragma_foreign_key_list(tables.name) AS parts
                JOIN pragma_table_info(tables.name) AS own ON lower(own.name) = lower(parts."from")
                WHERE parts.id = keys.id AND (own."notnull" OR (own.pk AND upper(own.type) = 'INTEGER'))
                    AND (keys.on_delete = 'SET NULL' OR (keys.on_delete = 'SET DEFAULT' AND own.dflt_value IS NULL))
            ) THEN 'RESTRICT' ELSE keys.on_delete END
        FROM sqlite_master AS tables, pragma_foreign_key_list(tables.name) AS keys
        JOIN sqlite_master AS referred ON referred.type = 'table' AND lower(referred.name) = lower(keys."table")
        JOIN pragma_table_info(referred.name) AS columns
            ON lower(columns.name) = lower(keys."to") OR (keys."to" IS NULL AND columns.pk = keys.seq + 1)
        WHERE tables.type = 'table' ORDER BY tables.name, keys.id, keys.seq"""),
    "postgresql": text("""
        SELECT CAST(CAST(conrelid AS regclass) AS text), CAST(pg_constraint.oid AS bigint), referring.attname,
            CAST(CAST(confrelid AS regclass) AS text), referred.attname,
            CASE WHEN confdeltype = 'c' THEN 'CASCADE' WHEN confdeltype = 'r' THEN 'RESTRICT'
                WHEN confdeltype = 'a' THEN 'NO ACTION'
                WHEN EXISTS (
                    SELECT 1 FROM pg_attribute AS own WHERE own.attrelid = conrelid AND own.attnotnull
                        -- PostgreSQL 14 and older have no `confdelsetcols`.
                        AND coalesce(nullif(to_jsonb(pg_constraint) -> 'confdelsetcols', 'null'), to_jsonb(conkey))
                            @> to_jsonb(own.attnum)
                        AND (confdeltype = 'n' OR NOT own.atthasdef)
                ) THEN 'RESTRICT' END
        FROM pg_constraint CROSS JOIN unnest(conkey, confkey) WITH ORDINALITY AS pair (own, other, place)
        JOIN pg_attribute AS referring ON referring.attrelid = conrelid AND referring.attnum = own
        JOIN pg_attribute AS referred ON referred.attrelid = confrelid AND referred.attnum = other
        WHERE contype = 'f' AND has_table_privilege(conrelid, 'SELECT') ORDER BY 1, 2, place"""),
}


@dataclass(frozen=True, slots=True)
class _Key:
    """A foreign key: columns of the table `referring`, each with the column of the table `referred` that it names."""

    referring: str
    referred: str
    columns: tuple[tuple[str, str], ...]
    on_delete: str | None

    @property
    def name_of_other(self) -> str | None:
        """The table, or the column of our table, to which another program added the key; None for our own keys."""
        table, column = metadata.tables.get(self.referring), self.columns[0][0]
        if table is None:
            return self.referring
        return None if column in table.columns else f"{self.referring}.{column}"


def referring_tables(connection: Connection, table: Table, ids: Sequence[int]) -> dict[int, frozenset[str]]:
    """Return the tables of other programs with a row that depends on one of these rows, by the id of the row."""
    return _by_id(_references(connection, table, ids)) if ids else {}


def removal_refusals(connection: Connection, table: Table, ids: Sequence[Any]) -> dict[Any, str]:
    """Return which of these rows the database does not remove because of other programs, by id, each with the reason.

    A row of another program that the database removes together with our row is no reason.
    """
    found = _by_id(_references(connection, table, ids, only_refusing=True)) if ids else {}
    return {
        row_id: f"rows of other programs depend on it ({', '.join(sorted(names))}), so it is kept; remove those rows "
        "first"
        for row_id, names in found.items()
    }


def is_removal_refused(connection: Connection, table: Table) -> ColumnElement[bool] | None:
    """Return an SQL condition for the rows of a table that `removal_refusals` returns; None if it never returns one."""
    conditions = []
    for _, value, source in _sources(connection, table, only_refusing=True):
        conditions.append(select(literal(1)).select_from(source).where(value == table.c.id).correlate(table).exists())
    return or_(*conditions) if conditions else None


def copy_references(
    source: Connection, target: Connection, table: Table, ids: Select[Any], *, only_refusing: bool = False
) -> None:
    """Copy the references that tables of other programs have to the rows `ids` of a table.

    `target` is a new SQLite database with copies of these rows. Then `referring_tables` and `removal_refusals` return
    the same for both databases. With `only_refusing`, only the references that prevent a removal are copied, so only
    `removal_refusals` returns the same.
    """
    columns = [f"{owner} REFERENCES {owner} (id) ON DELETE CASCADE" for owner in ("photos", "projects")]
    columns += [f"refuses_{owner} REFERENCES {owner} (id)" for owner in ("photos", "projects")]
    for column, found in (
        (table.name, () if only_refusing else _references(source, table, ids)),
        (f"refuses_{table.name}", _references(source, table, ids, only_refusing=True)),
    ):
        for name, row_id in found:
            target.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {_quoted(name)} ({', '.join(columns)})")
            # SQLite without checks of foreign keys may have kept references to rows that no longer exist. They are left
            # out.
            values = f"SELECT id FROM {table.name} WHERE id = ?"
            target.exec_driver_sql(f"INSERT INTO {_quoted(name)} ({column}) {values}", (row_id,))


def _by_id(references: Iterator[tuple[str, Any]]) -> dict[Any, frozenset[str]]:
    found: dict[Any, set[str]] = defaultdict(set)
    for name, row_id in references:
        found[row_id].add(name)
    return {row_id: frozenset(names) for row_id, names in found.items()}


def _references(
    connection: Connection, table: Table, ids: Sequence[Any] | Select[Any], *, only_refusing: bool = False
) -> Iterator[tuple[str, Any]]:
    """Yield pairs: the name of a table of another program, and the id of one of our rows on which its rows depend.

    With `only_refusing`, a table is left out if its rows do not keep the database from removing our row.
    """
    for name, value, source in _sources(connection, table, only_refusing=only_refusing):
        for row_id in connection.execute(select(value).select_from(source).where(value.in_(ids)).distinct()):
            yield name, row_id[0]


def _sources(
    connection: Connection, table: Table, *, only_refusing: bool
) -> Iterator[tuple[str, ColumnElement[Any], TextClause]]:
    """Yield names of tables of other programs, each with a column of ids of `table`.

    The last value is the text after FROM in a query for the column.
    """
    rows = connection.execute(_KEYS[connection.dialect.name]).all()
    keys = [
        _Key(_our_name(referring), _our_name(referred), tuple((row[2], row[4]) for row in group), on_delete)
        for (referring, _, referred, on_delete), group in groupby(rows, lambda row: (row[0], row[1], row[3], row[5]))
    ]
    for path in _paths(keys, table.name, frozenset()):
        name, first = path[-1].name_of_other, {named: own for own, named in path[0].columns}.get("id")
        is_refusing = path[-1].on_delete in ("NO ACTION", "RESTRICT")
        if name is not None and first is not None and (is_refusing or not only_refusing):
            value: ColumnElement[Any] = literal_column(f"step_0.{_quoted(first)}")
            yield name, value, text(_joined(path, is_quoted=connection.dialect.name == "postgresql"))


def _our_name(table: str) -> str:
    """Return the name of a table, in lower case if it is ours: SQLite keeps a name as another program spelled it."""
    return table.lower() if table.lower() in metadata.tables else table


def _paths(keys: Collection[_Key], table: str, seen: frozenset[str]) -> Iterator[list[_Key]]:
    """Yield the paths of foreign keys by which a removal from a table reaches other tables.

    The first key of a path refers to the table. Each further key refers to the table that has the previous key, and the
    previous key cascades.
    """
    for key in keys:
        if key.referred == table and key.referring not in seen:
            yield [key]
            if key.on_delete == "CASCADE":
                for further in _paths(keys, key.referring, seen | {key.referring}):
                    yield [key, *further]


def _joined(path: Sequence[_Key], *, is_quoted: bool) -> str:
    """Return the tables of a path as the text after FROM; the first table gets the alias `step_0`."""
    parts = []
    for number, key in enumerate(path):
        pairs = (f"step_{number}.{_quoted(own)} = step_{number - 1}.{_quoted(other)}" for own, other in key.columns)
        place = f"{key.referring if is_quoted else _quoted(key.referring)} AS step_{number}"
        parts.append(f"JOIN {place} ON {' AND '.join(pairs)}" if number else place)
    return " ".join(parts)


def _quoted(name: str) -> str:
    return f'"{name.replace(chr(34), 2 * chr(34))}"'
