"""Finds the rows that changed in an SQLite database, with triggers that store each row once.

Use this module only for a database without other users, such as the database of a plan. A trigger stores each row as it
was before its first change. `RowChanges.take` compares the stored row with the current row.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, Table, text

from storage.database.engine import Database
from storage.database.tables import photo_derivatives, photo_tags, photos, projects, tags
from storage.shadow.copied_rows import DOMAIN_TABLES

#: Columns with times. A real run would write other times, so a plan only shows that these columns change.
MOMENTS = frozenset({"created_at", "updated_at", "archived_at", "generated_at"})

#: Columns that are left out of changes: keys, because changes show names instead, and the time of the last change.
_KEYS: Mapping[str, frozenset[str]] = {
    projects.name: frozenset({"id", "updated_at"}),
    photos.name: frozenset({"id", "updated_at"}),
    tags.name: frozenset({"id"}),
    photo_tags.name: frozenset({"photo_id", "tag_id"}),
    photo_derivatives.name: frozenset({"photo_id", "kind", "generated_at"}),
}

#: Columns of a derivative whose values are known only after it was made.
_MADE_WITH_IT = frozenset({"width", "height", "size_bytes", "source_hash"})

#: SQL for the name of a row and for its project's id, by table. `r` is the row, `p` its photo and `t` its tag.
_NAMES: Mapping[str, tuple[str, str]] = {
    projects.name: ("r.project_name", "r.id"),
    photos.name: ("r.filename", "r.project_id"),
    tags.name: ("r.name", "r.project_id"),
    photo_tags.name: ("p.filename || ': ' || coalesce(t.name, r.tag_id)", "p.project_id"),
    photo_derivatives.name: ("p.filename || ': ' || r.kind", "p.project_id"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """A row that was added, changed or removed.

    Attributes:
        table: the table's name.
        name: the row's name for people, such as a photo's base name or a project's name.
        project_id: the row's project before the change; for an added row, its project now.
        columns: the columns that differ, each with the values before and after the change. A new time is None. For an
            added row, the values before are None, and columns with a time or without a value are left out. A removed
            row has no columns here.
    """

    action: Literal["added", "changed", "removed"]
    table: str
    name: str
    project_id: int | None
    columns: dict[str, tuple[Any, Any]] = field(default_factory=dict)


class RowChanges:
    """Records changes of rows in an SQLite database, and returns them on request."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.begin() as connection:
            for watched in DOMAIN_TABLES:
                _watch(connection, watched)

    def take(self) -> Iterator[RowChange]:
        """Yield the changes since the last call, in order of tables and ids, and then discard them."""
        for watched in DOMAIN_TABLES:
            yield from self._changes_of(watched)
        with self._database.begin() as connection:
            for watched in DOMAIN_TABLES:
                connection.execute(text(f"DELETE FROM touched_{watched.name}"))

    def _changes_of(self, watched: Table) -> Iterator[RowChange]:
        key = [column.name for column in watched.primary_key.columns]
        names = [column.name for column in watched.columns]
        same = " AND ".join(f"r.{name} = b.{name}" for name in key)
        called, owner = _NAMES[watched.name]
        before = ", ".join(f"b.{name} AS before_{name}" for name in names)
        after = ", ".join(f"r.{name} AS after_{name}" for name in names)
        called_before, owner_before = called.replace("r.", "b."), owner.replace("r.", "b.")
        statement = f"""
            SELECT b.was_there, r.{key[0]} IS NOT NULL AS is_there, {before}, {after},
                {_joined("called_before", called_before)}, {_joined("owner_before", owner_before)},
                {_joined("called_after", called)}, {_joined("owner_after", owner)}
            FROM touched_{watched.name} AS b LEFT JOIN {watched.name} AS r ON {same}
            ORDER BY {", ".join(f"b.{name}" for name in key)}"""
        with self._database.connect() as connection:
            options = {"yield_per": 1_000}
            rows = connection.exec_driver_sql(statement, execution_options=options).mappings()
            for row in rows:
                change = _change(watched.name, names, row)
                if change is not None:
                    yield change


def _joined(name: str, expression: str) -> str:
    # The photo's row from before the changes is preferred, because the photo may be removed or renamed now.
    side = "b" if name.endswith("before") else "r"
    if "p." not in expression:
        return f"{expression} AS {name}"
    photo = (
        f"SELECT filename, project_id FROM touched_photos WHERE id = {side}.photo_id AND was_there = 1 UNION ALL "
        f"SELECT filename, project_id FROM photos WHERE id = {side}.photo_id LIMIT 1"
    )
    if "t." not in expression:
        return f"(SELECT {expression} FROM ({photo}) AS p) AS {name}"
    of_tag = f"WHERE id = {side}.tag_id"
    tag = f"SELECT name FROM touched_tags {of_tag} UNION ALL SELECT name FROM tags {of_tag}"
    return (
        f"(SELECT {expression.replace('t.name', f'(SELECT name FROM ({tag}) LIMIT 1)')} FROM ({photo}) AS p) AS {name}"
    )


def _change(table: str, names: list[str], row: RowMapping) -> RowChange | None:
    left_out = _KEYS[table] | (_MADE_WITH_IT if table == photo_derivatives.name else frozenset())
    if not (row["was_there"] or row["is_there"]):
        return None
    after = {name: row[f"after_{name}"] for name in names if name not in left_out}
    action: Literal["added", "changed", "removed"]
    columns: dict[str, tuple[Any, Any]] = {}
    if not row["is_there"]:
        action = "removed"
    elif row["was_there"]:
        action = "changed"
        for name, value in after.items():
            if row[f"before_{name}"] != value:
                columns[name] = (row[f"before_{name}"], None if name in MOMENTS else value)
        if not columns:
            return None
    else:
        action = "added"
        for name, value in after.items():
            if value is not None and name not in MOMENTS and name != "project_id":
                columns[name] = (None, value)
    side = "before" if row["was_there"] else "after"
    return RowChange(
        action=action, table=table, name=str(row[f"called_{side}"]), project_id=row[f"owner_{side}"], columns=columns
    )


def _watch(connection: Connection, watched: Table) -> None:
    name, names = watched.name, [column.name for column in watched.columns]
    key = [column.name for column in watched.primary_key.columns]
    connection.exec_driver_sql(
        f"CREATE TABLE touched_{name} (was_there INTEGER NOT NULL, {', '.join(names)}, PRIMARY KEY ({', '.join(key)}))"
    )
    for event, side, was_there in (("INSERT", "NEW", 0), ("UPDATE", "OLD", 1), ("DELETE", "OLD", 1)):
        values = ", ".join(f"{side}.{column}" for column in names)
        known = " AND ".join(f"{column} = {side}.{column}" for column in key)
        # INSERT OR IGNORE does not work here, because the conflict clause of the outer statement replaces OR IGNORE.
        connection.exec_driver_sql(
            f"CREATE TRIGGER watch_{name}_{event.lower()} AFTER {event} ON {name} BEGIN "
            f"INSERT INTO touched_{name} (was_there, {', '.join(names)}) SELECT {was_there}, {values} "
            f"WHERE NOT EXISTS (SELECT 1 FROM touched_{name} WHERE {known}); END"
        )
