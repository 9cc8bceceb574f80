"""Rows of photos and projects as JSON, for the journal: what a row and its tags said before it was changed or removed.

Not for reading photos: `storage.photos` does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from storage.clock import format_timestamp
from storage.tables import photo_tags, photos, projects, tags

#: Photos read by one statement.
BATCH_SIZE = 1_000


def snapshot_photos(connection: Connection, photo_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The rows of photos by id: every column, and `tags`, the names of the photo's tags in order."""
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, len(photo_ids), BATCH_SIZE):
        batch = photo_ids[start : start + BATCH_SIZE]
        for row in connection.execute(select(photos).where(photos.c.id.in_(batch))).mappings():
            found[row["id"]] = {**_as_json(row), "tags": []}
        named = (
            select(photo_tags.c.photo_id, tags.c.name)
            .join(tags, tags.c.id == photo_tags.c.tag_id)
            .where(photo_tags.c.photo_id.in_(batch))
            .order_by(photo_tags.c.photo_id, tags.c.name)
        )
        for photo_id, name in connection.execute(named):
            found[photo_id]["tags"].append(name)
    return found


def snapshot_project(connection: Connection, project_id: int) -> dict[str, Any] | None:
    """The row of a project, or None where there is none."""
    row = connection.execute(select(projects).where(projects.c.id == project_id)).mappings().one_or_none()
    return None if row is None else _as_json(row)


def _as_json(row: RowMapping) -> dict[str, Any]:
    return {name: format_timestamp(value) if isinstance(value, datetime) else value for name, value in row.items()}
