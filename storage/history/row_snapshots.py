"""Makes snapshots of the rows of photos and projects as JSON, for the journal.

Use `storage.photos.photos` to read photos for other purposes. `storage.history.photo_states` writes snapshots back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Table, func, select

from storage.batches import batched
from storage.database.clock import format_timestamp, parse_timestamp
from storage.database.column_types import JsonDocument, UnreadableJson, UtcTimestamp, as_sqlite_json
from storage.database.tables import photo_derivatives, photo_originals, photo_tags, photos, projects, tags
from storage.history.foreign_columns import FOREIGN, foreign_values, select_all_columns
from storage.history.snapshot_values import as_hexadecimal, stored_value

#: The keys in a photo's snapshot for the rows that refer to the photo.
TAGS, TAG_IDS, DERIVATIVES, ORIGINALS = "tags", "tag_ids", "derivatives", "originals"

#: The key in a project's snapshot for the number of photos that were removed with the project. The journal has no
#: entries for these photos.
PHOTOS = "photos"

#: The column that every change of a row updates, and the key of other programs' columns, which no task changes;
#: comparisons ignore both.
_FOLLOWING: Final = frozenset({"updated_at", FOREIGN})

_ALL_OF_PHOTOS, _ALL_OF_PROJECTS = select_all_columns(photos), select_all_columns(projects)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDifference:
    """The columns that differ between two snapshots of a row, with the values in both snapshots."""

    before: dict[str, Any]
    after: dict[str, Any]


def snapshot_photos(
    connection: Connection, photo_ids: Sequence[int], *, columns: Sequence[str] | None = None
) -> dict[int, dict[str, Any]]:
    """Return snapshots of the photos that exist, by id, with the given columns.

    By default, a snapshot has all columns and the related rows: `tags` (the names of the tags, in order), `tag_ids`
    (their ids, in the same order), `derivatives` (rows by kind) and `originals` (rows by file name).
    """
    found: dict[int, dict[str, Any]] = {}
    for batch in batched(photo_ids):
        if columns is not None:
            wanted = [photos.c[name] for name in columns]
            for row in connection.execute(select(photos.c.id, *wanted).where(photos.c.id.in_(batch))):
                found[row[0]] = _as_json(dict(zip(columns, row[1:], strict=True)))
            continue
        for mapping in connection.execute(_ALL_OF_PHOTOS, {"ids": batch}).mappings():
            found[mapping["id"]] = {**_whole(photos, mapping), TAGS: [], TAG_IDS: [], DERIVATIVES: {}, ORIGINALS: {}}
        # SQLite may have rows that refer to a missing photo, if another program removed the photo.
        batch = [photo_id for photo_id in batch if photo_id in found]
        named = (
            select(photo_tags.c.photo_id, tags.c.name, tags.c.id)
            .join(tags, tags.c.id == photo_tags.c.tag_id)
            .where(photo_tags.c.photo_id.in_(batch))
            .order_by(photo_tags.c.photo_id, tags.c.name)
        )
        for photo_id, name, tag_id in connection.execute(named):
            found[photo_id][TAGS].append(_value_as_json(name))
            found[photo_id][TAG_IDS].append(tag_id)
        made = select(photo_derivatives).where(photo_derivatives.c.photo_id.in_(batch))
        for mapping in connection.execute(made.order_by(photo_derivatives.c.kind)).mappings():
            known = _as_json(dict(mapping))
            found[known.pop("photo_id")][DERIVATIVES][known.pop("kind")] = known
        files = select(photo_originals).where(photo_originals.c.photo_id.in_(batch))
        for mapping in connection.execute(files.order_by(photo_originals.c.name)).mappings():
            known = _as_json(dict(mapping))
            found[known.pop("photo_id")][ORIGINALS][known.pop("name")] = known
    return found


def snapshot_project(connection: Connection, project_id: int) -> dict[str, Any] | None:
    """Return a snapshot of a project, or None if it does not exist."""
    return snapshot_projects(connection, [project_id]).get(project_id)


def snapshot_projects(connection: Connection, project_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return snapshots of the projects that exist, by id."""
    found = connection.execute(_ALL_OF_PROJECTS, {"ids": project_ids}).mappings()
    return {row["id"]: _whole(projects, row) for row in found}


def removed_project(connection: Connection, project_id: int) -> dict[str, Any] | None:
    """Return a snapshot of a project before its removal, with its tags and photo count; None if it does not exist."""
    found = snapshot_project(connection, project_id)
    if found is None:
        return None
    count = select(func.count()).where(photos.c.project_id == project_id)
    named = select(tags.c.id, tags.c.name).where(tags.c.project_id == project_id).order_by(tags.c.id)
    own = connection.execute(named).all()
    return {
        **found,
        PHOTOS: connection.execute(count).scalar_one(),
        TAGS: [_value_as_json(tag.name) for tag in own],
        TAG_IDS: [tag.id for tag in own],
    }


def row_values(table: Table, snapshot: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """Return the values of a snapshot for the table's columns.

    A time that is not valid becomes `now` if the column needs a value, else None.
    """
    values = {name: snapshot[name] for name in table.columns.keys() & snapshot.keys()}
    for name, value in values.items():
        column = table.columns[name]
        if isinstance(column.type, UtcTimestamp):
            values[name] = parse_timestamp(value or "") or (None if column.nullable else now)
        elif (stored := stored_value(value)) is not value:
            is_json = isinstance(column.type, JsonDocument) and isinstance(stored, str)
            values[name] = UnreadableJson(stored) if is_json else stored
    return values


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> RowDifference | None:
    """Return the difference of two snapshots of a row, or None if no column differs, except those in `_FOLLOWING`."""
    names = [name for name in before if name not in _FOLLOWING and before[name] != after[name]]
    if not names:
        return None
    return RowDifference(before={name: before[name] for name in names}, after={name: after[name] for name in names})


def _whole(table: Table, row: RowMapping) -> dict[str, Any]:
    ours = {name: value for name, value in row.items() if name in table.columns}
    return {**_as_json(ours), **foreign_values(table, row)}


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value_as_json(value) for name, value in row.items()}


def _value_as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_timestamp(value)
    if isinstance(value, bytes):
        return as_hexadecimal(value)
    if isinstance(value, dict | list):
        value = as_sqlite_json(value)
    if isinstance(value, UnreadableJson) or (isinstance(value, str) and "\0" in value):
        return as_hexadecimal(value)
    return value
