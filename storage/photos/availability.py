"""Reads and writes the columns of `photos` that state which kinds of files exist, for many photos at once.

The step `flows.steps.projects.manifest_check` finds the files that are missing or back, and
`flows.steps.following.manifest_cleaning` decides when the row of a photo without files is removed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, case, exists, literal, select, update

from storage.database.tables import photo_originals, photos
from storage.photos.originals import OriginalsRepository

#: The columns of `photos` that `write_availability` may change, besides `updated_at`.
AVAILABILITY_COLUMNS = ("jpg_available", "raw_available", "other_available", "keep_jpg", "keep_raw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """The kinds of files that a photo has on disk, for an update of its row: 1 for each kind that exists, else 0."""

    photo_id: int
    filename: str
    jpg: int
    raw: int
    other: int

    @property
    def flags(self) -> tuple[int, int, int]:
        """The three flags, in the order of the columns."""
        return (self.jpg, self.raw, self.other)


def has_photos_marked_without_file(connection: Connection, project_id: int) -> bool:
    """Return whether the project has a photo without a file, according to the photo's row."""
    statement = select(photos.c.id).where(photos.c.project_id == project_id, *_marked_without_file()).limit(1)
    return connection.execute(statement).first() is not None


def has_rows_to_remove(connection: Connection, project_ids: Collection[int], *, missing_before: datetime) -> bool:
    """Return whether a photo of the projects has no file now, and had already lost a file at `missing_before`.

    Only photos with a known content hash count.
    """
    statement = (
        select(photos.c.id)
        .join(photo_originals, photo_originals.c.photo_id == photos.c.id)
        .where(
            photos.c.project_id.in_(project_ids),
            *_marked_without_file(),
            photo_originals.c.content_hash.is_not(None),
            photo_originals.c.missing_since <= missing_before,
        )
        .limit(1)
    )
    return connection.execute(statement).first() is not None


def still_marked_without_file(connection: Connection, photo_ids: Sequence[int]) -> list[int]:
    """Return the ids among `photo_ids` of photos that have no file according to their current rows."""
    statement = select(photos.c.id).where(photos.c.id.in_(photo_ids), *_marked_without_file()).order_by(photos.c.id)
    return list(connection.execute(statement).scalars())


def write_availability(connection: Connection, changes: Sequence[Availability], *, now: datetime) -> None:
    """Write the availability of files to rows, by one statement for all rows that get the same values.

    The keep flag of a new file is set to 1, because a user cannot have marked a missing file for removal.
    Other keep flags are unchanged, including the flag of a file that was missing for some time.
    `keep_flag_values` in `flows.steps.images.derivative_steps` computes the flags of one photo when it is processed.
    """
    ordered = sorted(changes, key=lambda change: (change.flags, change.photo_id))
    for (jpg, raw, other), group in groupby(ordered, key=lambda change: change.flags):
        ids = [change.photo_id for change in group]
        flags = {"jpg": jpg, "raw": raw, "other": other}
        originals = OriginalsRepository(connection)
        originals.mark_missing(ids, [kind for kind, flag in flags.items() if not flag], now=now)
        connection.execute(
            update(photos)
            .where(photos.c.id.in_(ids))
            .values(
                jpg_available=jpg,
                raw_available=raw,
                other_available=other,
                keep_jpg=case((_is_new_kind("jpg") & literal(bool(jpg)), 1), else_=photos.c.keep_jpg),
                keep_raw=case((_is_new_kind("raw") & literal(bool(raw)), 1), else_=photos.c.keep_raw),
                updated_at=now,
            )
        )
        originals.mark_found(ids, [kind for kind, flag in flags.items() if flag])


def _is_new_kind(kind: str) -> Any:
    was_known = exists().where(
        photo_originals.c.photo_id == photos.c.id,
        photo_originals.c.kind == kind,
        photo_originals.c.missing_since.is_not(None),
    )
    return (photos.c[f"{kind}_available"] == 0) & ~was_known


def _marked_without_file() -> tuple[Any, ...]:
    return (photos.c.jpg_available == 0, photos.c.raw_available == 0, photos.c.other_available == 0)
