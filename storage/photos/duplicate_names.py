"""Decides which of several photos with the same base name keeps the name, by SQL on temporary tables.

Only photos in different active projects of a tenant are compared. The oldest photo, by `created_at` and then by id,
keeps the name. The other photos with this name in the same project keep the name, too. Names that differ only in case
or Unicode form count as one name. The step `duplicate_resolution` renames photos; this module changes no row of a
photo.
"""

from collections.abc import Iterator
from contextlib import nullcontext

from sqlalchemy import ColumnElement, Connection, LargeBinary, cast, column, func, insert, select, table, text

from storage.batches import pages
from storage.database.tables import photos, projects
from storage.database.temporary_tables import BATCH_SIZE
from storage.library.naming.names import DUPLICATE, name_key
from storage.lifecycle.job_items import write_rows
from storage.lifecycle.step_jobs import is_active, of_tenant

#: The maximum number of names in a search for the original of a copy: the name itself, and its forms with a number,
#: `<name>_duplicate<n>`.
_MAX_NAMES_SEARCHED = 20

_tenant_names = table("tenant_names", column("photo_id"), column("project_id"), column("name_key"))

_TABLES = (
    """CREATE TEMPORARY TABLE tenant_names (photo_id BIGINT PRIMARY KEY, project_id BIGINT NOT NULL,
    name_key TEXT NOT NULL)""",
    "CREATE TEMPORARY TABLE duplicate_names (project_id BIGINT, photo_id BIGINT, PRIMARY KEY (project_id, photo_id))",
)

#: The order by age, by dialect. In SQLite, other programs may write times in other forms, or texts that are no times.
_BY_AGE = {
    "sqlite": "julianday(photos.created_at) IS NULL, julianday(photos.created_at), photos.id",
    "postgresql": "photos.created_at, photos.id",
}

_FIND_DUPLICATES = """INSERT INTO duplicate_names (project_id, photo_id) SELECT project_id, photo_id FROM (
    SELECT tenant_names.photo_id, tenant_names.project_id, first_value(tenant_names.project_id) OVER (
        PARTITION BY tenant_names.name_key ORDER BY {by_age}) AS first_project_id
    FROM tenant_names JOIN photos ON photos.id = tenant_names.photo_id
    WHERE tenant_names.name_key IN (
        SELECT name_key FROM tenant_names GROUP BY name_key HAVING count(DISTINCT project_id) > 1)) AS sharing
    WHERE project_id <> first_project_id"""

_STILL_DUPLICATE = """SELECT duplicate_names.photo_id FROM duplicate_names
    JOIN tenant_names ON tenant_names.photo_id = duplicate_names.photo_id
    WHERE duplicate_names.project_id = :project_id AND duplicate_names.photo_id > :last AND EXISTS (
        SELECT 1 FROM tenant_names AS elsewhere WHERE elsewhere.name_key = tenant_names.name_key
        AND elsewhere.project_id <> tenant_names.project_id)
    ORDER BY duplicate_names.photo_id LIMIT :batch_size"""


class DuplicateNames:
    """The names of all photos in a tenant's active projects, in temporary tables (see `temporary_tables`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_sqlite = connection.dialect.name == "sqlite"
        for statement in _TABLES:
            connection.exec_driver_sql(statement)
        connection.commit()

    def find(self, tenant_id: str) -> dict[int, int]:
        """Read all names; return the number of photos with a duplicate name, by project.

        Of the photos with the same name, the oldest (by `created_at`, then id) and the photos in its project keep the
        name. The photos in other projects are duplicates.
        """
        self._copy_plain_names(tenant_id)
        self._copy_other_names(tenant_id)
        self._connection.exec_driver_sql("CREATE INDEX tenant_names_key ON tenant_names (name_key)")
        if not self._is_sqlite:
            self._connection.exec_driver_sql("ANALYZE tenant_names")
        self._connection.exec_driver_sql(_FIND_DUPLICATES.format(by_age=_BY_AGE[self._connection.dialect.name]))
        self._connection.commit()
        counts = self._connection.execute(
            text("SELECT project_id, count(*) FROM duplicate_names GROUP BY project_id ORDER BY project_id")
        )
        found = {row[0]: row[1] for row in counts}
        self._connection.commit()
        return found

    def photo_ids(self, project_id: int, *, batch_size: int) -> Iterator[list[int]]:
        """Yield batches of the ids of a project's photos that still have a duplicate name, in order."""
        statement = text(_STILL_DUPLICATE)
        last = 0
        while True:
            parameters = {"project_id": project_id, "last": last, "batch_size": batch_size}
            ids = list(self._connection.execute(statement, parameters).scalars())
            self._connection.commit()
            if not ids:
                return
            last = ids[-1]
            yield ids

    def photos_like(self, name: str) -> list[int]:
        """Return the ids of the tenant's photos with this name or `<name>_duplicate<n>`, for n from 1 to 19."""
        keys = [name_key(name), *(name_key(f"{name}{DUPLICATE}{number}") for number in range(1, _MAX_NAMES_SEARCHED))]
        statement = select(_tenant_names.c.photo_id).where(_tenant_names.c.name_key.in_(keys))
        found = list(self._connection.execute(statement.order_by(_tenant_names.c.photo_id)).scalars())
        self._connection.commit()
        return found

    def is_taken(self, name: str) -> bool:
        """Return whether a photo of the tenant has this name."""
        statement = text("SELECT 1 FROM tenant_names WHERE name_key = :key LIMIT 1")
        found = self._connection.execute(statement, {"key": name_key(name)}).first()
        self._connection.commit()
        return found is not None

    def rename(self, photo_id: int, name: str) -> None:
        """Store the comparison key of a photo's new name in the temporary table."""
        statement = text("UPDATE tenant_names SET name_key = :key WHERE photo_id = :photo_id")
        self._connection.execute(statement, {"key": name_key(name), "photo_id": photo_id})
        self._connection.commit()

    def _copy_plain_names(self, tenant_id: str) -> None:
        # The comparison key of an ASCII name is the name in lower case, which SQL can compute.
        name = photos.c.filename if self._is_sqlite else photos.c.filename.collate("C")
        source = (
            select(photos.c.id, photos.c.project_id, func.lower(name))
            .join(projects, projects.c.id == photos.c.project_id)
            .where(of_tenant(tenant_id), is_active(), self._is_ascii())
        )
        self._connection.execute(insert(_tenant_names).from_select(["photo_id", "project_id", "name_key"], source))
        self._connection.commit()

    def _copy_other_names(self, tenant_id: str) -> None:
        statement = (
            select(photos.c.id, photos.c.project_id, photos.c.filename)
            .join(projects, projects.c.id == photos.c.project_id)
            .where(of_tenant(tenant_id), is_active(), ~self._is_ascii())
        )
        for page in pages(lambda: nullcontext(self._connection), statement, photos.c.id, BATCH_SIZE):
            rows = [(row["id"], row["project_id"], name_key(row["filename"])) for row in page]
            write_rows(self._connection, "tenant_names", ("photo_id", "project_id", "name_key"), rows)
            self._connection.commit()
        self._connection.commit()

    def _is_ascii(self) -> ColumnElement[bool]:
        size_bytes = (
            func.length(cast(photos.c.filename, LargeBinary))
            if self._is_sqlite
            else func.octet_length(photos.c.filename)
        )
        return size_bytes == func.length(photos.c.filename)
