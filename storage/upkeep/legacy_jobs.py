"""Plans how an upgrade removes the table `jobs_legacy`, which an interrupted migration of an earlier program left.

`jobs` gets the rows that only `jobs_legacy` has. If both tables have a row with the same id, the row in `jobs` is newer
and is kept. But if tenant, type or creation time differ, the two rows are different jobs with the same id, and
`jobs_legacy` is kept. `jobs_legacy` is also kept if a table or view of another program refers to it. Otherwise it is
dropped.
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from storage.errors import SchemaMismatch
from storage.upkeep.sqlite_schema import TableSchema, count_rows, list_objects, read_table
from storage.upkeep.table_definition import mentions
from task_definitions.wording import quantity

LEGACY_JOBS = "jobs_legacy"

#: Two rows with the same id are the same job if these columns are equal.
_IDENTITY = ("tenant_id", "type", "created_at")
#: Tables whose references to `jobs_legacy` the upgrade changes to `jobs`.
_OURS = frozenset({"projects", "photos", "tags", "photo_tags", "jobs", "job_items", LEGACY_JOBS})


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyJobs:
    """The planned changes of `jobs_legacy`.

    Attributes:
        merged: the number of rows of `jobs_legacy` that `jobs` lacks and gets.
        conflicts: the number of rows of `jobs_legacy` whose id belongs to another job in `jobs`.
        extra_columns: the columns of `jobs_legacy` that `jobs` lacks and gets.
        readers: the tables and views of other programs that refer to `jobs_legacy`.
    """

    table: TableSchema
    row_count: int
    merged: int
    conflicts: int
    extra_columns: tuple[str, ...]
    readers: tuple[str, ...]

    @property
    def is_dropped(self) -> bool:
        """Whether `jobs_legacy` can be dropped, because there are no conflicts and no readers."""
        return not self.conflicts and not self.readers

    @property
    def changes(self) -> list[str]:
        """The changes, each as a sentence."""
        lines = []
        if self.merged:
            lines.append(f"jobs: gets {quantity(self.merged, 'row')} that only jobs_legacy has, with the same ids")
        if self.extra_columns:
            count = quantity(len(self.extra_columns), "column")
            lines.append(f"jobs: gets {count} of jobs_legacy: {', '.join(self.extra_columns)}")
        if self.is_dropped:
            lines.append(
                f"jobs_legacy: is dropped, because jobs has all of its rows ({quantity(self.row_count, 'row')})"
            )
        if self.conflicts:
            lines.append(f"jobs_legacy: stays, because the table jobs has other jobs with {self.conflicts} of its ids")
        if self.readers:
            lines.append(f"jobs_legacy: stays, because other programs refer to it in {', '.join(self.readers)}")
        return lines


def read_legacy_jobs(
    connection: Connection, jobs: TableSchema | None, *, reference: TableSchema, place: str
) -> LegacyJobs | None:
    """Return the planned changes of `jobs_legacy`; None if it does not exist.

    `reference` is the new table `jobs`, and `place` names the database in errors.

    Raises:
        SchemaMismatch: `jobs_legacy` is not a table of jobs.
    """
    table = read_table(connection, LEGACY_JOBS)
    if table is None:
        return None
    lacking = [name for name in ("id", "tenant_id", "type", "status", "created_at") if name not in table.columns]
    if lacking:
        raise SchemaMismatch(
            f"{place}: the table {LEGACY_JOBS} lacks {quantity(len(lacking), 'column')} ({', '.join(lacking)}), so it "
            "does not hold jobs. Rename this table, then upgrade again."
        )
    differs = " OR ".join(f"jobs.{name} IS NOT old.{name}" for name in _IDENTITY)
    row_count = count_rows(connection, LEGACY_JOBS)
    merged, conflicts = row_count, 0
    if jobs is not None:
        statement = f"""SELECT count(*) FILTER (WHERE jobs.id IS NULL),
                count(*) FILTER (WHERE jobs.id IS NOT NULL AND ({differs}))
            FROM {LEGACY_JOBS} AS old LEFT JOIN jobs ON jobs.id = old.id"""
        merged, conflicts = connection.exec_driver_sql(statement).one()
    known = set(reference.columns) | (set(jobs.columns) if jobs is not None else set())
    return LegacyJobs(
        table=table,
        row_count=row_count,
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
