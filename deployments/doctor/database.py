"""Checks that the database exists, is sound, has the newest schema and can be written."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sqlalchemy import text

from deployments.doctor.file_systems import file_system_type, is_network
from deployments.doctor.finding import Area, Finding
from storage.database.engine import Database
from storage.database.tables import metadata
from storage.errors import StorageError, UnsuitableEncoding, UnsuitablePooler
from storage.upkeep.integrity import check
from storage.upkeep.integrity_rules import Severity
from task_definitions.wording import quantity

_area = Area("database")

#: A query for the tables of photojobs in which the database's user lacks a right to read or write.
_CLOSED_TABLES = text(
    """
    SELECT name FROM unnest(CAST(:tables AS text[])) AS name
    WHERE to_regclass(quote_ident(name)) IS NOT NULL
      AND NOT (
        SELECT bool_and(has_table_privilege(to_regclass(quote_ident(name)), need))
        FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS need
      )
    ORDER BY name
    """
)

#: A query for the sequences that the database's user may not use. New rows get their ids from sequences.
_CLOSED_SEQUENCES = text(
    """
    SELECT sequence FROM unnest(CAST(:tables AS text[])) AS name
    JOIN pg_attribute ON attrelid = to_regclass(quote_ident(name)) AND attnum > 0 AND NOT attisdropped
    CROSS JOIN LATERAL (SELECT pg_get_serial_sequence(quote_ident(name), attname)) AS used(sequence)
    WHERE sequence IS NOT NULL AND NOT has_sequence_privilege(sequence, 'USAGE')
    ORDER BY sequence
    """
)


def examine_database(database: Database) -> Iterator[Finding]:
    """Check a database; nothing is changed or created."""
    if database.path is not None and not database.path.is_file():
        yield _area.problem(
            "exists",
            f"There is no database at {database.path}.",
            "`photojobs init` creates one for your photographs; or name an existing one in PHOTOJOBS_DATABASE_URL.",
        )
        return
    try:
        if database.is_postgresql and (user := _user_without_schema(database)) is not None:
            yield _area.problem(
                "rights",
                f"The database's user {user} may not use any schema of its search_path.",
                f"Run GRANT USAGE ON SCHEMA … TO {user}, or correct the search_path.",
            )
            return
        report = check(database)
    except UnsuitableEncoding as error:
        yield _area.problem("encoding", str(error), "Copy the rows to the new database with pg_dump and psql.")
        return
    except UnsuitablePooler as error:
        yield _area.problem(
            "pooling",
            str(error),
            "Set pool_mode = session in the pooler, or name the port of PostgreSQL itself in PHOTOJOBS_DATABASE_URL.",
        )
        return
    except StorageError as error:
        yield _area.problem(
            "opens",
            f"The database cannot be opened: {error}",
            "Correct this, and run `photojobs doctor` again. PHOTOJOBS_DATABASE_URL names the database.",
        )
        return
    yield _area.fine("opens", f"{report.database} can be opened.")
    if report.is_sound and not report.has_tables:
        yield _area.problem(
            "schema",
            "The database has no tables of photojobs.",
            "Check that it is the right database. `photojobs db upgrade` creates the tables.",
        )
        return
    if report.revision == report.newest_revision:
        yield _area.fine("schema", f"The database has the newest schema, {report.revision}.")
    for finding in report.findings:
        if finding.name == "older_schema":
            yield _area.warning(
                "schema",
                f"The database has the schema {report.revision or 'of another program'}; the newest is "
                f"{report.newest_revision}.",
                "`photojobs db upgrade` upgrades it; `photojobs db check` shows what an upgrade would change.",
            )
            continue
        make = _area.problem if finding.severity is Severity.ERROR else _area.warning
        rows = f" ({quantity(finding.count, 'row')})" if finding.count else ""
        yield make(finding.name, f"{finding.table or 'Whole database'}: {finding.problem}{rows}.", finding.remedy)
    if report.is_sound:
        yield _area.fine("integrity", "The database has no damage, and no rows that must be corrected.")
    yield _writable(database)
    if database.is_postgresql:
        yield _area.fine("encoding", "The database is encoded in UTF8.")
        yield _area.fine("pooling", "Each session of the database has its own server connection.")
        yield _rights(database)
    if database.path is not None:
        yield from _file(database)


def _writable(database: Database) -> Finding:
    if database.path is not None and not os.access(database.path.parent, os.W_OK):
        return _area.problem(
            "writable",
            f"The folder {database.path.parent} cannot be written, and SQLite keeps its journal there.",
            "Correct the permissions of the folder.",
        )
    try:
        with database.connect() as connection:
            # This statement takes the write lock, and the rollback releases it.
            connection.execute(text("UPDATE jobs SET status = status WHERE id IS NULL"))
            connection.rollback()
    except Exception as error:  # noqa: BLE001 - the user must see any error.
        return _area.problem(
            "writable",
            f"The database cannot be written: {error}",
            "Correct this, and run `photojobs doctor` again.",
        )
    return _area.fine("writable", "The database can be written.")


def _user_without_schema(database: Database) -> str | None:
    with database.connect() as connection:
        return connection.execute(text("SELECT current_user WHERE current_schema() IS NULL")).scalar_one_or_none()


def _rights(database: Database) -> Finding:
    with database.connect() as connection:
        may_temporary, may_create, place, schema, user = connection.execute(
            text(
                "SELECT has_database_privilege(current_database(), 'TEMPORARY'), "
                "has_schema_privilege(current_schema(), 'CREATE'), "
                "quote_ident(current_database()), quote_ident(current_schema()), quote_ident(current_user)"
            )
        ).one()
        tables = {"tables": sorted(metadata.tables)}
        closed = connection.execute(_CLOSED_TABLES, tables).scalars().all()
        unusable = connection.execute(_CLOSED_SEQUENCES, tables).scalars().all()
    lacking = [name for name, granted in (("TEMPORARY", may_temporary), ("CREATE", may_create)) if not granted]
    lacking += [f"to read and write {table}" for table in closed]
    lacking += [f"to use the sequence {sequence}" for sequence in unusable]
    grants = [
        grant
        for grant, is_lacking in (
            (f"TEMPORARY ON DATABASE {place}", not may_temporary),
            (f"CREATE ON SCHEMA {schema}", not may_create),
            (f"SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema}", closed),
            (f"USAGE ON ALL SEQUENCES IN SCHEMA {schema}", unusable),
        )
        if is_lacking
    ]
    if grants:
        return _area.problem(
            "rights",
            f"The database's user lacks these rights: {', '.join(lacking)}.",
            f"As the owner of the database, run: {' '.join(f'GRANT {grant} TO {user};' for grant in grants)}",
        )
    return _area.fine("rights", "The database's user has all rights that photojobs needs.")


def _file(database: Database) -> Iterator[Finding]:
    assert database.path is not None  # noqa: S101 - only called for a file.
    with database.connect() as connection:
        mode = str(connection.execute(text("PRAGMA journal_mode")).scalar_one())
    if mode == "wal":
        yield _area.fine("journal", "Readers and writers of the database do not wait for each other (WAL).")
    else:
        yield _area.warning(
            "journal",
            f"The journal mode of the database is {mode}, in which readers and writers wait for each other.",
            f"Run `sqlite3 {database.path} 'PRAGMA journal_mode = WAL'` while no other program uses the file.",
        )
    type_name = file_system_type(database.path)
    if is_network(type_name):
        yield _area.problem(
            "file_system",
            f"The database is on another machine's file system ({type_name}), where SQLite's locks are not reliable.",
            "Move the database to a disk of this machine, or use PostgreSQL if several machines use the database.",
        )
    elif type_name is None:
        yield _area.fine("file_system", "The operating system does not report the database's file system.")
    else:
        yield _area.fine("file_system", f"The database is on a disk of this machine ({type_name}).")
