"""Backups of a database: `backup` writes one file, and `restore` fills an empty database from it.

SQLite copies its file itself, and other programs can write meanwhile. `storage.upkeep.postgresql_archive` copies tables
of PostgreSQL. Existing files are never overwritten, and a backup gets its name only when it is complete. If the process
is killed, the first backup in the same folder after a day removes the incomplete file.
`storage.upkeep.schema_upgrade` decides before which upgrades and downgrades a backup is made.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import inspect

from storage.database.clock import to_milliseconds
from storage.database.driver_errors import translating_errors
from storage.database.engine import Database
from storage.database.private_files import create_private
from storage.errors import DatabaseUnavailable, StorageError
from storage.library.atomic_write import fsync_file, fsync_folder, remove_stale_temporaries, temporary_path
from storage.library.exclusive_rename import rename_exclusively
from storage.upkeep import postgresql_archive
from storage.upkeep.revisions import wait_for_other_changes
from storage.upkeep.sqlite_schema import open_read_only


class BackupFailed(StorageError):
    """A backup could not be written or is not sound; the incomplete file was removed."""


class RestoreFailed(StorageError):
    """A backup cannot be restored: the file is damaged or not a backup, or the database has tables or is read-only."""


def backup(database: Database, target: Path | None = None) -> Path:
    """Copy the database to one file, check the copy, sync it to the disk, and return its path.

    The copy has the whole file of SQLite, or our tables in PostgreSQL. By default, the copy is called
    `<name>.<time>.backup`, next to an SQLite file, or in the working folder for PostgreSQL. If `target` is a folder,
    the copy gets this name there.

    Raises:
        BackupFailed: the target exists or cannot be written, or the copy is not sound.
        DamagedArchive: the backup of PostgreSQL cannot be read back.
        SchemaMismatch: the PostgreSQL database has no schema of photojobs, or a schema that this version does not know.
        DatabaseUnavailable: the SQLite file does not exist, or the database is in memory and no target is given.
    """
    if target is None:
        target = _default_target(database)
    elif target.is_dir():
        target /= _default_target(database).name
    if target.exists():
        raise BackupFailed(_exists(target))
    temporary = temporary_path(target)
    with contextlib.suppress(OSError):
        remove_stale_temporaries(target.parent)
    try:
        if database.is_postgresql:
            with translating_errors(database.engine):
                create_private(temporary)
                postgresql_archive.write(database, temporary)
        else:
            _copy_sqlite(database, temporary)
        fsync_file(temporary)
        rename_exclusively(temporary, target)
        fsync_folder(target.parent)
    except FileExistsError:
        raise BackupFailed(_exists(target)) from None
    except OSError as error:
        raise BackupFailed(
            f"{target}: the backup cannot be written: {error.strerror or error}. Correct this, or name a file in "
            "another folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return target


def restore(database: Database, archive: Path) -> None:
    """Fill an empty database from a file that `backup` made of a database of the same kind.

    The database gets the schema of the backup; `Database.migrate` upgrades it.

    Raises:
        RestoreFailed: the file is not a backup of a database of this kind or is damaged, or the database is not empty;
            nothing was written. Or the database cannot be written.
        SchemaMismatch: a newer version made the backup.
    """
    if not archive.is_file():
        problem = "is not a file" if archive.exists() else "the file does not exist"
        raise RestoreFailed(f"{archive}: {problem}. Name the file of a backup.")
    is_sqlite_copy = _is_sqlite_file(archive)
    if is_sqlite_copy == database.is_postgresql:
        kind, other = ("an SQLite file", "PostgreSQL") if is_sqlite_copy else ("not an SQLite file", "SQLite")
        raise RestoreFailed(
            f"{archive}: the file is {kind}, so it cannot be restored into {database.url}, which is {other}. Name "
            "another file or another database."
        )
    if not database.is_postgresql:
        _fill_sqlite(database, archive)
        return
    try:
        with translating_errors(database.engine), database.begin() as connection:
            wait_for_other_changes(connection)
            _check_empty(database, postgresql_archive.our_tables(inspect(connection).get_table_names()))
            postgresql_archive.read(connection, archive)
    except postgresql_archive.DamagedArchive as error:
        raise RestoreFailed(f"{archive}: {error}") from error


def _check_empty(database: Database, tables: Sequence[str]) -> None:
    if tables:
        raise RestoreFailed(
            f"{database.url} is not empty; it has tables, such as {', '.join(sorted(tables)[:5])}. Restore to a new "
            "database, check it, and then set PHOTOJOBS_DATABASE_URL to it."
        )


def _exists(target: Path) -> str:
    return f"{target}: the file exists, and a backup never overwrites a file. Name another file."


def _default_target(database: Database) -> Path:
    moment = to_milliseconds(database.clock())
    stamp = f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}Z"
    if database.is_postgresql:
        folder, name = Path.cwd(), str(database.engine.url.database or "photojobs")
    elif database.path is not None:
        folder, name = database.path.absolute().parent, database.path.name
    else:
        raise DatabaseUnavailable("a database in memory has no folder for a backup; name the file of the backup")
    # With the number, a second backup within the same millisecond gets a file of its own.
    numbers = iter(range(1, 1_000_000))
    target = folder / f"{name}.{stamp}.backup"
    while target.exists():
        target = folder / f"{name}.{stamp}-{next(numbers)}.backup"
    return target


def _copy_sqlite(database: Database, target: Path) -> None:
    try:
        with contextlib.closing(_open_source(database)) as source:
            create_private(target)
            with contextlib.closing(sqlite3.connect(target)) as copy:
                _copy_pages(source, copy)
                # A database in WAL mode has several files, but a backup must be one complete file.
                copy.execute("PRAGMA journal_mode = DELETE")
                problem = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise BackupFailed(
            f"{database.url}: the backup cannot be made: {error}. Nothing was changed. Check the disk and the file."
        ) from error
    if problem != "ok":
        raise BackupFailed(
            f"{database.url}: the file is damaged, so no sound backup can be made: {problem}. Nothing was changed. "
            "Copy the file, and then repair the copy with `.recover` of the sqlite3 program."
        )


def _copy_pages(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    def check(status: int, _remaining: int, _total: int) -> None:
        # SQLite has waited for the lock during the busy timeout. `Connection.backup` alone would try again forever.
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise sqlite3.OperationalError("another program keeps the file locked")

    # The pages are copied in one step. A write of another program between two steps would restart the copy.
    source.backup(target, progress=check)


def _open_source(database: Database) -> sqlite3.Connection:
    if database.path is not None:
        # A new connection is used, because a pooled one may have the open transaction of the upgrade that needs the
        # backup.
        return open_read_only(database.path)
    raw = database.engine.raw_connection().driver_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - only called for SQLite.
    memory = sqlite3.connect(":memory:")
    _copy_pages(raw, memory)
    return memory


def _is_sqlite_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _fill_sqlite(database: Database, archive: Path) -> None:
    with contextlib.ExitStack() as opened:
        try:
            source = opened.enter_context(contextlib.closing(open_read_only(archive)))
            problem = source.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            problem = str(error)
        if problem != "ok":
            raise RestoreFailed(
                f"{archive}: the backup is damaged or cannot be read: {problem}. Nothing was written. Use another "
                "backup, or copy this one, with its -wal file if it has one, to a disk that can be written."
            )
        with translating_errors(database.engine):
            raw = database.engine.raw_connection()
        try:
            target = raw.driver_connection
            assert isinstance(target, sqlite3.Connection)  # noqa: S101 - the copy and the database are SQLite.
            # While the backup was checked, another process may have created the tables of a new database.
            tables = target.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'")
            _check_empty(database, [name for (name,) in tables])
            _copy_pages(source, target)
        except sqlite3.Error as error:
            raise RestoreFailed(
                f"{database.url}: the backup cannot be restored: {error}. Correct this, or restore the backup to a "
                "new database on another disk."
            ) from error
        finally:
            raw.close()
