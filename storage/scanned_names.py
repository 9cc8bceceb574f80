"""The file names of one project in a temporary table, to be asked for by base name in any spelling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from storage.job_items import write_rows
from storage.library.kinds import AcceptedExtensions, FileKind
from storage.library.names import name_key
from storage.reconciliation import ProjectComparison

_COLUMNS = ("file_name", "base_name", "name_key", "kind", "is_workable", "photo_id")

_TABLE = """CREATE TEMPORARY TABLE scanned_names (file_name TEXT NOT NULL, base_name TEXT NOT NULL,
    name_key TEXT NOT NULL, kind TEXT NOT NULL, is_workable INTEGER NOT NULL, photo_id BIGINT)"""

_NAMED_LIKE = """SELECT file_name, base_name, kind, is_workable, photo_id FROM scanned_names WHERE name_key = :key"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedName:
    """A file in a project's folder.

    Attributes:
        photo_id: the photo that it belongs to although it is spelled differently; None where it is spelled the same,
            or belongs to none.
        is_workable: whether it may be touched; symlinks and the like may not.
    """

    name: str
    base_name: str
    kind: FileKind
    is_workable: bool
    photo_id: int | None


class ScannedNames:
    """The names of one project at a time; made on a connection as `temporary_tables` gives it."""

    def __init__(self, connection: Connection, *, extensions: AcceptedExtensions) -> None:
        self._connection = connection
        self._extensions = extensions
        connection.exec_driver_sql(_TABLE)
        connection.exec_driver_sql("CREATE INDEX scanned_names_key ON scanned_names (name_key)")
        connection.commit()

    def replace(self, comparison: ProjectComparison) -> None:
        """Forget what was there, and take in the names of a project."""
        self._connection.exec_driver_sql("DELETE FROM scanned_names")
        for part, compared in comparison.parts():
            rows = self._rows(part.names, compared.owners, is_workable=True)
            write_rows(self._connection, "scanned_names", _COLUMNS, rows)
            rows = self._rows(part.odd_names, compared.owners, is_workable=False)
            write_rows(self._connection, "scanned_names", _COLUMNS, rows)
            self._connection.commit()
        if self._connection.dialect.name == "postgresql":
            self._connection.exec_driver_sql("ANALYZE scanned_names")
            self._connection.commit()

    def named_like(self, name: str) -> list[ScannedName]:
        """The files whose base name is this one, in any case and Unicode form, in the order of their names."""
        rows = self._connection.execute(text(_NAMED_LIKE), {"key": name_key(name)}).all()
        self._connection.commit()
        return sorted((_scanned_name(row) for row in rows), key=lambda file: file.name)

    def _rows(self, names: list[str], owners: dict[str, int], *, is_workable: bool) -> Iterator[tuple[Any, ...]]:
        for name in names:
            described = self._extensions.describe(name)
            base_name = described.base_name
            owner = None if described.kind is FileKind.UNACCEPTED else owners.get(base_name)
            yield (name, base_name, name_key(base_name), str(described.kind), int(is_workable), owner)


def _scanned_name(row: Any) -> ScannedName:
    return ScannedName(name=row[0], base_name=row[1], kind=FileKind(row[2]), is_workable=bool(row[3]), photo_id=row[4])
