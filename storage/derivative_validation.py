"""Derivatives on disk beside the rows that speak of them, for one project at a time, in temporary tables.

Nothing here touches the disk: callers stage what they have scanned, and get ids of photos back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text, update

from storage.derivatives import DerivativeKind
from storage.job_items import write_rows
from storage.library import FileKind, ScannedDerivative, ScannedFile
from storage.library.names import is_decodable
from storage.tables import photos
from storage.temporary_tables import BATCH_SIZE

#: JPEG first, then other files, then RAW: the file that derivatives are made of.
_RANKS = {FileKind.JPG: 0, FileKind.OTHER: 1, FileKind.RAW: 2}


class DerivativeScan:
    """What lies on disk of one project's derivatives and originals; see `temporary_tables`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._project_id = 0
        self._position = 0
        for statement in _TABLES:
            connection.exec_driver_sql(statement)
        connection.commit()

    def begin(self, project_id: int) -> None:
        """Forget what was staged, and begin with a project."""
        self._project_id = project_id
        self._position = 0
        for table in ("staged_derivatives", "staged_originals", "staged_results"):
            self._connection.exec_driver_sql(f"DELETE FROM {table}")
        self._connection.commit()

    def add_derivatives(self, kind: DerivativeKind, derivatives: Iterable[ScannedDerivative]) -> None:
        """Stage a batch of thumbnails or previews."""
        rows = [(str(kind), file.base_name, file.size_bytes, file.mtime_ns) for file in derivatives]
        if rows:
            write_rows(self._connection, "staged_derivatives", ("kind", "base_name", "size_bytes", "mtime_ns"), rows)
            self._connection.commit()

    def add_originals(self, files: Iterable[ScannedFile]) -> None:
        """Stage a batch of the project's files; what is no workable image is left out."""
        rows: list[tuple[Any, ...]] = []
        for file in files:
            if file.kind in _RANKS and file.problem is None and is_decodable(file.name):
                self._position += 1
                rank = _RANKS[file.kind]
                rows.append((self._position, file.base_name, rank, file.name, file.size_bytes, file.mtime_ns))
        if rows:
            columns = ("position", "base_name", "source_rank", "file_name", "size_bytes", "mtime_ns")
            write_rows(self._connection, "staged_originals", columns, rows)
            self._connection.commit()

    def unusable(self, kind: DerivativeKind) -> Iterator[list[int]]:
        """The photos whose row says that the derivative was generated, while it is missing, empty or outdated.

        Outdated is what is older than its original, unless it is known to be made from just this original.
        """
        self._connection.exec_driver_sql("DELETE FROM staged_results")
        self._connection.execute(
            text(_FIND_UNUSABLE.format(status=f"{kind}_status")), {"project_id": self._project_id, "kind": str(kind)}
        )
        self._connection.commit()
        last_id = 0
        while ids := self._page(last_id):
            last_id = ids[-1]
            yield ids

    def _page(self, after_id: int) -> list[int]:
        statement = text(
            f"SELECT photo_id FROM staged_results WHERE photo_id > :after_id ORDER BY photo_id LIMIT {BATCH_SIZE}"
        )
        ids = list(self._connection.execute(statement, {"after_id": after_id}).scalars())
        self._connection.commit()
        return ids


def mark_missing(connection: Connection, kind: DerivativeKind, photo_ids: list[int], *, now: datetime) -> int:
    """Give photos whose derivative was `generated` the status `missing`; returns how many it still was of."""
    status = photos.c[f"{kind}_status"]
    statement = (
        update(photos)
        .where(photos.c.id.in_(photo_ids), status == "generated")
        .values({status: "missing", photos.c.updated_at: now})
    )
    return connection.execute(statement).rowcount


_TABLES = (
    """CREATE TEMPORARY TABLE staged_derivatives (kind TEXT NOT NULL, base_name TEXT NOT NULL,
    size_bytes BIGINT NOT NULL, mtime_ns BIGINT NOT NULL, PRIMARY KEY (base_name, kind))""",
    """CREATE TEMPORARY TABLE staged_originals (position BIGINT PRIMARY KEY, base_name TEXT NOT NULL,
    source_rank INTEGER NOT NULL, file_name TEXT NOT NULL, size_bytes BIGINT NOT NULL, mtime_ns BIGINT NOT NULL)""",
    "CREATE INDEX staged_originals_name ON staged_originals (base_name, source_rank)",
    "CREATE TEMPORARY TABLE staged_results (photo_id BIGINT PRIMARY KEY)",
)

_FIND_UNUSABLE = """INSERT INTO staged_results (photo_id)
    SELECT photos.id FROM photos
    LEFT JOIN staged_derivatives AS made ON made.base_name = photos.filename AND made.kind = :kind
    WHERE photos.project_id = :project_id AND photos.{status} = 'generated' AND (
        coalesce(made.size_bytes, 0) = 0
        OR (
            EXISTS (
                SELECT 1 FROM staged_originals AS original
                WHERE original.base_name = photos.filename AND original.mtime_ns > made.mtime_ns
                AND original.source_rank = (
                    SELECT min(source_rank) FROM staged_originals WHERE base_name = photos.filename
                )
            )
            AND NOT EXISTS (
                SELECT 1 FROM photo_derivatives AS known
                JOIN staged_originals AS original
                ON original.base_name = photos.filename AND original.file_name = known.source_name
                AND original.size_bytes = known.source_size_bytes AND original.mtime_ns = known.source_mtime_ns
                WHERE known.photo_id = photos.id AND known.kind = :kind
            )
        )
    )"""
