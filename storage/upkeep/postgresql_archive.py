"""Makes backups of PostgreSQL without PostgreSQL's tools: a ZIP file with the output of COPY for each of our tables.

A backup has only our tables, with all columns that other programs added to them. Use `pg_dump` for whole databases.
"""

import json
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, inspect, text
from sqlalchemy.exc import ProgrammingError

from storage.database.clock import format_timestamp
from storage.database.engine import Database
from storage.database.snapshot import snapshot
from storage.database.tables import metadata
from storage.errors import SchemaMismatch, StorageError
from storage.upkeep.revisions import check_known_revision, current_revision, known_revisions, migrate_to
from storage.upkeep.table_definition import quote
from task_definitions.foreign_documents import MAX_BYTES, UnreadableDocument, parse_json
from task_definitions.wording import quantity, shown

_FORMAT = "photojobs-postgresql-1"
_MANIFEST = "manifest.json"
_BLOCK_BYTES = 1 << 20
#: The errors that a damaged archive causes: the errors of `zipfile`, and the errors of a `manifest.json` without the
#: expected keys and types, such as a `ProgrammingError` for a text that is not a type of PostgreSQL. `zipfile` raises a
#: RuntimeError if a damaged header names an unknown compression, or marks a file of the archive as encrypted.
_DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    ProgrammingError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    EOFError,
    UnreadableDocument,
)


class DamagedArchive(StorageError):
    """A file is not an archive of photojobs, is incomplete, or does not match its manifest."""


def our_tables(names: Iterable[str]) -> list[str]:
    """Return our tables among `names`. Tables come before the tables that refer to them."""
    present = set(names)
    return [table.name for table in metadata.sorted_tables if table.name in present]


def write(database: Database, target: Path) -> None:
    """Write one snapshot of our tables to an empty file that the caller created.

    Raises:
        DamagedArchive: the written file cannot be read back.
        SchemaMismatch: the database has no revision, or a revision that this version of photojobs does not know.
    """
    with snapshot(database) as connection:
        check_known_revision(connection, database)
        revision = current_revision(connection)
        if revision is None:
            raise SchemaMismatch(
                f"{database.url}: has no tables of photojobs, so there is nothing to back up. Check that it is the "
                "right database; `photojobs db upgrade` creates the tables."
            )
        tables: list[dict[str, Any]] = []
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in our_tables(inspect(connection).get_table_names()):
                columns = _columns(connection, name)
                names = ", ".join(quote(column) for column, _ in columns)
                with archive.open(f"{name}.copy", "w", force_zip64=True) as file:
                    cursor = connection.connection.cursor()
                    with cursor.copy(f"COPY {quote(name)} ({names}) TO STDOUT") as copy:
                        for block in copy:
                            file.write(block)
                    count = cursor.rowcount
                    cursor.close()
                tables.append({"name": name, "columns": columns, "rows": count, "last_id": _last_id(connection, name)})
            manifest = {
                "format": _FORMAT,
                "revision": revision,
                "created_at": format_timestamp(database.clock()),
                "tables": tables,
            }
            archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
    with zipfile.ZipFile(target) as archive:
        broken = archive.testzip()
        if broken is not None:
            raise DamagedArchive(
                f"{target}: its part {broken} cannot be read back; the disk may be failing. Make the backup on another "
                "disk."
            )


def read(connection: Connection, source: Path) -> None:
    """Create our tables in the archive's revision and fill them, in the caller's transaction.

    Raises:
        DamagedArchive: the file is not an archive, is incomplete, or needs a type that the server lacks; the caller
            must then roll back.
        SchemaMismatch: a newer version of photojobs wrote the archive.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            if archive.getinfo(_MANIFEST).file_size > MAX_BYTES:
                raise DamagedArchive("has a manifest that is too large. Use another backup.")
            manifest = parse_json(archive.read(_MANIFEST), source=_MANIFEST)
            if manifest["format"] != _FORMAT:
                raise DamagedArchive(
                    f"has the unknown format {shown(manifest['format'])}; upgrade photojobs, or name another backup."
                )
            if manifest["revision"] not in known_revisions():
                raise SchemaMismatch(
                    f"{source}: its schema {manifest['revision']} is unknown to this version of photojobs. "
                    "Upgrade photojobs."
                )
            migrate_to(connection, manifest["revision"])
            # Some tables have rows that migrations inserted; the archive has these rows, too, so they are removed
            # first.
            for name in reversed(our_tables(table["name"] for table in manifest["tables"])):
                connection.execute(text(f"DELETE FROM {quote(name)}"))
            for table in manifest["tables"]:
                _fill(connection, archive, table)
    except _DAMAGES as error:
        reason = str(error).rstrip(".")
        raise DamagedArchive(f"is not a complete archive of photojobs: {reason}. Use another backup.") from error


def _fill(connection: Connection, archive: zipfile.ZipFile, table: dict[str, Any]) -> None:
    name = table["name"]
    if not our_tables([name]):
        raise DamagedArchive(f"has a table {name!r} that photojobs does not know. Use another backup.")
    known = {column for column, _ in _columns(connection, name)}
    cursor = connection.connection.cursor()
    for column, type_ in table["columns"]:
        if column not in known:
            # `to_regtype` accepts only the text of a type, so that a changed manifest cannot run other statements.
            known_type = connection.execute(text("SELECT to_regtype(:type)"), {"type": type_}).scalar_one()
            if known_type is None:
                raise DamagedArchive(
                    f"has a column {name}.{column} of the type {type_!r}, which the server lacks. "
                    "Create the type on the server first."
                )
            cursor.execute(f"ALTER TABLE {quote(name)} ADD COLUMN {quote(column)} {type_}")
    names = ", ".join(quote(column) for column, _ in table["columns"])
    with archive.open(f"{name}.copy") as file, cursor.copy(f"COPY {quote(name)} ({names}) FROM STDIN") as copy:
        while block := file.read(_BLOCK_BYTES):
            copy.write(block)
    if cursor.rowcount != table["rows"]:
        raise DamagedArchive(
            f"should have {quantity(table['rows'], 'row')} of {name}, but has {cursor.rowcount}. Use another backup."
        )
    cursor.close()
    sequence = _sequence(connection, name)
    if sequence is not None:
        # Ids of removed rows must not be used again, because the journal, manifests and other programs refer to them.
        connection.execute(
            text(
                f"""SELECT setval(:sequence, greatest(max(id), :last_id, 1), coalesce(max(id), :last_id) IS NOT NULL)
                FROM {quote(name)}"""
            ).bindparams(bindparam("last_id", type_=BigInteger)),
            {"sequence": sequence, "last_id": table.get("last_id")},
        )


def _sequence(connection: Connection, table: str) -> str | None:
    """Return the quoted name of the sequence of a table's ids, or None."""
    statement = """
        SELECT pg_get_serial_sequence(CAST(attrelid AS regclass)::text, 'id') FROM pg_attribute
        WHERE attrelid = to_regclass(:table) AND attname = 'id' AND NOT attisdropped"""
    return connection.execute(text(statement), {"table": quote(table)}).scalar()


def _last_id(connection: Connection, table: str) -> int | None:
    """Return the highest id that a table has used, including removed rows.

    The result is None if the table has no sequence or has used no id.
    """
    sequence = _sequence(connection, table)
    if sequence is None:
        return None
    statement = text(f"SELECT CASE WHEN is_called THEN last_value END FROM {sequence}")
    last_id: int | None = connection.execute(statement).scalar_one()
    return last_id


def _columns(connection: Connection, table: str) -> list[tuple[str, str]]:
    rows = connection.execute(
        text(
            """SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
            WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
            ORDER BY attnum"""
        ),
        {"table": quote(table)},
    )
    return [(name, type_) for name, type_ in rows]
