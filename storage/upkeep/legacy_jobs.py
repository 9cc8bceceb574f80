"""The table `jobs_legacy` that a migration of an earlier program left behind: which of its rows `jobs` lacks.

If both tables have a row of one id, it is the same job and the row in `jobs` is newer. If tenant, type or creation
differ, it is another job; two jobs cannot keep one id, so `jobs_legacy` is not changed. It is not changed either if a
table or a view of another program reads it. Otherwise it is dropped when `jobs` has all of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from storage.errors import SchemaMismatch
from storage.upkeep.sqlite_schema import TableSchema, list_objects, read_table
from storage.upkeep.table_definition import mentions, quote
from task_definitions.wording import quantity

LEGACY_JOBS = "jobs_legacy"

#: What makes two rows of one id the same job.
_IDENTITY = ("tenant_id", "type", "created_at")
#: Tables whose references the upgrade changes to `jobs`.
_OURS = frozenset({"projects", "photos", "tags", "photo_tags", "jobs", "job_items", LEGACY_JOBS})


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyJobs:
    """What an upgrade does with `jobs_legacy`.

    Attributes:
        row_count: the number of its rows.
        merged: the number of its rows that `jobs` does not have.
        conflicts: the number of its rows whose id another job has in `jobs`.
        extra_columns: its columns that `jobs` does not have, and gets.
        readers: tables and views of other programs that refer to it.
    """

    table: TableSchema
    row_count: int
    merged: int
    conflicts: int
    extra_columns: tuple[str, ...]
    readers: tuple[str, ...]

    @property
    def is_dropped(self) -> bool:
        """Whether dropping it loses no row and breaks no reader."""
        return not self.conflicts and not self.readers

    @property
    def changes(self) -> list[str]:
        """Each change in a sentence."""
        lines = []
        if self.merged:
            lines.append(f"jobs: gets {quantity(self.merged, 'row')} that only jobs_legacy has, with the ids")
        if self.extra_columns:
            lines.append(f"jobs: gets the columns {', '.join(self.extra_columns)} of jobs_legacy")
        if self.is_dropped:
            lines.append(f"jobs_legacy: is dropped; jobs has all of its {self.row_count} rows")
        if self.conflicts:
            lines.append(f"jobs_legacy: stays, because {self.conflicts} of its ids are those of other jobs in jobs")
        if self.readers:
            lines.append(f"jobs_legacy: stays, because {', '.join(self.readers)} refers to it")
        return lines


def read_legacy_jobs(connection: Connection, jobs: TableSchema | None, *, reference: TableSchema) -> LegacyJobs | None:
    """What an upgrade would do with `jobs_legacy`; None if there is no such table. `reference` is the schema of `jobs`.

    Raises:
        SchemaMismatch: the table is not a table of jobs.
    """
    table = read_table(connection, LEGACY_JOBS)
    if table is None:
        return None
    lacking = [name for name in ("id", "tenant_id", "type", "status", "created_at") if name not in table.columns]
    if lacking:
        raise SchemaMismatch(
            f"the table {LEGACY_JOBS} has no column {', '.join(lacking)}, so it is not one of jobs. Rename it first."
        )
    merged, conflicts = _compare(connection, jobs)
    known = set(reference.columns) | (set(jobs.columns) if jobs is not None else set())
    return LegacyJobs(
        table=table,
        row_count=int(connection.exec_driver_sql(f"SELECT count(*) FROM {LEGACY_JOBS}").scalar_one()),
        merged=merged,
        conflicts=conflicts,
        extra_columns=tuple(
            column.name for name, column in table.columns.items() if name not in known and not column.is_generated
        ),
        readers=tuple(
            item.name
            for item in list_objects(connection)
            if item.type in ("table", "view") and item.name.lower() not in _OURS and mentions(item.sql, LEGACY_JOBS)
        ),
    )


def _compare(connection: Connection, jobs: TableSchema | None) -> tuple[int, int]:
    if jobs is None:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {LEGACY_JOBS}").scalar_one()), 0
    differs = " OR ".join(f"jobs.{name} IS NOT old.{name}" for name in _IDENTITY)
    row = connection.exec_driver_sql(
        f"""SELECT count(*) FILTER (WHERE jobs.id IS NULL) AS merged,
            count(*) FILTER (WHERE jobs.id IS NOT NULL AND ({differs})) AS conflicts
        FROM {quote(LEGACY_JOBS)} AS old LEFT JOIN jobs ON jobs.id = old.id"""
    ).one()
    return row.merged, row.conflicts
