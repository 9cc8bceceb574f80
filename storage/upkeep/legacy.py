"""Examines an SQLite file of an earlier program: its kind, and the changes that an upgrade in place would make.

There are three kinds of files. "Before scopes": `jobs` has no column `scope`, or its `project_id` is required.
"Half-migrated": the table `jobs_legacy` exists, or a foreign key refers to it. "Current": none of this is true. A file
can be of the first and the second kind. An upgrade keeps the columns, indexes, triggers, views and tables of other
programs.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from storage.errors import SchemaMismatch
from storage.upkeep.legacy_jobs import LEGACY_JOBS, LegacyJobs, read_legacy_jobs
from storage.upkeep.orphaned_rows import Orphans, find_orphans
from storage.upkeep.revisions import BASELINE, migrate_to
from storage.upkeep.sqlite_schema import Column, ForeignKey, IndexSchema, TableSchema, list_objects, read_table
from storage.upkeep.table_definition import TableConstraint, mentions, quote
from task_definitions.wording import quantity

#: The tables that other programs know. Tables come before the tables that refer to them.
BASELINE_TABLES = ("projects", "photos", "tags", "photo_tags", "jobs", "job_items")

#: A column that `jobs` must have. A table `jobs` without this column belongs to a program of another kind.
_PAYLOAD = "payload_json"

#: Columns with a fixed set of states. Newer versions allow more states than older files.
_STATE_COLUMNS = frozenset({"status", "scope", "thumbnail_status", "preview_status"})


class LegacyKind(StrEnum):
    """The kinds of files of earlier programs, by their differences from our first revision."""

    BEFORE_SCOPES = "before_scopes"
    HALF_MIGRATED = "half_migrated"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class ReferenceSchema:
    """The tables and indexes that a newly created SQLite database has at a given revision of the schema."""

    tables: dict[str, TableSchema]
    index_names: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePlan:
    """The planned changes of one table.

    Attributes:
        existing: the table in the file; None if it must be created.
        added: the missing columns.
        replaced: the columns whose definition must change.
        defaulted: columns of other programs that get a default, because we insert rows without them.
        nullable: unique columns of other programs that become nullable, because a default would not be unique.
        filled: columns in which the default replaces NULL, with the number of such rows.
        reasons: the reasons why the table must be rebuilt; empty if it is enough to add columns.
    """

    name: str
    reference: TableSchema
    existing: TableSchema | None
    added: tuple[Column, ...] = ()
    replaced: frozenset[str] = frozenset()
    defaulted: tuple[str, ...] = ()
    nullable: tuple[str, ...] = ()
    filled: tuple[tuple[str, int], ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyPlan:
    """The kinds of a file, and the changes that an upgrade in place would make."""

    kinds: tuple[LegacyKind, ...]
    tables: tuple[TablePlan, ...]
    legacy_jobs: LegacyJobs | None
    orphans: tuple[Orphans, ...]
    missing_indexes: tuple[IndexSchema, ...]
    missing_unique: tuple[tuple[str, tuple[str, ...]], ...]
    renamed_indexes: tuple[IndexSchema, ...]

    @property
    def changes(self) -> tuple[str, ...]:
        """The changes of this upgrade, one sentence each, without the changes that the later migrations make."""
        lines: list[str] = []
        for table in self.tables:
            if table.existing is None:
                lines.append(f"{table.name}: is created")
            if table.added:
                names = ", ".join(column.name for column in table.added)
                lines.append(f"{table.name}: gets {quantity(len(table.added), 'column')}: {names}")
            lines += [f"{table.name}: {reason}" for reason in table.reasons]
            lines += [
                f"{table.name}.{name}: the default replaces NULL in {quantity(count, 'row')}"
                for name, count in table.filled
            ]
        if self.legacy_jobs is not None:
            lines += self.legacy_jobs.changes
        lines += [orphans.change for orphans in self.orphans]
        lines += [f"{table}: gets a unique index on {', '.join(columns)}" for table, columns in self.missing_unique]
        if self.missing_indexes:
            lines.append(f"new indexes: {', '.join(index.name for index in self.missing_indexes)}")
        lines += [
            f"index {index.name}: is renamed to {kept_index_name(index.name)}, because photojobs needs the old name"
            for index in self.renamed_indexes
        ]
        return tuple(lines)


def kept_index_name(name: str) -> str:
    """Return the new name for an index of another program that has the name of one of our indexes."""
    return f"legacy_{name}"


def read_plan(connection: Connection, place: str) -> LegacyPlan | None:
    """Return the changes that an upgrade of this file would make; None if the file has none of `BASELINE_TABLES`.

    `place` names the file in errors.

    Raises:
        SchemaMismatch: a table, view, index or column of another program has one of our names, or the file is not one
            of an earlier program.
    """
    check_ours(connection, place)
    baseline, head = reference_schema(BASELINE), reference_schema("head")
    existing = {name: read_table(connection, name) for name in BASELINE_TABLES}
    legacy_jobs = read_legacy_jobs(connection, existing["jobs"], reference=baseline.tables["jobs"], place=place)
    if legacy_jobs is None and not any(existing.values()):
        return None
    tables = tuple(_plan_table(connection, baseline.tables[name], existing[name]) for name in BASELINE_TABLES)
    indexes = [index for table in existing.values() if table is not None for index in table.indexes]
    if legacy_jobs is not None and not legacy_jobs.is_dropped:
        indexes += legacy_jobs.table.indexes
    present = {
        (name, index.columns)
        for name, table in existing.items()
        for index in (table.indexes if table is not None else ())
        if not index.is_partial
    }
    missing_indexes = tuple(
        index
        for name in BASELINE_TABLES
        for index in baseline.tables[name].indexes
        if index.sql is not None and (name, index.columns) not in present
    )
    new_names = {index.name for index in missing_indexes} | (head.index_names - baseline.index_names)
    return LegacyPlan(
        kinds=_kinds(existing, legacy_jobs),
        tables=tables,
        legacy_jobs=legacy_jobs,
        orphans=find_orphans(connection, jobs_also_in=LEGACY_JOBS if legacy_jobs is not None else None),
        missing_indexes=missing_indexes,
        missing_unique=missing_unique(connection),
        renamed_indexes=tuple(index for index in indexes if index.sql is not None and index.name.lower() in new_names),
    )


def missing_unique(connection: Connection) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the tables and columns that lack a unique index and have no duplicates, so the index can be created."""
    missing = []
    for name in BASELINE_TABLES:
        table = read_table(connection, name)
        if table is not None:
            wanted = _unique_columns(reference_schema(BASELINE).tables[name])
            for columns in sorted(wanted - _unique_columns(table)):
                if not _has_duplicates(connection, table, columns):
                    missing.append((name, columns))  # noqa: PERF401 - a comprehension with three clauses is harder to read.
    return tuple(missing)


def check_ours(connection: Connection, place: str) -> None:
    """Raise `SchemaMismatch` if the file is not one of an earlier program, or another program has one of our names.

    A name may belong to a table, view, index or column. The file is not one of an earlier program if a known table
    lacks a required column.
    """
    baseline, head = reference_schema(BASELINE), reference_schema("head")
    for item in list_objects(connection):
        name = item.name.lower()
        if item.type == "index":
            is_foreign = name in head.index_names - baseline.index_names and item.table.lower() not in (
                *BASELINE_TABLES,
                LEGACY_JOBS,
            )
        else:
            is_foreign = name in head.tables and (item.type != "table" or name not in baseline.tables)
        if is_foreign:
            raise SchemaMismatch(
                f"{place}: the {item.type} {item.name} belongs to another program, but photojobs needs this name. "
                "Rename it first, or name another database."
            )
    for name in BASELINE_TABLES:
        table = read_table(connection, name)
        if table is None:
            continue
        reference = baseline.tables[name]
        missing = [
            column.name
            for column in reference.columns.values()
            if column.name not in table.columns
            and ((column.is_required and column.default is None) or column.name == _PAYLOAD)
        ]
        if missing:
            raise SchemaMismatch(
                f"{place}: its table {name} lacks {quantity(len(missing), 'column')} ({', '.join(missing)}), so this "
                "is not the database of a photo library. Name another file or database in PHOTOJOBS_DATABASE_URL."
            )
        taken = sorted((head.tables[name].columns.keys() - reference.columns.keys()) & table.columns.keys())
        if taken:
            raise SchemaMismatch(
                f"{place}: photojobs needs columns in the table {name} whose names another program already uses there: "
                f"{', '.join(taken)}. Rename the columns of the other program, then upgrade again."
            )


@cache
def reference_schema(revision: str) -> ReferenceSchema:
    """Return the tables and indexes of a revision in a new SQLite file."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        migrate_to(connection, revision)
        objects = list_objects(connection)
        tables = {item.name: read_table(connection, item.name) for item in objects if item.type == "table"}
    engine.dispose()
    return ReferenceSchema(
        {name: table for name, table in tables.items() if table is not None and name != "alembic_version"},
        frozenset(item.name for item in objects if item.type == "index"),
    )


def _kinds(existing: dict[str, TableSchema | None], legacy_jobs: LegacyJobs | None) -> tuple[LegacyKind, ...]:
    kinds: list[LegacyKind] = []
    jobs = existing["jobs"]
    if jobs is not None and ("scope" not in jobs.columns or _is_required(jobs, "project_id")):
        kinds.append(LegacyKind.BEFORE_SCOPES)
    if legacy_jobs is not None or any(
        key.table.lower() == LEGACY_JOBS for table in existing.values() if table for key in table.foreign_keys
    ):
        kinds.append(LegacyKind.HALF_MIGRATED)
    return tuple(kinds) or (LegacyKind.CURRENT,)


def _is_required(table: TableSchema, column: str) -> bool:
    return column in table.columns and table.columns[column].is_required


def _plan_table(connection: Connection, reference: TableSchema, existing: TableSchema | None) -> TablePlan:
    if existing is None:
        return TablePlan(name=reference.name, reference=reference, existing=None)
    reasons: list[str] = []
    replaced: set[str] = set()
    filled: list[tuple[str, int]] = []
    for key in reference.foreign_keys:
        found = [other for other in existing.foreign_keys if other.column.lower() == key.column]
        if [_normal(other) for other in found] != [_normal(key)]:
            reasons.append(f"{key.column} refers to {key.table} ON DELETE {key.on_delete}{_instead_of(found)}")
            replaced.add(key.column)
    for name, column in reference.columns.items():
        present = existing.columns.get(name)
        if present is None:
            continue
        if present.is_required and not column.is_required and not column.key_position:
            reasons.append(f"{name} may be NULL")
            replaced.add(name)
        if column.is_required and column.default is not None and not present.is_required:
            reasons.append(f"{name} gets the default {column.default}, and may not be NULL")
            replaced.add(name)
            filled.append((name, _count_null(connection, existing, name)))
        if _has_check(existing, name):
            reasons.append(f"{name} loses a CHECK that allows only older states")
            replaced.add(name)
    reasons += [
        f"the table loses a CHECK that allows only older states: {constraint.text}"
        for constraint in existing.definition.constraints
        if is_outdated_check(constraint, reference)
    ]
    if "id" in reference.columns and not _is_row_id(existing):
        reasons.append("id becomes the INTEGER PRIMARY KEY")
        replaced.add("id")
    unwritten = tuple(
        name
        for name, column in existing.columns.items()
        if name not in reference.columns
        and column.is_required
        and column.default is None
        and not column.is_generated
        and not column.key_position
    )
    unique = {name for columns in _unique_columns(existing) for name in columns}
    defaulted = tuple(name for name in unwritten if name not in unique)
    nullable = tuple(name for name in unwritten if name in unique)
    reasons += [f"{name}, a column of another program, gets a default" for name in defaulted]
    reasons += [f"{name}, a unique column of another program, may be NULL" for name in nullable]
    return TablePlan(
        name=reference.name,
        reference=reference,
        existing=existing,
        added=tuple(column for name, column in reference.columns.items() if name not in existing.columns),
        replaced=frozenset(replaced),
        defaulted=defaulted,
        nullable=nullable,
        filled=tuple((name, count) for name, count in filled if count),
        reasons=tuple(reasons),
    )


def _normal(key: ForeignKey) -> tuple[str, str, str, str]:
    return key.column.lower(), key.table.lower(), (key.target or "id").lower(), key.on_delete


def _instead_of(keys: list[ForeignKey]) -> str:
    return ", no longer to " + ", ".join(f"{key.table} ON DELETE {key.on_delete}" for key in keys) if keys else ""


def _has_check(table: TableSchema, column: str) -> bool:
    return any(part.has_check for part in table.definition.columns if part.name.lower() == column)


def is_outdated_check(constraint: TableConstraint, reference: TableSchema) -> bool:
    """Return whether a constraint is a CHECK on a column with states. Such a CHECK may forbid newer states."""
    states = _STATE_COLUMNS & reference.columns.keys()
    return constraint.kind == "CHECK" and any(mentions(constraint.text, name) for name in states)


def _is_row_id(table: TableSchema) -> bool:
    # SQLite creates an index for each primary key that is not the row id.
    keys = [name for name, column in table.columns.items() if column.key_position]
    indexes = [[name for name, _ in index.columns] for index in table.indexes if index.sql is None]
    return keys == ["id"] and [table.columns["id"].name] not in indexes


def _count_null(connection: Connection, table: TableSchema, column: str) -> int:
    statement = f"SELECT count(*) FROM {quote(table.name)} WHERE {quote(column)} IS NULL"
    return int(connection.exec_driver_sql(statement).scalar_one())


def _unique_columns(table: TableSchema) -> set[tuple[str, ...]]:
    """Return the columns of each unique index, except the primary key, partial indexes, and indexes on expressions."""
    return {
        tuple(sorted(name.lower() for name, _ in index.columns if name is not None))
        for index in table.indexes
        if index.is_unique
        and not index.is_partial
        and all(name is not None for name, _ in index.columns)
        and not all(name is not None and table.columns[name.lower()].key_position for name, _ in index.columns)
    }


def _has_duplicates(connection: Connection, table: TableSchema, columns: tuple[str, ...]) -> bool:
    if not set(columns) <= table.columns.keys():
        # The upgrade adds a missing column with NULL in every row, and NULLs are not duplicates, so such a column has
        # no duplicates.
        return False
    names = ", ".join(map(quote, columns))
    present = " AND ".join(f"{quote(column)} IS NOT NULL" for column in columns)
    statement = f"SELECT 1 FROM {quote(table.name)} WHERE {present} GROUP BY {names} HAVING count(*) > 1 LIMIT 1"
    return connection.exec_driver_sql(statement).first() is not None
