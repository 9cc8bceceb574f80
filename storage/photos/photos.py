"""The table `photos`: reads and writes the rows of photos in batches."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update

from storage.batches import BATCH_SIZE, batched, pages
from storage.database.engine import Access, Database
from storage.database.tables import IS_PENDING_DELETION, photos
from storage.records import Photo


class PhotosRepository:
    """Reads and writes photos, in a `Database` or inside a caller's own transaction."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def create_many(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Insert photos and return their ids in order; each row has at least `project_id` and `filename`."""
        now = self._access.clock()
        # One statement inserts all rows, so each has a value for every column.
        empty = {column.name: None for column in photos.columns if column.name != "id"}
        flags = {"jpg_available": 0, "raw_available": 0, "other_available": 0, "keep_jpg": 1, "keep_raw": 1}
        defaults = {**empty, **flags, "visibility": "private", "created_at": now, "updated_at": now}
        values = [{**defaults, "basename": row["filename"], **row} for row in rows]
        if not values:
            return []
        with self._access.write() as connection:
            statement = insert(photos).returning(photos.c.id, sort_by_parameter_order=True)
            return list(connection.execute(statement, values).scalars())

    def get_by_id(self, id: int) -> Photo | None:
        """Return the photo with this id, or None."""
        return next(iter(self.get_many([id])), None)

    def get_many(self, ids: Sequence[int]) -> list[Photo]:
        """Return the photos with these ids, in order of id; ids that do not exist are left out."""
        found: list[Photo] = []
        with self._access.read() as connection:
            for batch in batched(ids):
                statement = select(photos).where(photos.c.id.in_(batch))
                found += [Photo.from_row(row) for row in connection.execute(statement).mappings()]
        return sorted(found, key=lambda photo: photo.id)

    def get_named(self, project_id: int, names: Sequence[str]) -> list[Photo]:
        """Return the photos of a project with exactly these base names, in order of id."""
        statement = _of_project(project_id).where(photos.c.filename.in_(names)).order_by(photos.c.id)
        with self._access.read() as connection:
            return [Photo.from_row(row) for row in connection.execute(statement).mappings()]

    def iterate_project(self, project_id: int, *, batch_size: int = BATCH_SIZE) -> Iterator[Photo]:
        """Yield the photos of a project in order of id. No transaction is open between batches."""
        for rows in pages(self._access.read, _of_project(project_id), photos.c.id, batch_size):
            yield from map(Photo.from_row, rows)

    def base_names(self, project_id: int) -> Iterator[str]:
        """Yield the base names of all photos of a project, in no particular order."""
        statement = select(photos.c.id, photos.c.filename).where(photos.c.project_id == project_id)
        for rows in pages(self._access.read, statement, photos.c.id, BATCH_SIZE * 10):
            yield from (row["filename"] for row in rows)

    def list_by_project(self, project_id: int) -> list[Photo]:
        """Return all photos of a project, in order of id."""
        return list(self.iterate_project(project_id))

    def iterate_pending_deletions(self, project_id: int, *, batch_size: int = BATCH_SIZE) -> Iterator[list[Photo]]:
        """Yield batches of the photos of a project that have a file to remove (keep flag 0), in order of id."""
        statement = _of_project(project_id).where(IS_PENDING_DELETION)
        for rows in pages(self._access.read, statement, photos.c.id, batch_size):
            yield [Photo.from_row(row) for row in rows]

    def iterate_lacking_derivatives(self, project_id: int, *, batch_size: int = BATCH_SIZE) -> Iterator[list[int]]:
        """Yield batches of the ids of photos that have a file but lack a thumbnail or preview, in order.

        Photos whose derivatives failed or are not supported are left out, because another attempt would end in the same
        way.
        """
        lacks = [
            status.is_(None) | status.in_(("pending", "missing"))
            for status in (photos.c.thumbnail_status, photos.c.preview_status)
        ]
        has_file = (photos.c.jpg_available == 1) | (photos.c.raw_available == 1) | (photos.c.other_available == 1)
        statement = select(photos.c.id).where(photos.c.project_id == project_id, has_file, lacks[0] | lacks[1])
        for rows in pages(self._access.read, statement, photos.c.id, batch_size):
            yield [row["id"] for row in rows]

    def update_many(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Update many photos; each mapping has `id` and the new values of some columns."""
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            names = tuple(sorted(row.keys() - {"id"}))
            by_columns[names].append({"photo_id": row["id"]} | {f"new_{name}": row[name] for name in names})
        by_columns.pop((), None)
        if not by_columns:
            return
        with self._access.write() as connection:
            for names, values in by_columns.items():
                new = {name: bindparam(f"new_{name}", type_=photos.c[name].type) for name in names}
                statement = update(photos).where(photos.c.id == bindparam("photo_id"))
                connection.execute(statement.values(new | {"updated_at": self._access.clock()}), values)

    def remove_many(self, ids: Sequence[int]) -> int:
        """Remove the rows of photos, and the rows of other tables that belong to them; the files stay.

        Return the number of removed photos.
        """
        removed = 0
        with self._access.write() as connection:
            for batch in batched(ids):
                removed += connection.execute(delete(photos).where(photos.c.id.in_(batch))).rowcount
        return removed


def _of_project(project_id: int) -> Select[Any]:
    return select(photos).where(photos.c.project_id == project_id)
