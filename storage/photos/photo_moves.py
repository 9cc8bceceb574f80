"""Moves the rows of photos to another project, with their tags. The caller must have moved the files before.

`flows.steps.moving.free_names` decides the new name of a photo whose name is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, literal, select, update

from storage.database.tables import photo_derivatives, photo_tags, photos, tags
from storage.photos.originals import OriginalsRepository, name_after_rename


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedPhoto:
    """A photo whose files were moved to another project.

    Attributes:
        old_name: the photo's old base name.
        name: the photo's new base name.
        left_behind: the kinds of derivatives that were not moved with the photo: `thumbnail`, `preview`.
    """

    id: int
    old_name: str
    name: str
    thumbnail_status: str | None
    preview_status: str | None
    left_behind: tuple[str, ...] = ()


def move_rows(connection: Connection, moved: Sequence[MovedPhoto], *, project_id: int, now: datetime) -> None:
    """Move rows to another project. Photos keep their tags by name; tags that the project lacks are created."""
    if moved:
        _update_rows(connection, moved, project_id, now=now)
        _move_tags(connection, [photo.id for photo in moved], project_id)
        _move_derivatives(connection, moved)


def _update_rows(connection: Connection, moved: Sequence[MovedPhoto], project_id: int, *, now: datetime) -> None:
    statement = (
        update(photos)
        .where(photos.c.id == bindparam("photo_id"))
        .values(
            project_id=project_id,
            filename=bindparam("new_name"),
            thumbnail_status=bindparam("new_thumbnail_status"),
            preview_status=bindparam("new_preview_status"),
            updated_at=now,
        )
    )
    parameters: list[dict[str, Any]] = [
        {
            "photo_id": photo.id,
            "new_name": photo.name,
            "new_thumbnail_status": photo.thumbnail_status,
            "new_preview_status": photo.preview_status,
        }
        for photo in moved
    ]
    connection.execute(statement, parameters)
    renamed = [
        {"photo_id": photo.id, "old": photo.old_name, "new": photo.name}
        for photo in moved
        if photo.name != photo.old_name
    ]
    if renamed:
        connection.execute(
            update(photos)
            .where(photos.c.id == bindparam("photo_id"), photos.c.basename == bindparam("old"))
            .values(basename=bindparam("new")),
            renamed,
        )


def _move_tags(connection: Connection, photo_ids: list[int], project_id: int) -> None:
    there = tags.alias("there")
    foreign = (
        select(tags.c.name)
        .join(photo_tags, photo_tags.c.tag_id == tags.c.id)
        .where(photo_tags.c.photo_id.in_(photo_ids), tags.c.project_id != project_id)
    )
    known = exists().where(there.c.project_id == project_id, there.c.name == tags.c.name)
    connection.execute(
        insert(tags).from_select(
            ["project_id", "name"], foreign.where(~known).with_only_columns(literal(project_id), tags.c.name).distinct()
        )
    )
    linked = photo_tags.alias("linked")
    is_linked = exists().where(linked.c.photo_id == photo_tags.c.photo_id, linked.c.tag_id == there.c.id)
    connection.execute(
        insert(photo_tags).from_select(
            ["photo_id", "tag_id"],
            select(photo_tags.c.photo_id, there.c.id)
            .join(tags, tags.c.id == photo_tags.c.tag_id)
            .join(there, (there.c.name == tags.c.name) & (there.c.project_id == project_id))
            .where(photo_tags.c.photo_id.in_(photo_ids), tags.c.project_id != project_id, ~is_linked),
        )
    )
    elsewhere = select(tags.c.id).where(tags.c.project_id != project_id)
    connection.execute(
        delete(photo_tags).where(photo_tags.c.photo_id.in_(photo_ids), photo_tags.c.tag_id.in_(elsewhere))
    )


def _move_derivatives(connection: Connection, moved: Sequence[MovedPhoto]) -> None:
    for kind in ("thumbnail", "preview"):
        lost = [photo.id for photo in moved if kind in photo.left_behind]
        connection.execute(
            delete(photo_derivatives).where(photo_derivatives.c.photo_id.in_(lost), photo_derivatives.c.kind == kind)
        )
    names = {photo.id: (photo.old_name, photo.name) for photo in moved}
    OriginalsRepository(connection).rename(names)
    rows = connection.execute(
        select(photo_derivatives.c.photo_id, photo_derivatives.c.kind, photo_derivatives.c.source_name).where(
            photo_derivatives.c.photo_id.in_(list(names))
        )
    )
    parameters = [
        {"of_photo": photo_id, "of_kind": kind, "new_name": new_name}
        for photo_id, kind, source_name in rows
        if (new_name := name_after_rename(source_name, *names[photo_id])) != source_name
    ]
    if parameters:
        connection.execute(
            update(photo_derivatives)
            .where(
                photo_derivatives.c.photo_id == bindparam("of_photo"), photo_derivatives.c.kind == bindparam("of_kind")
            )
            .values(source_name=bindparam("new_name")),
            parameters,
        )
