"""Translates the errors of the database drivers into errors of `storage.errors`.

`flows.process.database_retry` repeats calls after an error of the class `DatabaseFault`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, ExceptionContext

from storage.database.database_url import shown_url
from storage.errors import (
    ConstraintViolated,
    DatabaseBusy,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DiskFull,
    InvalidValue,
    SchemaMismatch,
    StorageError,
)


def storage_error(error: BaseException, engine: Engine | None) -> StorageError | None:
    """Return the `StorageError` for a driver's error, or None if no class fits."""
    place = shown_url(engine.url) if engine is not None else "the database"
    # The driver raises these two errors before it sends anything.
    if isinstance(error, OverflowError):
        return InvalidValue(
            place, f"a number does not fit in 64 bits ({error}); nothing was written. Give a number that fits."
        )
    if isinstance(error, UnicodeEncodeError):
        return InvalidValue(
            place,
            f"a text contains a lone surrogate, which is not valid Unicode text ({error}); nothing was written. "
            "Remove this character.",
        )
    if isinstance(error, sqlite3.Error):
        return _sqlite_error(error, place)
    if type(error).__module__.startswith("psycopg"):
        return _postgresql_error(error, place)
    return None


@contextmanager
def translating_errors(engine: Engine) -> Iterator[None]:
    """Translate the driver's errors in the block, which uses the driver directly, without SQLAlchemy."""
    try:
        yield
    except Exception as error:
        translated = storage_error(error, engine)
        if translated is None:
            raise
        raise translated from error


def translate_error(context: ExceptionContext) -> StorageError | None:
    """Return the `StorageError` for the error of a statement, or None if no class fits.

    The function is a handler of SQLAlchemy's event `handle_error`.
    """
    translated = storage_error(context.original_exception, context.engine)
    if isinstance(translated, DatabaseReadOnly | DatabaseUnavailable):
        # After a failover, this server may no longer accept writes; a new connection can reach the new primary server.
        # So SQLAlchemy is told to open new connections.
        context.is_disconnect = True
    return translated


def _sqlite_error(error: sqlite3.Error, place: str) -> StorageError | None:
    code = getattr(error, "sqlite_errorname", None) or ""
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DatabaseBusy(f"{place}: another process kept the database locked; nothing was written. Try again.")
    if code.startswith("SQLITE_READONLY"):
        return DatabaseReadOnly(
            f"{place}: the file or its folder is read-only; nothing was written. Make both writable."
        )
    if code.startswith("SQLITE_FULL"):
        # SQLite reports the same error for the disk of the database and for the disk of its temporary files.
        return DiskFull(
            f"{place}: the disk is full: the one of this file, or the one of SQLite's temporary files (see "
            "SQLITE_TMPDIR and TMPDIR); nothing was written. Free some space and try again."
        )
    if code.startswith("SQLITE_CORRUPT"):
        return DatabaseUnavailable(f"{place}: {error}. `photojobs db check` shows the damage; restore a backup.")
    if code.startswith(("SQLITE_IOERR", "SQLITE_PROTOCOL")):
        return DatabaseUnavailable(f"{place}: {error}. Check the disk of this file, and try again.")
    if code.startswith(("SQLITE_CANTOPEN", "SQLITE_NOTADB")):
        return DatabaseUnavailable(f"{place}: {error}. Check that the path names a readable SQLite file.")
    if str(error).startswith(("no such table", "no such column", "no such index")):
        return SchemaMismatch(
            f"{place}: {error}. Run `photojobs db upgrade`, or check that this is the right database."
        )
    if str(error).startswith("Error binding parameter"):
        return _wrong_type(error, place)
    if code.startswith("SQLITE_CONSTRAINT"):
        return ConstraintViolated(f"{place}: {error}; nothing was written. Give values that this constraint allows.")
    return None


def _wrong_type(detail: object, place: str) -> InvalidValue:
    return InvalidValue(place, f"a value has the wrong type ({detail}); nothing was written. Correct this value.")


#: The text with which psycopg reports too many parameters. psycopg calls this a connection error, although another
#: attempt would fail, too.
_TOO_MANY_PARAMETERS = "number of parameters must be between"

#: psycopg raises an error with this text if a URL has an option that libpq does not know.
_UNKNOWN_OPTION = "invalid connection option"

#: The function of PostgreSQL that refuses a prepared statement if it would return other columns than before.
_REFUSES_OTHER_COLUMNS = "RevalidateCachedQuery"


def _postgresql_error(error: BaseException, place: str) -> StorageError | None:
    state = getattr(error, "sqlstate", None) or ""
    detail = str(error).strip().partition("\n")[0]
    if state in ("55P03", "40001", "40P01", "57014", "53300"):
        return DatabaseBusy(f"{place}: {detail}; nothing was written. Try again.")
    if state == "0A000" and getattr(getattr(error, "diag", None), "source_function", "") == _REFUSES_OTHER_COLUMNS:
        return DatabaseUnavailable(
            f"{place}: another program has changed the columns of a table since the connection was opened; nothing was "
            "written. Try again, with a new connection."
        )
    if state in ("25006", "42501"):
        return DatabaseReadOnly(
            f"{place}: {detail}; nothing was written. Check that this server accepts writes, and that the database "
            "user has the privileges."
        )
    if state.startswith("53"):
        return DiskFull(
            f"{place}: {detail}; nothing was written. Free disk space or memory on the server, and try again."
        )
    if state in ("42P01", "42703"):
        return SchemaMismatch(
            f"{place}: {detail}. Run `photojobs db upgrade`, or check that this is the right database."
        )
    if _TOO_MANY_PARAMETERS in detail:
        return InvalidValue(
            place, f"the call has too many values ({detail}); nothing was written. Pass fewer at a time."
        )
    if state == "42883" or detail.startswith("cannot adapt type"):
        return _wrong_type(detail, place)
    if state.startswith(("22", "54")) or type(error).__name__ == "DataError":
        return InvalidValue(place, f"a value cannot be stored ({detail}); nothing was written. Correct this value.")
    if state.startswith("23"):
        return ConstraintViolated(f"{place}: {detail}; nothing was written. Give values that this constraint allows.")
    if type(error).__name__ in ("OperationalError", "AdminShutdown", "ConnectionTimeout", "InterfaceError") or (
        # SQLSTATE classes for connections, logins, transaction states, and faults of the server or its system.
        state.startswith(("08", "25", "28", "3D", "57", "58", "XX")) or _UNKNOWN_OPTION in detail
    ):
        return DatabaseUnavailable(f"{place}: {detail}. Check that the server runs, and that the URL is right.")
    return None
