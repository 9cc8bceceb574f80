"""The table `photo_derivatives`: the originals from which the thumbnail, preview and metadata of a photo were made.

The statuses of derivatives are columns of `photos`; `storage.library` and `flows.imaging` handle the files.
`storage.comparison.derivative_scan` decides which derivatives are outdated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, delete, select

from storage.batches import batched
from storage.database.column_types import as_sqlite_json
from storage.database.engine import Access, Database
from storage.database.tables import photo_derivatives, photos
from storage.photos.availability import AVAILABILITY_COLUMNS
from storage.photos.originals import Original, OriginalsRepository
from storage.photos.photos import PhotosRepository
from storage.photos.upsert import upsert
from storage.records import Photo, Record

#: The `kind` of the row for the metadata of a photo; the row names the file from which the metadata was read.
METADATA: Final = "metadata"

#: The source hash if it is unknown from which contents a derivative was made, because the original changed meanwhile.
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
        source_hash: the content hash that the original had when the derivative was made, or `UNKNOWN`; None if the
            original had no hash then.
        width: the width in pixels; None if no file was made. Then `height` and `size_bytes` are None, too.
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
        """Return whether the derivative was made from this original with its current contents."""
        return (self.source_name, self.source_hash) == (original.name, original.content_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedPhoto:
    """The results of processing a photo; written only if the photo was not moved, renamed or removed meanwhile.

    Attributes:
        photo: the photo as it was when the work began.
        values: new values for columns of the photo's row. Those of `AVAILABILITY_COLUMNS` are written only if none of
            these columns has changed meanwhile.
        meta: new values for keys of `meta_json`; keys with None are removed.
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
            for batch in batched(photo_ids):
                statement = select(photo_derivatives).where(photo_derivatives.c.photo_id.in_(batch))
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
            for batch in batched(processed):
                # The photos are locked, so that none changes before the rows that refer to it are written.
                statement = (
                    select(*photos.c["id", "project_id", "filename", "meta_json", *AVAILABILITY_COLUMNS])
                    .where(photos.c.id.in_([one.photo.id for one in batch]))
                    .order_by(photos.c.id)
                    .with_for_update()
                )
                rows = {row.id: row for row in connection.execute(statement)}
                new_values: list[dict[str, Any]] = []
                current: list[ProcessedPhoto] = []
                for one in batch:
                    row = rows.get(one.photo.id)
                    if row is None or (row.project_id, row.filename) != (one.photo.project_id, one.photo.filename):
                        outdated.add(one.photo.id)
                        continue
                    current.append(one)
                    values = dict(one.values)
                    if any(getattr(row, name) != getattr(one.photo, name) for name in AVAILABILITY_COLUMNS):
                        # A file has been added or removed since the work began. If its new keep flag were replaced by
                        # an outdated 0, the next removal would move the file to the trash.
                        values = {name: value for name, value in values.items() if name not in AVAILABILITY_COLUMNS}
                    values["id"] = one.photo.id
                    if one.meta is not None:
                        merged = merged_meta(row.meta_json, one.meta)
                        if merged not in (row.meta_json, row.meta_json or {}):
                            is_sqlite = connection.dialect.name == "sqlite"
                            values["meta_json"] = as_sqlite_json(merged) if is_sqlite else merged
                    new_values.append(values)
                PhotosRepository(connection).update_many(new_values)
                OriginalsRepository(connection).save_many([row for one in current for row in one.originals])
                DerivativesRepository(connection).save_many([row for one in current for row in one.derivatives])
        return outdated

    def forget(self, photo_ids: Sequence[int]) -> None:
        """Remove the rows of these photos from `photo_derivatives`; photos and files stay."""
        with self._access.write() as connection:
            for batch in batched(photo_ids):
                connection.execute(delete(photo_derivatives).where(photo_derivatives.c.photo_id.in_(batch)))


def merged_meta(meta_json: Any, own: Mapping[str, Any]) -> Any:
    """Return `meta_json` with the values `own`; keys with None in `own` are removed, and all other keys are kept.

    A `meta_json` that is not an object is returned unchanged.
    """
    if meta_json is not None and not isinstance(meta_json, dict):
        return meta_json
    merged = {name: value for name, value in (meta_json or {}).items() if name not in own or own[name] is not None}
    return merged | {name: value for name, value in own.items() if value is not None}
