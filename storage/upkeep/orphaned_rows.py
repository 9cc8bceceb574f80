"""Finds and repairs orphans: rows that refer to a missing row, in the tables that other programs use.

Every row and id is kept. A reference becomes NULL if it may be NULL, as with ON DELETE SET NULL. Otherwise a
placeholder with the id of the missing row is inserted; its name or message says that it is a placeholder. A placeholder
job has the type `unknown` and the status `failed`. A placeholder project is archived, so that no step processes it.
`storage.upkeep.legacy_upgrade` calls the repair when it upgrades an SQLite file of an earlier program.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from storage.database.database_url import shown_url
from storage.errors import SchemaMismatch
from storage.upkeep.sqlite_schema import read_table
from storage.upkeep.table_definition import quote

#: References, as child table, column and parent table. Each table is listed as a parent before it is listed as a child.
#: So a placeholder that is inserted into a parent table is still checked as a child, and one pass is enough.
_REFERENCES = (
    ("photo_tags", "tag_id", "tags"),
    ("photo_tags", "photo_id", "photos"),
    ("tags", "project_id", "projects"),
    ("photos", "project_id", "projects"),
    ("job_items", "photo_id", "photos"),
    ("job_items", "job_id", "jobs"),
    ("jobs", "project_id", "projects"),
)
#: The folder of the project that placeholders of photos and tags belong to.
_UNKNOWN_PROJECT = "missing-project"
_MAY_BE_NULL = frozenset({("job_items", "photo_id"), ("jobs", "project_id")})


@dataclass(frozen=True, slots=True)
class Orphans:
    """Rows of one table that refer to missing rows."""

    table: str
    column: str
    parent: str
    count: int

    @property
    def change(self) -> str:
        """The change that an upgrade makes, as a sentence."""
        rows = "1 row refers" if self.count == 1 else f"{self.count} rows refer"
        is_cleared = (self.table, self.column) in _MAY_BE_NULL
        end = "the reference becomes NULL" if is_cleared else f"{self.parent} gets placeholder rows with these ids"
        return f"{self.table}.{self.column}: {rows} to missing {self.parent}; {end}"


def find_orphans(connection: Connection, *, jobs_also_in: str | None = None) -> tuple[Orphans, ...]:
    """Find rows that refer to missing rows, in the tables that other programs use, in an SQLite file of any schema.

    References to ids of jobs in the table `jobs_also_in` are not orphans.
    """
    found = []
    for child, column, parent in _REFERENCES:
        table = read_table(connection, child)
        if table is None or column not in table.columns:
            continue
        parents = [name for name in (parent, jobs_also_in if parent == "jobs" else None) if name is not None]
        condition = _dangling(connection, column, parents)
        count = connection.exec_driver_sql(f"SELECT count(*) FROM {child} WHERE {condition}").scalar_one()
        if count:
            found.append(Orphans(child, column, parent, int(count)))
    return tuple(found)


def repair_orphans(connection: Connection, now: str) -> dict[str, int]:
    """Repair all orphans; return the number of placeholders, by table.

    Raises:
        SchemaMismatch: a reference that may not be NULL is not an integer.
    """
    placeholders = _Placeholders(connection, now)
    for child, column, parent in _REFERENCES:
        condition = _dangling(connection, column, [parent])
        if (child, column) in _MAY_BE_NULL:
            connection.exec_driver_sql(f"UPDATE {child} SET {column} = NULL WHERE {condition}")
            continue
        statement = f"SELECT DISTINCT {column} FROM {child} WHERE {condition} ORDER BY {column}"
        for parent_id in connection.exec_driver_sql(statement).scalars().all():
            if not isinstance(parent_id, int):
                raise SchemaMismatch(
                    f"{shown_url(connection.engine.url)}: {child}.{column}: {parent_id!r} cannot be an id in {parent}. "
                    f"Set {column} by SQL to the id of an existing row, then upgrade again."
                )
            placeholders.add(parent, parent_id)
    return dict(placeholders.counts)


def _dangling(connection: Connection, column: str, parents: list[str]) -> str:
    present = [parent for parent in parents if read_table(connection, parent) is not None]
    missing = " AND ".join(f"{column} NOT IN (SELECT id FROM {quote(parent)})" for parent in present) or "1"
    return f"{column} IS NOT NULL AND {missing}"


class _Placeholders:
    """Adds placeholders for missing rows, and counts them by table."""

    def __init__(self, connection: Connection, now: str) -> None:
        self._connection = connection
        self._now = now
        self.counts: Counter[str] = Counter()

    def add(self, table: str, id: int) -> None:
        """Add a placeholder with this id."""
        times = {"created_at": self._now, "updated_at": self._now}
        values: dict[str, Any]
        match table:
            case "tags":
                values = {"project_id": self._unknown_project(), "name": f"missing-tag-{id}"}
            case "photos":
                flags = {"jpg_available": 0, "raw_available": 0, "other_available": 0, "keep_jpg": 1, "keep_raw": 1}
                photo = {"project_id": self._unknown_project(), "filename": f"missing-photo-{id}"}
                values = {**photo, **times, **flags, "visibility": "private"}
            case "projects":
                values = self._project(f"{_UNKNOWN_PROJECT}-{id}")
            case _:
                values = {**times, **self._job(id)}
        self._insert(table, {"id": id, **values})

    def _project(self, folder: str) -> dict[str, Any]:
        taken = "SELECT 1 FROM projects WHERE project_folder = ?"
        while self._connection.exec_driver_sql(taken, (folder,)).first() is not None:
            folder += "-"
        return {
            "project_folder": folder,
            "project_name": "Placeholder for a missing project",
            "created_at": self._now,
            "updated_at": self._now,
            "status": "canceled",
            "archived_at": self._now,
        }

    def _unknown_project(self) -> int:
        statement = f"SELECT id FROM projects WHERE project_folder = '{_UNKNOWN_PROJECT}' AND status = 'canceled'"
        project_id = self._connection.exec_driver_sql(statement).scalar()
        if project_id is None:
            self._insert("projects", self._project(_UNKNOWN_PROJECT))
            project_id = self._connection.exec_driver_sql("SELECT last_insert_rowid()").scalar_one()
        return int(project_id)

    def _job(self, id: int) -> dict[str, Any]:
        statement = "SELECT min(tenant_id), min(created_at), count(*) FROM job_items WHERE job_id = ?"
        tenant_id, created_at, count = self._connection.exec_driver_sql(statement, (id,)).one()
        return {
            "tenant_id": tenant_id,
            "type": "unknown",
            "status": "failed",
            "scope": "photo_set",
            "priority": 0,
            "attempts": 0,
            "created_at": self._now if created_at is None else created_at,
            "finished_at": self._now,
            "progress_total": count,
            "error_message": "Placeholder: the row of this job was missing; only its items existed.",
        }

    def _insert(self, table: str, values: dict[str, Any]) -> None:
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        statement = f"INSERT INTO {table} ({names}) VALUES ({marks})"
        self._connection.exec_driver_sql(statement, tuple(values.values()))
        self.counts[table] += 1
