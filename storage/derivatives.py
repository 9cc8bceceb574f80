"""The table `photo_derivatives`: which original each thumbnail and preview was made from.

The statuses of derivatives stand in `photos`; the files are the matter of `storage.library` and `flows.imaging`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from storage.database import Access, Database
from storage.photos import PhotosRepository
from storage.records import Photo, Record
from storage.tables import photo_derivatives, photos

#: Rows read or written by one statement.
BATCH_SIZE = 1_000


class DerivativeKind(StrEnum):
    """What is made of an original; the status of each stands in `photos.<kind>_status`."""

    THUMBNAIL = "thumbnail"
    PREVIEW = "preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivative(Record):
    """A row of `photo_derivatives`: the original that a derivative was made from, as it was then.

    Attributes:
        source_hash: BLAKE2b of the original's contents in hexadecimal; None where it was never needed.
    """

    photo_id: int
    kind: str
    source_name: str
    source_size_bytes: int
    source_mtime_ns: int
    source_hash: str | None
    width: int | None
    height: int | None
    size_bytes: int | None
    generated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedPhoto:
    """What was found out about a photo, to be written if its files are still its own.

    Attributes:
        photo: as it was when the work began.
        values: columns of its row that differ from what they are to be.
        derivatives: what its derivatives were made from, where that is to be written.
    """

    photo: Photo
    values: Mapping[str, Any]
    derivatives: tuple[Derivative, ...] = ()


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
                # Locked, so that no row goes before what points to it is written.
                statement = (
                    select(photos.c.id, photos.c.project_id, photos.c.filename)
                    .where(photos.c.id.in_([one.photo.id for one in batch]))
                    .order_by(photos.c.id)
                    .with_for_update()
                )
                rows = {row.id: (row.project_id, row.filename) for row in connection.execute(statement)}
                current = [one for one in batch if rows.get(one.photo.id) == (one.photo.project_id, one.photo.filename)]
                outdated |= {one.photo.id for one in batch} - {one.photo.id for one in current}
                repository = PhotosRepository(connection)
                by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
                for one in current:
                    if one.values:
                        columns = tuple(sorted(one.values))
                        by_columns.setdefault(columns, []).append({"id": one.photo.id, **one.values})
                for rows_to_write in by_columns.values():
                    repository.update_many(rows_to_write)
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
