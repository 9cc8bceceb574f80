"""Finds outdated derivatives (thumbnails and previews) and metadata of a project, with the help of temporary tables.

`DerivativeScan.outdated` defines when a derivative of a project is outdated. `_is_needed` in
`flows.steps.images.derivative_steps` applies the same rule to a generated derivative, just before it is made again.
This module does not access the library: callers add scanned files, and get ids of photos.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime

from sqlalchemy import Connection, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from storage.batches import pages
from storage.database.tables import photo_derivatives, photos
from storage.database.temporary_tables import BATCH_SIZE
from storage.library.naming.kinds import SOURCE_ORDER
from storage.library.naming.names import is_decodable, name_key
from storage.library.paths import derivative_stem
from storage.library.scan import ScannedDerivative, ScannedFile
from storage.lifecycle.job_items import write_rows
from storage.photos.derivatives import METADATA, UNKNOWN, DerivativeKind
from storage.photos.originals import Original

_RANKS = {kind: rank for rank, kind in enumerate(SOURCE_ORDER)}


class DerivativeScan:
    """The derivatives and originals of one project on disk, in temporary tables.

    `storage.database.temporary_tables` gives the connection for these tables.

    A file belongs to the photo with exactly its base name; if there is none, to the photo whose name differs only in
    case or Unicode form.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._project_id = 0
        # With this collation, PostgreSQL sorts names as Python does.
        collation = ' COLLATE "C"' if connection.dialect.name == "postgresql" else ""
        for statement in _TABLES:
            connection.exec_driver_sql(statement.format(collation=collation))
        connection.commit()

    def begin(self, project_id: int) -> None:
        """Remove all staged files and begin with another project."""
        self._project_id = project_id
        self._connection.rollback()
        for table in ("staged_derivatives", "staged_originals", "staged_strangers", "staged_names", "staged_results"):
            self._connection.exec_driver_sql(f"DELETE FROM {table}")
        self._connection.commit()

    def add_derivatives(self, kind: DerivativeKind, derivatives: Iterable[ScannedDerivative]) -> None:
        """Stage a batch of thumbnails or previews."""
        rows = [(str(kind), file.base_name, file.size_bytes, file.mtime_ns) for file in derivatives]
        if rows:
            write_rows(self._connection, "staged_derivatives", ("kind", "base_name", "size_bytes", "mtime_ns"), rows)
            self._connection.commit()

    def add_originals(self, files: Iterable[ScannedFile]) -> None:
        """Stage a batch of the project's files, after the derivatives. Only usable images are staged."""
        rows = [
            (
                file.base_name,
                name_key(file.base_name),
                _RANKS[file.kind],
                file.name,
                file.size_bytes,
                file.mtime_ns,
                file.ctime_ns,
            )
            for file in files
            if file.kind in _RANKS and file.problem is None and is_decodable(file.name)
        ]
        if rows:
            columns = ("base_name", "name_key", "source_rank", "file_name", "size_bytes", "mtime_ns", "ctime_ns")
            write_rows(self._connection, "staged_originals", columns, rows)
            self._name_derivatives_in_full(base_name for base_name, *_ in rows)
            self._connection.commit()

    def changed_files(self) -> Iterator[list[tuple[int, str]]]:
        """Yield batches of (photo id, file name) for each file that differs from its row in `photo_originals`.

        Files without a row are included. All files must have been staged. Read these batches before you ask for
        outdated derivatives and metadata.
        """
        return self._files(_FIND_CHANGED_FILES)

    def unknown(self) -> Iterator[list[tuple[int, str]]]:
        """Yield batches of (photo id, file name) for each file without a row in `photo_originals`."""
        return self._files(_FIND_UNKNOWN)

    def outdated(self, kind: DerivativeKind) -> Iterator[list[int]]:
        """Yield batches of ids of photos whose derivative is missing, empty or outdated, although its status is final.

        A derivative is outdated if it was made from another original, or from earlier contents of its original. A
        derivative that failed or is not supported is outdated if its original changed. A derivative without a row in
        `photo_derivatives` is outdated if it failed, or if its file is older than the original. Another size or quality
        in the settings makes no derivative outdated.
        """
        return self._photo_ids(_FIND_OUTDATED.format(status=f"{kind}_status"), kind)

    def outdated_metadata(self) -> Iterator[list[int]]:
        """Yield batches of ids of photos whose metadata was read from another file, or from earlier contents."""
        return self._photo_ids(_FIND_OUTDATED_METADATA, METADATA)

    def _find_owners(self) -> None:
        """Give staged files the base names of their photos, if the two names differ only in case or Unicode form."""
        for table in ("staged_strangers", "staged_names"):
            self._connection.exec_driver_sql(f"DELETE FROM {table}")
        self._connection.execute(text(_FIND_STRANGERS), {"project_id": self._project_id})
        strangers = self._connection.exec_driver_sql("SELECT 1 FROM staged_strangers LIMIT 1").first()
        self._connection.commit()
        if strangers is None:
            return
        statement = select(photos.c.id, photos.c.filename).where(photos.c.project_id == self._project_id)
        for page in pages(lambda: nullcontext(self._connection), statement, photos.c.id, BATCH_SIZE):
            names = [(row["id"], row["filename"], name_key(row["filename"])) for row in page]
            write_rows(self._connection, "staged_names", ("photo_id", "filename", "name_key"), names)
            self._name_derivatives_in_full(row["filename"] for row in page)
            self._connection.commit()
        self._connection.execute(text(_NAME_AS_OWNER))
        self._connection.commit()

    def _name_derivatives_in_full(self, base_names: Iterable[str]) -> None:
        renamed = [
            {"stem": stem, "base_name": base_name}
            for base_name in base_names
            if (stem := derivative_stem(base_name)) != base_name
        ]
        if renamed:
            self._connection.execute(text(_NAME_IN_FULL), renamed)

    def _files(self, find: str) -> Iterator[list[tuple[int, str]]]:
        self._find_owners()
        yield from self._pages(find)

    def _photo_ids(self, find: str, kind: str) -> Iterator[list[int]]:
        for page in self._pages(find, kind=str(kind)):
            yield [photo_id for photo_id, _ in page]

    def _pages(self, find: str, **parameters: str) -> Iterator[list[tuple[int, str]]]:
        self._connection.exec_driver_sql("DELETE FROM staged_results")
        self._connection.execute(text(find), {"project_id": self._project_id, **parameters})
        self._connection.commit()
        statement = text(
            "SELECT photo_id, file_name FROM staged_results WHERE (photo_id, file_name) > (:photo_id, :file_name) "
            f"ORDER BY photo_id, file_name LIMIT {BATCH_SIZE}"
        )
        last = (0, "")
        while True:
            rows = self._connection.execute(statement, {"photo_id": last[0], "file_name": last[1]}).all()
            self._connection.commit()
            if not rows:
                return
            page = [(row.photo_id, row.file_name) for row in rows]
            last = page[-1]
            yield page


def mark_missing(connection: Connection, kind: DerivativeKind, photo_ids: list[int], *, now: datetime) -> int:
    """Set the status `missing` for derivatives that were made, failed or are not supported; return how many changed."""
    status = photos.c[f"{kind}_status"]
    statement = (
        update(photos)
        .where(photos.c.id.in_(photo_ids), status.in_(_ENDS))
        .values({status: "missing", photos.c.updated_at: now})
    )
    return connection.execute(statement).rowcount


def mark_changed(connection: Connection, originals: Sequence[Original], *, now: datetime) -> None:
    """Insert missing rows for the derivatives and metadata of changed originals.

    Their source hash is `unknown`, so that these derivatives and metadata count as outdated.
    """
    rows = [
        {
            "photo_id": original.photo_id,
            "kind": kind,
            "source_name": original.name,
            "source_hash": UNKNOWN,
            "generated_at": now,
        }
        for original in originals
        for kind in (*map(str, DerivativeKind), METADATA)
    ]
    if rows:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(photo_derivatives).on_conflict_do_nothing(), rows)


#: The final statuses of a derivative.
_ENDS = ("generated", "failed", "not_supported")

_TABLES = (
    """CREATE TEMPORARY TABLE staged_derivatives (kind TEXT NOT NULL, base_name TEXT NOT NULL,
    size_bytes BIGINT NOT NULL, mtime_ns BIGINT NOT NULL, PRIMARY KEY (base_name, kind))""",
    """CREATE TEMPORARY TABLE staged_originals (base_name TEXT{collation} NOT NULL, name_key TEXT{collation} NOT NULL,
    source_rank INTEGER NOT NULL, file_name TEXT{collation} NOT NULL, size_bytes BIGINT NOT NULL,
    mtime_ns BIGINT NOT NULL, ctime_ns BIGINT NOT NULL, PRIMARY KEY (base_name, source_rank, file_name))""",
    "CREATE TEMPORARY TABLE staged_strangers (base_name TEXT{collation} NOT NULL PRIMARY KEY)",
    """CREATE TEMPORARY TABLE staged_names (name_key TEXT{collation} NOT NULL, photo_id BIGINT NOT NULL,
    filename TEXT{collation} NOT NULL, PRIMARY KEY (name_key, photo_id))""",
    """CREATE TEMPORARY TABLE staged_results (photo_id BIGINT NOT NULL, file_name TEXT{collation} NOT NULL,
    PRIMARY KEY (photo_id, file_name))""",
)

# On disk, the derivatives of a photo with a long base name have a shortened name. This statement replaces the shortened
# name by the base name.
_NAME_IN_FULL = "UPDATE staged_derivatives SET base_name = :base_name WHERE base_name = :stem"

# Stores each base name of files that is not, in exactly this spelling, the base name of a photo. `EXCEPT` reads both
# tables once. For `NOT EXISTS`, PostgreSQL may read all photos for each file, because PostgreSQL has no statistics of a
# temporary table.
_FIND_STRANGERS = """INSERT INTO staged_strangers (base_name)
    SELECT base_name FROM staged_originals EXCEPT SELECT filename FROM photos WHERE project_id = :project_id"""

# If the names of several photos differ only in spelling, the file belongs to the photo with the lowest id. The
# subqueries find each name by the primary key of `staged_names`.
_NAME_AS_OWNER = """UPDATE staged_originals SET base_name = (
        SELECT filename FROM staged_names WHERE staged_names.name_key = staged_originals.name_key
        ORDER BY photo_id LIMIT 1
    )
    WHERE base_name IN (SELECT base_name FROM staged_strangers)
        AND EXISTS (SELECT 1 FROM staged_names WHERE staged_names.name_key = staged_originals.name_key)"""

_FIND_FILES = """INSERT INTO staged_results (photo_id, file_name)
    SELECT photos.id, staged.file_name FROM photos
    JOIN staged_originals AS staged ON staged.base_name = photos.filename
    LEFT JOIN photo_originals AS known ON known.photo_id = photos.id AND known.name = staged.file_name
    WHERE photos.project_id = :project_id"""

_FIND_UNKNOWN = f"{_FIND_FILES} AND known.photo_id IS NULL"

_FIND_CHANGED_FILES = f"""{_FIND_FILES} AND (
        known.photo_id IS NULL OR known.missing_since IS NOT NULL
        OR coalesce(known.size_bytes, -1) <> staged.size_bytes OR coalesce(known.mtime_ns, -1) <> staged.mtime_ns
        OR coalesce(known.ctime_ns, -1) <> staged.ctime_ns
    )"""

# `source` is the original with the lowest rank, from which derivatives and metadata are made.
_WITH_SOURCE = """
    LEFT JOIN staged_originals AS source ON source.base_name = photos.filename AND NOT EXISTS (
        SELECT 1 FROM staged_originals AS better WHERE better.base_name = photos.filename
        AND (better.source_rank, better.file_name) < (source.source_rank, source.file_name)
    )
    LEFT JOIN photo_originals AS original ON original.photo_id = photos.id AND original.name = source.file_name
    LEFT JOIN photo_derivatives AS known ON known.photo_id = photos.id AND known.kind = :kind"""

_IS_OTHER = """known.photo_id IS NOT NULL AND original.photo_id IS NOT NULL AND (
        known.source_name <> original.name
        OR coalesce(known.source_hash, '') <> coalesce(original.content_hash, '')
    )"""

_FIND_OUTDATED = f"""INSERT INTO staged_results (photo_id, file_name)
    SELECT photos.id, '' FROM photos {_WITH_SOURCE}
    LEFT JOIN staged_derivatives AS made ON made.base_name = photos.filename AND made.kind = :kind
    WHERE photos.project_id = :project_id AND photos.{{status}} IN ('generated', 'failed', 'not_supported') AND (
        (photos.{{status}} = 'generated' AND coalesce(made.size_bytes, 0) = 0)
        OR ({_IS_OTHER})
        OR (known.photo_id IS NULL AND source.file_name IS NOT NULL AND (
            photos.{{status}} = 'failed'
            OR (photos.{{status}} = 'generated' AND source.mtime_ns > made.mtime_ns)))
    )"""

_FIND_OUTDATED_METADATA = f"""INSERT INTO staged_results (photo_id, file_name)
    SELECT photos.id, '' FROM photos {_WITH_SOURCE}
    WHERE photos.project_id = :project_id AND {_IS_OTHER}"""
