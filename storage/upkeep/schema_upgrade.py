"""Moving a database along the history of its schema: upgrades, also of files of earlier programs, and downgrades."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from alembic import command
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from storage.database.clock import format_timestamp
from storage.database.engine import Database
from storage.errors import DatabaseUnavailable, SchemaMismatch, StorageError
from storage.upkeep.revisions import (
    BASELINE,
    alembic_config,
    check_known_revision,
    current_revision,
    head_revision,
    known_revisions,
    migrate_to,
    stamp,
)

#: Upgrades of one PostgreSQL database wait for each other by this advisory lock.
_UPGRADE_LOCK = 7_468_106_206


class UnfinishedTasks(StorageError):
    """A downgrade to a revision without tasks was requested while tasks are unfinished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeReport:
    """What an upgrade did.

    Attributes:
        from_revision: the revision before; None before the first migration.
        to_revision: the revision now.
        legacy_kinds: `before_scopes`, `half_migrated` or `current` for a file of another program, else empty.
        backup: the backup made before; None if the database was empty.
        row_counts: the number of rows that each table had before; it still has all of them.
        changes: what was changed, a sentence each; additions of newer revisions are not listed.
        kept: what newer revisions change only in files that no other program made, a sentence each.
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
    """What a downgrade did; `backup` contains what it dropped."""

    from_revision: str
    to_revision: str
    backup: Path | None


def upgrade(database: Database) -> UpgradeReport:
    """Bring the database to the newest schema, in one transaction; an SQLite file of an earlier program in place.

    A file that is not empty is copied before (`storage.upkeep.backup`). If the schema is the newest, nothing is done.
    PostgreSQL is not copied: only our own revisions run there, and they only add.

    Raises:
        SchemaMismatch: a newer version wrote the database, or it holds another program's tables of our names.
        BackupFailed: the copy could not be made; nothing was changed.
        StorageError: the database cannot be opened, is locked, read-only or damaged; nothing was changed.
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
    """Downgrade the schema to an older revision, in one transaction, after a backup; later additions are dropped.

    Args:
        database: the database to downgrade.
        revision: an older revision; by default the schema that other programs know.
        force: downgrade although tasks are unfinished. Their jobs are kept as standalone jobs.
        backup_to: the file of the backup; by default beside the SQLite file, or in the working folder.

    Raises:
        UnfinishedTasks: tasks have not ended, and `force` is not given.
        SchemaMismatch: the database does not have a newer revision than that, or cannot be downgraded.
        DatabaseUnavailable: there is no database.
    """
    from storage.upkeep.backup import backup

    if database.path is not None and not database.path.is_file():
        raise DatabaseUnavailable(f"{database.path}: there is no such file.")
    with database.connect() as connection:
        check_known_revision(connection, database)
        _check_downgrade(connection, database, revision, force=force)
    copy = None if database.path is None and not database.is_postgresql else backup(database, backup_to)
    transaction = database.begin() if database.is_postgresql else _without_foreign_keys(database)
    with _wrapping_errors(database), transaction as connection:
        _wait_for_other_upgrades(connection)
        current = _check_downgrade(connection, database, revision, force=force)
        command.downgrade(alembic_config(connection), revision)
    return DowngradeReport(from_revision=current, to_revision=revision, backup=copy)


def _upgrade_postgresql(database: Database) -> UpgradeReport:
    with _wrapping_errors(database), database.begin() as connection:
        _wait_for_other_upgrades(connection)
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
            f"{database.url}: it already holds {', '.join(taken)} of another program. Name another database or schema."
        )


def _upgrade_sqlite(database: Database) -> UpgradeReport:
    from storage.upkeep import legacy, legacy_upgrade
    from storage.upkeep.backup import backup
    from storage.upkeep.sqlite_schema import foreign_key_violations

    with _wrapping_errors(database), _without_foreign_keys(database) as connection:
        # The write lock is held from here on, so no write can happen between the backup and the upgrade.
        check_known_revision(connection, database)
        revision = current_revision(connection)
        if revision == head_revision():
            return UpgradeReport(from_revision=revision, to_revision=revision)
        # Another program can have created or changed its tables only up to this revision.
        plan = legacy.read_plan(connection, database.url) if revision in (None, BASELINE) else None
        before = legacy_upgrade.count_all_rows(connection)
        copy = backup(database) if before and database.path is not None else None
        gained: dict[str, int] = {}
        if plan is not None:
            violations = foreign_key_violations(connection)
            triggers = legacy_upgrade.take_triggers(connection)
            gained = legacy_upgrade.adopt(connection, plan, format_timestamp(database.clock()))
            stamp(connection, BASELINE)
            migrate_to(connection, "head")
            legacy_upgrade.put_triggers_back(connection, triggers)
            legacy_upgrade.verify(connection, before=before, gained=gained, violations=violations)
        else:
            migrate_to(connection, "head")
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
    return ("project_folder stays unique over all tenants: two of them cannot have projects with folders of one name",)


@contextmanager
def _without_foreign_keys(database: Database) -> Iterator[Connection]:
    """A transaction in which tables can be rebuilt under their old names.

    Foreign keys are off, because dropping a table would delete its children; they cannot be switched in a transaction.
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
def _wrapping_errors(database: Database) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise SchemaMismatch(
            f"{database.url}: the schema cannot be changed: {error.orig}; nothing was changed. "
            "Remove or rename the object that the error names."
        ) from error


def _wait_for_other_upgrades(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))


def _check_downgrade(connection: Connection, database: Database, revision: str, *, force: bool) -> str:
    known = known_revisions()
    if revision not in known:
        raise SchemaMismatch(f"{revision} is not a revision. Known, the oldest first: {', '.join(known)}.")
    current = current_revision(connection)
    if current not in known or known.index(current) <= known.index(revision):
        raise SchemaMismatch(
            f"{database.url}: its schema is {current or 'none of ours'}, which is not above {revision}."
        )
    if not force and inspect(connection).has_table("tasks"):
        count = connection.execute(
            text("SELECT count(*) FROM tasks WHERE status IN ('queued', 'running')")
        ).scalar_one()
        if count:
            raise UnfinishedTasks(
                f"{database.url}: {count} of its tasks have not ended, and older schemas have no tasks. Let them end, "
                "cancel them, or force the downgrade."
            )
    return current


def _enable_wal(database: Database) -> None:
    # The journal mode cannot change inside a transaction. Where it cannot change now, because the file is read-only
    # or another program is reading, the database works as well without; the next start tries again.
    with suppress(sqlite3.OperationalError):
        raw = database.engine.raw_connection()
        try:
            cursor = raw.cursor()
            if cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                cursor.execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()
