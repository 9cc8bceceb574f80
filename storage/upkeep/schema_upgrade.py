"""Upgrades and downgrades the schema of a database, also of SQLite files of earlier programs.

An SQLite file with tables is copied before an upgrade, and each database before a downgrade.
`deployments.cli.options.opening` decides what a command does if the schema is older.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from storage.database.clock import format_timestamp
from storage.database.database_url import shown_url
from storage.database.engine import Database
from storage.default_tenant import DEFAULT_TENANT
from storage.errors import DatabaseUnavailable, SchemaMismatch, StorageError
from storage.upkeep.revisions import (
    BASELINE,
    check_known_revision,
    current_revision,
    downgrade_to,
    head_revision,
    known_revisions,
    migrate_to,
    stamp,
    wait_for_other_changes,
)
from storage.upkeep.table_definition import quote
from task_definitions.wording import quantity, shown

#: The revision that added the table of interrupted moves.
_MOVE_INTENTS = "0006"


class DowngradeRefused(StorageError):
    """A downgrade would lose unfinished tasks, interrupted moves or the tenants of projects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeReport:
    """The result of an upgrade.

    Attributes:
        from_revision: the old revision; None if the database had no revision.
        to_revision: the new revision.
        legacy_kinds: for a file of another program, its kinds (see `LegacyKind`); else empty.
        backup: the path of the copy that was made before the upgrade; None if no copy was made.
        row_counts: the number of rows of each table before the upgrade; all of these rows are kept.
        changes: the changes of the tables that earlier programs know, without those of newer revisions; one sentence
            each.
        kept: one sentence for each rule of newer revisions that does not apply to files of other programs.
    """

    from_revision: str | None
    to_revision: str
    legacy_kinds: tuple[str, ...] = ()
    backup: Path | None = None
    row_counts: Mapping[str, int] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def is_changed(self) -> bool:
        """Whether the upgrade changed the revision."""
        return self.from_revision != self.to_revision


@dataclass(frozen=True, slots=True, kw_only=True)
class DowngradeReport:
    """The result of a downgrade; `backup` is the path of the copy, or None for a database in memory."""

    from_revision: str
    to_revision: str
    backup: Path | None


def upgrade(database: Database) -> UpgradeReport:
    """Upgrade the database to the newest schema, in one transaction. This includes SQLite files of earlier programs.

    An SQLite file with tables is first copied by `storage.upkeep.backup`; the copy is removed if a migration fails.
    PostgreSQL is not copied, because our revisions remove no rows from its tables. If the schema is the newest, no
    table is changed.

    Raises:
        SchemaMismatch: a newer version of photojobs wrote the database, or tables of another program have the names of
            our tables.
        BackupFailed: the copy could not be made; nothing was changed.
        StorageError: the database cannot be opened, or is locked, read-only or damaged; nothing was changed.
    """
    with database.connect() as connection:
        revision = current_revision(connection)
    if revision == head_revision():
        report = UpgradeReport(from_revision=revision, to_revision=revision)
    elif database.is_postgresql:
        report = _upgrade_postgresql(database)
    else:
        report = _upgrade_sqlite(database)
    if not database.is_postgresql:
        _enable_wal(database)
    return report


def downgrade(
    database: Database, revision: str = BASELINE, *, force: bool = False, backup_to: Path | None = None
) -> DowngradeReport:
    """Make a backup, and downgrade the schema to an older revision, in one transaction.

    The columns and tables of newer revisions are dropped. By default, the result is the schema that other programs use.
    `force` is needed if unfinished tasks would be lost; their jobs stay as standalone jobs. `force` is also needed if
    files of interrupted moves were not moved back, or if projects would lose their tenants. The backup is the file
    `backup_to`; by default it is next to the SQLite file, or in the working folder. It is removed if a migration fails.

    Raises:
        DowngradeRefused: `force` is needed and not set.
        SchemaMismatch: the database's revision is not newer than `revision`, or the downgrade is not possible.
        DatabaseUnavailable: the SQLite file does not exist.
        BackupFailed: the backup could not be made; nothing was changed.
    """
    from storage.upkeep.backup import backup

    if database.path is not None and not database.path.is_file():
        raise DatabaseUnavailable(
            f"{database.path}: the file does not exist. Name the database in PHOTOJOBS_DATABASE_URL."
        )
    with database.connect() as connection:
        check_known_revision(connection, database)
        _check_downgrade(connection, database, revision, force=force)
    copy = None if database.path is None and not database.is_postgresql else backup(database, backup_to)
    transaction = database.begin() if database.is_postgresql else _without_foreign_keys(database)
    with _wrapping_errors(database), transaction as connection, _removing_on_error(copy):
        wait_for_other_changes(connection)
        current = _check_downgrade(connection, database, revision, force=force)
        with nullcontext() if database.is_postgresql else _without_views_and_triggers(connection):
            downgrade_to(connection, revision)
    return DowngradeReport(from_revision=current, to_revision=revision, backup=copy)


def _upgrade_postgresql(database: Database) -> UpgradeReport:
    with _wrapping_errors(database), database.begin() as connection:
        wait_for_other_changes(connection)
        check_known_revision(connection, database)
        revision = current_revision(connection)
        if revision is None:
            _check_no_foreign_tables(connection, database)
        migrate_to(connection, "head")
    return UpgradeReport(from_revision=revision, to_revision=head_revision())


def _check_no_foreign_tables(connection: Connection, database: Database) -> None:
    from storage.database.tables import metadata

    taken = sorted({*inspect(connection).get_table_names(), *inspect(connection).get_view_names()} & {*metadata.tables})
    if taken:
        raise SchemaMismatch(
            f"{database.url}: photojobs needs table names that another program already uses: {', '.join(taken)}. Use "
            "another database or schema."
        )


def _upgrade_sqlite(database: Database) -> UpgradeReport:
    from storage.upkeep import legacy, legacy_upgrade
    from storage.upkeep.backup import backup
    from storage.upkeep.sqlite_schema import foreign_key_violations

    with _wrapping_errors(database), _without_foreign_keys(database) as connection:
        # The transaction holds the write lock, so the copy has the same rows as the upgrade.
        check_known_revision(connection, database)
        revision = current_revision(connection)
        if revision == head_revision():
            return UpgradeReport(from_revision=revision, to_revision=revision)
        # In later revisions, an earlier upgrade has already made the tables ours, so no plan is needed.
        plan = legacy.read_plan(connection, database.url) if revision in (None, BASELINE) else None
        before = legacy_upgrade.count_all_rows(connection)
        copy = backup(database) if before and database.path is not None else None
        with _removing_on_error(copy):
            if plan is None:
                migrate_to(connection, "head")
            else:
                violations = foreign_key_violations(connection)
                triggers = legacy_upgrade.take_triggers(connection)
                gained = legacy_upgrade.adopt(connection, plan, format_timestamp(database.clock()))
                stamp(connection, BASELINE)
                migrate_to(connection, "head")
                legacy_upgrade.put_triggers_back(connection, triggers)
                legacy_upgrade.verify(connection, before=before, gained=gained, violations=violations)
        return UpgradeReport(
            from_revision=revision,
            to_revision=head_revision(),
            legacy_kinds=() if plan is None or revision is not None else plan.kinds,
            backup=copy,
            row_counts={name: count for name, count in before.items() if name != "alembic_version"},
            changes=() if plan is None else plan.changes,
            kept=_kept_for_other_programs(connection),
        )


def _kept_for_other_programs(connection: Connection) -> tuple[str, ...]:
    from storage.photos.projects import folders_are_unique_per_tenant

    if folders_are_unique_per_tenant(connection):
        return ()
    return ("project_folder stays unique among all tenants: two tenants cannot have project folders of the same name",)


@contextmanager
def _without_foreign_keys(database: Database) -> Iterator[Connection]:
    """Open a transaction in which tables can be dropped and rebuilt under their old names.

    With foreign keys, dropping a table would also delete rows that refer to it. Foreign keys cannot be switched off
    inside a transaction, so they are switched off before it begins.
    """
    with database.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - only called for SQLite.
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("PRAGMA legacy_alter_table = ON")
        try:
            with connection.begin():
                yield connection
        finally:
            with suppress(sqlite3.Error):
                raw.execute("PRAGMA legacy_alter_table = OFF")
                raw.execute("PRAGMA foreign_keys = ON")


@contextmanager
def _without_views_and_triggers(connection: Connection) -> Iterator[None]:
    """Drop the views and triggers of other programs, and create them again at the end of the block.

    SQLite drops no column if any view or trigger of the file cannot be read, either before or after the drop. With
    `legacy_alter_table`, the error of SQLite does not even name that view or trigger. A trigger of a table that the
    downgrade drops is not created again.

    Raises:
        SchemaMismatch: other programs could then no longer write to a table.
    """
    from storage.upkeep.sqlite_schema import list_objects

    unwritable_before = _unwritable_tables(connection)
    objects = list_objects(connection)
    views = [item for item in objects if item.type == "view"]
    triggers = [item for item in objects if item.type == "trigger" and not item.name.startswith("photojobs_")]
    for item in (*triggers, *views):
        connection.exec_driver_sql(f"DROP {item.type} {quote(item.name)}")
    yield
    left = {item.name.lower() for item in (*list_objects(connection), *views)}
    for item in (*views, *triggers):
        if item.table.lower() in left:
            connection.exec_driver_sql(item.sql)
    unwritable = sorted(_unwritable_tables(connection) - unwritable_before)
    if unwritable:
        raise SchemaMismatch(
            f"{shown_url(connection.engine.url)}: other programs could no longer write to {', '.join(unwritable)}, "
            "because a trigger or foreign key needs what the downgrade drops; nothing was changed. Drop this trigger "
            "or foreign key, then downgrade again."
        )


def _unwritable_tables(connection: Connection) -> set[str]:
    """Return the tables to which no program can write, because a trigger or foreign key names what does not exist."""
    from storage.upkeep.sqlite_schema import list_objects, read_table

    unwritable = set()
    for item in list_objects(connection):
        table = read_table(connection, item.name) if item.is_table_of_rows else None
        if table is None:
            continue
        name, changes = quote(table.name), ", ".join(f"{quote(own)} = {quote(own)}" for own in table.stored_columns)
        try:
            # SQLite reads the triggers of a table when it plans a statement.
            for change in (f"INSERT INTO {name} DEFAULT VALUES", f"DELETE FROM {name}", f"UPDATE {name} SET {changes}"):
                connection.exec_driver_sql(f"EXPLAIN {change}").close()
        except (StorageError, DBAPIError):
            unwritable.add(table.name)
        if any(read_table(connection, key.table) is None for key in table.foreign_keys):
            unwritable.add(table.name)
    return unwritable


@contextmanager
def _removing_on_error(copy: Path | None) -> Iterator[None]:
    """Remove the copy if the block fails inside the transaction, so that repeated failures do not fill the disk."""
    try:
        yield
    except Exception:
        if copy is not None:
            copy.unlink(missing_ok=True)
        raise


@contextmanager
def _wrapping_errors(database: Database) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise SchemaMismatch(
            f"{database.url}: the schema cannot be changed: {error.orig}; nothing was changed. "
            "Remove or rename the object that the error names."
        ) from error


def _check_downgrade(connection: Connection, database: Database, revision: str, *, force: bool) -> str:
    known = known_revisions()
    if revision not in known:
        raise SchemaMismatch(f"{shown(revision)} is not a revision. Name one of these: {', '.join(known)}.")
    current = current_revision(connection)
    if current not in known or known.index(current) <= known.index(revision):
        raise SchemaMismatch(
            f"{database.url}: its schema ({current or 'not of photojobs'}) is not newer than {revision}, so it is not "
            "downgraded. Check the database and the revision that you named."
        )
    if not force and revision == BASELINE:
        count = connection.execute(
            text("SELECT count(*) FROM tasks WHERE status IN ('queued', 'running')")
        ).scalar_one()
        if count:
            raise DowngradeRefused(
                f"{database.url}: {quantity(count, 'unfinished task')} would be lost: that schema has no tasks. "
                "Wait until all tasks have ended, cancel them, or downgrade with --force."
            )
    if not force and revision < _MOVE_INTENTS and inspect(connection).has_table("move_intents"):
        count = connection.execute(text("SELECT count(*) FROM move_intents")).scalar_one()
        if count:
            raise DowngradeRefused(
                f"{database.url}: {quantity(count, 'file')} of interrupted moves would stay where no row names them: "
                "older schemas do not store moves. Run `photojobs run maintenance_global`, which moves the files back, "
                "or downgrade with --force."
            )
    if not force and revision == BASELINE:
        others = text("SELECT count(*) FROM projects WHERE tenant_id <> :default")
        count = connection.execute(others, {"default": DEFAULT_TENANT}).scalar_one()
        if count:
            raise DowngradeRefused(
                f"{database.url}: {quantity(count, 'project')} of other tenants than {DEFAULT_TENANT} would belong "
                f"to {DEFAULT_TENANT}, and count as missing after the next upgrade: that schema does not store "
                "tenants. Restore a backup with the older schema, or downgrade with --force."
            )
    return current


def _enable_wal(database: Database) -> None:
    # The journal mode cannot change inside a transaction. If it cannot be changed, because the file is read-only or
    # another program reads it, the database works without WAL, and the next start tries again.
    with suppress(sqlite3.OperationalError):
        raw = database.engine.raw_connection()
        try:
            cursor = raw.cursor()
            if cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                cursor.execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()
