"""The table `photo_derivatives`: the originals from which the thumbnail, preview and metadata of a photo were made.

The statuses of derivatives are columns of `photos`; `storage.library` and `flows.imaging` handle the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, delete, select

from storage.database.engine import Access, Database
from storage.database.tables import photo_derivatives, photos
from storage.database.upsert import upsert
from storage.photos.originals import Original, OriginalsRepository
from storage.photos.photos import PhotosRepository
from storage.records import Photo, Record

#: Rows read or written by one statement.
BATCH_SIZE = 1_000

#: The kind of the row that names the file from which the metadata of a photo were read.
METADATA: Final = "metadata"

#: The source hash if the state of the original that was used is unknown, for example because it changed meanwhile.
UNKNOWN: Final = "unknown"


class DerivativeKind(StrEnum):
    """The kinds of derivatives; the status of each is in `photos.<kind>_status`."""

    THUMBNAIL = "thumbnail"
    PREVIEW = "preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivative(Record):
    """A row of `photo_derivatives`: the latest attempt to make a derivative, and the original that it used.

    Attributes:
        kind: a `DerivativeKind`, or `METADATA`.
        source_name: the name of the original.
        source_hash: the content hash of the original at that time; None if the original never changed.
        width: in pixels; None if no file was made. The same is true of `height` and `size_bytes`.
    """

    photo_id: int
    kind: str
    source_name: str
    source_hash: str | None
    width: int | None = None
    height: int | None = None
    size_bytes: int | None = None
    generated_at: datetime

    def is_made_from(self, original: Original) -> bool:
        """Return whether it was made from this original in its current state."""
        return (self.source_name, self.source_hash) == (original.name, original.content_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedPhoto:
    """The results for a photo, to be written if the photo was neither moved nor removed meanwhile.

    Attributes:
        photo: the photo when the work began.
        values: the new values of columns of its row that change.
        meta: new values of keys of `meta_json`; keys with None are removed.
        derivatives: new rows of its derivatives.
        originals: new rows of its originals.
    """

    photo: Photo
    values: Mapping[str, Any]
    meta: Mapping[str, Any] | None = None
    derivatives: tuple[Derivative, ...] = ()
    originals: tuple[Original, ...] = ()


class DerivativesRepository:
    """The rows of derivatives and the columns of photos that depend on them, read and written in batches."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def get_many(self, photo_ids: Sequence[int]) -> dict[tuple[int, str], Derivative]:
        """Return the rows of these photos, by photo id and kind."""
        found: dict[tuple[int, str], Derivative] = {}
        with self._access.read() as connection:
            for start in range(0, len(photo_ids), BATCH_SIZE):
                statement = select(photo_derivatives).where(
                    photo_derivatives.c.photo_id.in_(photo_ids[start : start + BATCH_SIZE])
                )
                for row in connection.execute(statement).mappings():
                    found[row["photo_id"], row["kind"]] = Derivative.from_row(row)
        return found

    def save_many(self, derivatives: Sequence[Derivative]) -> None:
        """Insert rows, or replace the rows of the same photo and kind."""
        if not derivatives:
            return
        with self._access.write() as connection:
            upsert(connection, photo_derivatives, [asdict(derivative) for derivative in derivatives])

    def write_processed(self, processed: Sequence[ProcessedPhoto]) -> set[int]:
        """Write the results for photos; return the ids of the photos that were moved, renamed or removed meanwhile.

        Nothing is written for those photos, because their results are outdated.
        """
        outdated: set[int] = set()
        with self._access.write() as connection:
            for start in range(0, len(processed), BATCH_SIZE):
                batch = processed[start : start + BATCH_SIZE]
                # Lock the rows, so that none changes or is removed before the rows that refer to it are written.
                statement = (
                    select(photos.c.id, photos.c.project_id, photos.c.filename, photos.c.meta_json)
                    .where(photos.c.id.in_([one.photo.id for one in batch]))
                    .order_by(photos.c.id)
                    .with_for_update()
                )
                rows = {row.id: row for row in connection.execute(statement)}
                by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
                current: list[ProcessedPhoto] = []
                for one in batch:
                    row = rows.get(one.photo.id)
                    if row is None or (row.project_id, row.filename) != (one.photo.project_id, one.photo.filename):
                        outdated.add(one.photo.id)
                        continue
                    current.append(one)
                    values = {**one.values, **_merged(row.meta_json, one.meta)}
                    if values:
                        by_columns.setdefault(tuple(sorted(values)), []).append({"id": one.photo.id, **values})
                repository = PhotosRepository(connection)
                for rows_to_write in by_columns.values():
                    repository.update_many(rows_to_write)
                OriginalsRepository(connection).save_many([row for one in current for row in one.originals])
                DerivativesRepository(connection).save_many([row for one in current for row in one.derivatives])
        return outdated

    def forget(self, photo_ids: Sequence[int]) -> None:
        """Remove the rows of these photos."""
        with self._access.write() as connection:
            for start in range(0, len(photo_ids), BATCH_SIZE):
                connection.execute(
                    delete(photo_derivatives).where(
                        photo_derivatives.c.photo_id.in_(photo_ids[start : start + BATCH_SIZE])
                    )
                )


def merged_meta(meta_json: Any, own: Mapping[str, Any]) -> Any:
    """Return `meta_json` with new values of our keys; keys with None are removed, and keys of other programs stay.

    A `meta_json` that is not an object is returned unchanged.
    """
    if meta_json is not None and not isinstance(meta_json, dict):
        return meta_json
    merged = {name: value for name, value in (meta_json or {}).items() if own.get(name, value) is not None}
    return merged | {name: value for name, value in own.items() if value is not None}


def _merged(meta_json: Any, own: Mapping[str, Any] | None) -> dict[str, Any]:
    merged = meta_json if own is None else merged_meta(meta_json, own)
    return {} if merged == (meta_json or {}) or merged == meta_json else {"meta_json": merged}
