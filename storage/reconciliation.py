"""One project's files beside its rows: a scan staged in temporary tables, and set-based statements that compare.

A file belongs to the photo with its base name, spelled exactly so; where there is none, to one whose name differs only
in case or Unicode form. Nothing here touches the disk or changes a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select, text

from storage.availability import Availability
from storage.job_items import write_rows
from storage.library.kinds import FileKind
from storage.library.names import is_decodable, name_key
from storage.library.scan import ScannedFile
from storage.photos import BATCH_SIZE as PHOTO_BATCH_SIZE
from storage.tables import photos
from storage.temporary_tables import BATCH_SIZE, minimum_text

_KINDS = ("jpg", "raw", "other")

#: Up to so many names are looked for in memory, some 10 MB; above that every row of the project is staged as well.
_MAX_KEYS_IN_MEMORY = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewName:
    """A base name on disk that no row stands for.

    Attributes:
        extension: that of the JPEG, else of the RAW, else of another file; lower case, without the dot.
    """

    name: str
    jpg: int
    raw: int
    other: int
    extension: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoWithoutFile:
    """A photo whose row says that it has no file, and that has none."""

    photo_id: int
    filename: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A file that the scan saw.

    Attributes:
        photo_id: the photo that it belongs to although it is spelled differently; None where it is spelled the same,
            or belongs to none.
        is_workable: whether it may be touched; symlinks and the like may not.
    """

    position: int
    name: str
    base_name: str
    kind: FileKind
    size_bytes: int
    is_workable: bool
    photo_id: int | None


class ProjectScan:
    """The files of one project at a time, in temporary tables of a connection; see `temporary_tables`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_sqlite = connection.dialect.name == "sqlite"
        self._project_id = 0
        self._newest_id = 0
        self._position = 0
        self._has_index = False
        for statement in _TABLES:
            # Only a primary key of this very type is SQLite's row id, and needs no index of its own.
            identifier = "INTEGER" if self._is_sqlite else "BIGINT"
            connection.exec_driver_sql(statement.replace("IDENTIFIER", identifier))
        connection.commit()

    def begin(self, project_id: int) -> None:
        """Forget what was staged, and begin with a project; call it before its folder is scanned.

        Photos that get their rows from now on are left out of all that follows: their files may come too late for
        the scan.
        """
        self._project_id = project_id
        self._position = 0
        if self._has_index:
            self._connection.exec_driver_sql("DROP INDEX scan_files_name_key")
            self._has_index = False
        for table in ("scan_files", "scan_names", "scan_rows", "scan_results", "scan_new_names"):
            self._connection.exec_driver_sql(f"DELETE FROM {table}" if self._is_sqlite else f"TRUNCATE {table}")
        newest = text("SELECT coalesce(max(id), 0) FROM photos WHERE project_id = :project_id")
        self._newest_id = self._connection.execute(newest, {"project_id": project_id}).scalar_one()
        self._connection.commit()

    def add(self, files: Iterable[ScannedFile]) -> None:
        """Stage files; hidden ones, and those whose names no database can hold, are left out."""
        rows: list[tuple[Any, ...]] = []
        for file in files:
            self._position += 1
            if not file.is_hidden and is_decodable(file.name):
                rows.append(
                    (
                        self._position,
                        file.name,
                        file.base_name,
                        name_key(file.base_name),
                        str(file.kind),
                        file.extension,
                        file.size_bytes,
                        int(file.problem is None),
                    )
                )
        if rows:
            write_rows(self._connection, "scan_files", _FILE_COLUMNS, rows)
            self._connection.commit()

    def settle(self) -> None:
        """Find out which photo each file belongs to; call it after the last file."""
        self._run(_GATHER_NAMES.format(base_key=minimum_text(self._connection, "name_key")))
        if not self._is_sqlite:
            self._connection.exec_driver_sql("ANALYZE scan_files, scan_names")
        self._run(_MARK_NAMES_WITH_ROW)
        if self._connection.execute(text("SELECT 1 FROM scan_names WHERE has_row = 0 LIMIT 1")).first() is not None:
            self._settle_other_spellings()
        self._connection.commit()

    def differing_availability(self) -> Iterator[list[Availability]]:
        """The photos whose availability is not what the disk says, a batch at a time in id order.

        What the scan saw and may not touch (a symlink, an unreadable file) leaves its flag as it is.
        """
        self._run("DELETE FROM scan_results")
        self._run(_FIND_DIFFERENCES)
        self._connection.commit()
        for rows in self._pages("scan_results", "photo_id", "photo_id, filename, jpg, raw, other"):
            yield [Availability(photo_id=row[0], filename=row[1], jpg=row[2], raw=row[3], other=row[4]) for row in rows]

    def new_names(self) -> Iterator[list[NewName]]:
        """The base names of photos on disk that no row stands for, a batch at a time.

        Spellings of one name are one photo.
        """
        self._run("DELETE FROM scan_new_names")
        self._run(_FIND_NEW_NAMES.format(name=minimum_text(self._connection, "base_name")))
        self._connection.commit()
        for rows in self._pages("scan_new_names", "position", "position, base_name, jpg, raw, other, extension"):
            yield [NewName(name=row[1], jpg=row[2], raw=row[3], other=row[4], extension=row[5]) for row in rows]

    def photos_without_file(self) -> Iterator[list[PhotoWithoutFile]]:
        """The photos with no file, neither by their row nor by the scan, a batch at a time in id order."""
        self._run("DELETE FROM scan_results")
        self._run(_FIND_PHOTOS_WITHOUT_FILE)
        self._connection.commit()
        for rows in self._pages("scan_results", "photo_id", "photo_id, filename"):
            yield [PhotoWithoutFile(photo_id=row[0], filename=row[1]) for row in rows]

    def files_of_kind(self, kind: FileKind) -> Iterator[list[StagedFile]]:
        """The files of a kind that may be touched, a batch at a time in the order of the scan."""
        columns = "position, file_name, base_name, kind, size_bytes, is_workable, NULL"
        condition = f"kind = '{kind}' AND is_workable = 1"
        for rows in self._pages("scan_files", "position", columns, condition):
            yield [_staged_file(row) for row in rows]

    def files_named_like(self, names: Iterable[str]) -> list[StagedFile]:
        """The files whose base name is one of these, in any case and Unicode form, in the order of their names."""
        if not self._has_index:
            self._connection.exec_driver_sql("CREATE INDEX scan_files_name_key ON scan_files (name_key)")
            self._has_index = True
        keys = sorted({name_key(name) for name in names})
        found: list[StagedFile] = []
        statement = text(_FILES_BY_KEY).bindparams(bindparam("keys", expanding=True))
        for start in range(0, len(keys), PHOTO_BATCH_SIZE):
            rows = self._connection.execute(statement, {"keys": keys[start : start + PHOTO_BATCH_SIZE]})
            found += [_staged_file(row) for row in rows]
        self._connection.commit()
        return sorted(found, key=lambda file: file.name)

    def _settle_other_spellings(self) -> None:
        wanted = self._keys_without_row()
        last_id = 0
        while True:
            statement = (
                select(photos.c.id, photos.c.filename)
                .where(photos.c.project_id == self._project_id, photos.c.id > last_id, photos.c.id <= self._newest_id)
                .order_by(photos.c.id)
                .limit(BATCH_SIZE)
            )
            batch = self._connection.execute(statement).all()
            if not batch:
                break
            last_id = batch[-1][0]
            rows = [(photo_id, filename, name_key(filename)) for photo_id, filename in batch]
            rows = [row for row in rows if wanted is None or row[2] in wanted]
            if rows:
                write_rows(self._connection, "scan_rows", ("photo_id", "filename", "name_key"), rows)
            self._connection.commit()
        if not self._is_sqlite:
            self._connection.exec_driver_sql("ANALYZE scan_rows")
        for statement_text in _SETTLE_OTHER_SPELLINGS:
            self._run(statement_text)

    def _keys_without_row(self) -> set[str] | None:
        """The keys of the names that no row is spelled as; None where they are too many for memory."""
        statement = text(f"SELECT name_key FROM scan_names WHERE has_row = 0 LIMIT {_MAX_KEYS_IN_MEMORY + 1}")
        keys = self._connection.execute(statement).scalars().all()
        return None if len(keys) > _MAX_KEYS_IN_MEMORY else set(keys)

    def _run(self, statement: str) -> None:
        self._connection.execute(text(statement), {"project_id": self._project_id, "newest_id": self._newest_id})

    def _pages(self, table: str, key: str, columns: str, condition: str = "1 = 1") -> Iterator[Sequence[Any]]:
        statement = text(
            f"SELECT {columns} FROM {table} WHERE {key} > :last AND {condition} ORDER BY {key} LIMIT {PHOTO_BATCH_SIZE}"
        )
        last = 0
        while True:
            rows = self._connection.execute(statement, {"last": last}).all()
            self._connection.commit()
            if not rows:
                return
            last = rows[-1][0]
            yield rows


def known_names(connection: Connection, project_id: int, names: Sequence[str]) -> set[str]:
    """Those of the names that a row of the project has, spelled exactly so."""
    statement = select(photos.c.filename).where(photos.c.project_id == project_id, photos.c.filename.in_(names))
    return set(connection.execute(statement).scalars())


def names_of_other_photos(
    connection: Connection, project_id: int, names: Sequence[str], ids: Sequence[int]
) -> set[str]:
    """Those of the names that a photo of the project has which is not one of `ids`."""
    statement = select(photos.c.filename).where(
        photos.c.project_id == project_id, photos.c.filename.in_(names), photos.c.id.not_in(ids)
    )
    return set(connection.execute(statement).scalars())


def _staged_file(row: Any) -> StagedFile:
    return StagedFile(
        position=row[0],
        name=row[1],
        base_name=row[2],
        kind=FileKind(row[3]),
        size_bytes=row[4],
        is_workable=bool(row[5]),
        photo_id=row[6],
    )


_FILE_COLUMNS = (
    "position",
    "file_name",
    "base_name",
    "name_key",
    "kind",
    "extension",
    "size_bytes",
    "is_workable",
)

_TABLES = (
    """CREATE TEMPORARY TABLE scan_files (position IDENTIFIER PRIMARY KEY, file_name TEXT NOT NULL,
    base_name TEXT NOT NULL, name_key TEXT NOT NULL, kind TEXT NOT NULL, extension TEXT NOT NULL,
    size_bytes BIGINT NOT NULL, is_workable INTEGER NOT NULL)""",
    # `photo_id` is the photo that the name belongs to although it is spelled differently.
    """CREATE TEMPORARY TABLE scan_names (base_name TEXT PRIMARY KEY, name_key TEXT NOT NULL, has_row INTEGER NOT NULL,
    photo_id BIGINT, jpg TEXT, raw TEXT, other TEXT, jpg_unclear INTEGER NOT NULL, raw_unclear INTEGER NOT NULL,
    other_unclear INTEGER NOT NULL)""",
    "CREATE INDEX scan_names_photo ON scan_names (photo_id)",
    """CREATE TEMPORARY TABLE scan_rows (photo_id IDENTIFIER PRIMARY KEY, filename TEXT NOT NULL,
    name_key TEXT NOT NULL, has_file INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX scan_rows_name_key ON scan_rows (name_key)",
    """CREATE TEMPORARY TABLE scan_results (photo_id IDENTIFIER PRIMARY KEY, filename TEXT NOT NULL,
    jpg INTEGER, raw INTEGER, other INTEGER)""",
    """CREATE TEMPORARY TABLE scan_new_names (position IDENTIFIER PRIMARY KEY, base_name TEXT NOT NULL,
    jpg INTEGER NOT NULL, raw INTEGER NOT NULL, other INTEGER NOT NULL, extension TEXT NOT NULL)""",
)

# `jpg`, `raw` and `other` hold the extension of the first such file, or NULL. Sidecars make a name, but no photo.
_GATHER_NAMES = (
    "INSERT INTO scan_names (base_name, name_key, has_row, "
    + "".join(f"{kind}, {kind}_unclear, " for kind in _KINDS)
    + "photo_id) SELECT base_name, {base_key}, 0, "
    + "".join(
        f"min(CASE WHEN kind = '{kind}' AND is_workable = 1 THEN extension END), "
        f"max(CASE WHEN kind = '{kind}' AND is_workable = 0 THEN 1 ELSE 0 END), "
        for kind in _KINDS
    )
    + "NULL FROM scan_files WHERE kind <> 'unaccepted' GROUP BY base_name"
)

_MARK_NAMES_WITH_ROW = """UPDATE scan_names SET has_row = 1 WHERE EXISTS (
    SELECT 1 FROM photos WHERE photos.project_id = :project_id AND photos.filename = scan_names.base_name)"""

# A row that has no file spelled as it is comes first: it is the one that misses the file.
_SETTLE_OTHER_SPELLINGS = (
    "UPDATE scan_rows SET has_file = 1 WHERE filename IN (SELECT base_name FROM scan_names)",
    """UPDATE scan_names SET photo_id = (SELECT min(scan_rows.photo_id) FROM scan_rows
    WHERE scan_rows.name_key = scan_names.name_key AND scan_rows.has_file = 0) WHERE has_row = 0""",
    """UPDATE scan_names SET photo_id = (SELECT min(scan_rows.photo_id) FROM scan_rows
    WHERE scan_rows.name_key = scan_names.name_key) WHERE has_row = 0 AND photo_id IS NULL""",
)


def _flag(kind: str) -> str:
    return (
        f"CASE WHEN same.{kind} IS NOT NULL OR coalesce(spelled.{kind}, 0) = 1 THEN 1 "
        f"WHEN coalesce(same.{kind}_unclear, 0) = 1 OR coalesce(spelled.{kind}_unclear, 0) = 1 "
        f"THEN photos.{kind}_available ELSE 0 END"
    )


_FIND_DIFFERENCES = (
    "INSERT INTO scan_results (photo_id, filename, jpg, raw, other) SELECT photos.id, photos.filename, "
    + ", ".join(_flag(kind) for kind in _KINDS)
    + " FROM photos LEFT JOIN scan_names AS same ON same.base_name = photos.filename LEFT JOIN (SELECT photo_id, "
    + ", ".join(
        f"max(CASE WHEN {kind} IS NULL THEN 0 ELSE 1 END) AS {kind}, max({kind}_unclear) AS {kind}_unclear"
        for kind in _KINDS
    )
    + " FROM scan_names WHERE photo_id IS NOT NULL GROUP BY photo_id) AS spelled ON spelled.photo_id = photos.id"
    + " WHERE photos.project_id = :project_id AND photos.id <= :newest_id AND ("
    + " OR ".join(f"photos.{kind}_available <> {_flag(kind)}" for kind in _KINDS)
    + ")"
)

_FIND_NEW_NAMES = (
    "INSERT INTO scan_new_names (position, base_name, jpg, raw, other, extension) "
    "SELECT row_number() OVER (ORDER BY name), name, "
    + ", ".join(f"CASE WHEN {kind} IS NULL THEN 0 ELSE 1 END" for kind in _KINDS)
    + ", coalesce(jpg, raw, other) FROM (SELECT {name} AS name, "
    + ", ".join(f"min({kind}) AS {kind}" for kind in _KINDS)
    + " FROM scan_names WHERE has_row = 0 AND photo_id IS NULL GROUP BY name_key) AS found "
    + "WHERE coalesce(jpg, raw, other) IS NOT NULL"
)

_FIND_PHOTOS_WITHOUT_FILE = """INSERT INTO scan_results (photo_id, filename)
    SELECT photos.id, photos.filename FROM photos WHERE photos.project_id = :project_id AND photos.id <= :newest_id
    AND photos.jpg_available = 0 AND photos.raw_available = 0 AND photos.other_available = 0
    AND NOT EXISTS (SELECT 1 FROM scan_names WHERE (scan_names.base_name = photos.filename) AND {is_photo})
    AND NOT EXISTS (SELECT 1 FROM scan_names WHERE (scan_names.photo_id = photos.id) AND {is_photo})""".format(
    is_photo="(coalesce(jpg, raw, other) IS NOT NULL OR jpg_unclear + raw_unclear + other_unclear > 0)"
)

_FILES_BY_KEY = """SELECT scan_files.position, scan_files.file_name, scan_files.base_name, scan_files.kind,
    scan_files.size_bytes, scan_files.is_workable, scan_names.photo_id
    FROM scan_files LEFT JOIN scan_names ON scan_names.base_name = scan_files.base_name
    WHERE scan_files.name_key IN :keys"""
