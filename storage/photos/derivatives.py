"""The table `photo_derivatives`: from which original thumbnail, preview and metadata of a photo were made.

The statuses of derivatives stand in `photos`; the files are the matter of `storage.library` and `flows.imaging`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from storage.database.engine import Access, Database
from storage.database.tables import photo_derivatives, photos
from storage.photos.originals import Original, OriginalsRepository
from storage.photos.photos import PhotosRepository
from storage.records import Photo, Record

#: Rows read or written by one statement.
BATCH_SIZE = 1_000


#: The kind of the row that says from which file the metadata of a photo were read.
METADATA: Final = "metadata"


#: The source hash of what was made while its original was written to.
UNKNOWN: Final = "unknown"


class DerivativeKind(StrEnum):
    """What is made of an original; the status of each stands in `photos.<kind>_status`."""

    THUMBNAIL = "thumbnail"
    PREVIEW = "preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivative(Record):
    """A row of `photo_derivatives`: what was made of a photo last, or failed to be, and from which original.

    Attributes:
        kind: of `DerivativeKind`, or `METADATA`.
        source_hash: the content hash of the original then; None if the original is as it was first seen.
        width: in pixels; None if no file was made, as the size is.
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
        """Whether it shows the original as it is now."""
        return (self.source_name, self.source_hash) == (original.name, original.content_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedPhoto:
    """What was found out about a photo, to be written if its files are still its own.

    Attributes:
        photo: as it was when the work began.
        values: columns of its row that differ from what they are to be.
        meta: keys of `meta_json` that are to be written; those that are None are removed.
        derivatives: what its derivatives were made from, where that is to be written.
        originals: what its files are like.
    """

    photo: Photo
    values: Mapping[str, Any]
    meta: Mapping[str, Any] | None = None
    derivatives: tuple[Derivative, ...] = ()
    originals: tuple[Original, ...] = ()


class DerivativesRepository:
    """What derivatives were made from, and the columns of photos that follow; read and written a batch at a time."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def get_many(self, photo_ids: Sequence[int]) -> dict[tuple[int, str], Derivative]:
        """The rows of these photos by photo and kind."""
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
        """Write what derivatives were made from, in place of what was known."""
        if not derivatives:
            return
        with self._access.write() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            statement = dialect.insert(photo_derivatives)
            written = {
                column.name: statement.excluded[column.name]
                for column in photo_derivatives.columns
                if not column.primary_key
            }
            connection.execute(
                statement.on_conflict_do_update(index_elements=["photo_id", "kind"], set_=written),
                [asdict(derivative) for derivative in derivatives],
            )

    def write_processed(self, processed: Sequence[ProcessedPhoto]) -> set[int]:
        """Write what was found out about photos; returns the ids of those that were moved or removed meanwhile.

        Of these nothing is written: what was found out is no longer true of them.
        """
        outdated: set[int] = set()
        with self._access.write() as connection:
            for start in range(0, len(processed), BATCH_SIZE):
                batch = processed[start : start + BATCH_SIZE]
                # Locked, so that no row goes before what points to it is written, and none changes in between.
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
        """Remove what is known of these photos' derivatives."""
        with self._access.write() as connection:
            for start in range(0, len(photo_ids), BATCH_SIZE):
                connection.execute(
                    delete(photo_derivatives).where(
                        photo_derivatives.c.photo_id.in_(photo_ids[start : start + BATCH_SIZE])
                    )
                )


def merged_meta(meta_json: Any, own: Mapping[str, Any]) -> Any:
    """`meta_json` with our keys as they are to be; keys of other programs stay, and so does what is no object."""
    if meta_json is not None and not isinstance(meta_json, dict):
        return meta_json
    merged = {name: value for name, value in (meta_json or {}).items() if own.get(name, value) is not None}
    return merged | {name: value for name, value in own.items() if value is not None}


def _merged(meta_json: Any, own: Mapping[str, Any] | None) -> dict[str, Any]:
    merged = meta_json if own is None else merged_meta(meta_json, own)
    return {} if merged == (meta_json or {}) or merged == meta_json else {"meta_json": merged}
