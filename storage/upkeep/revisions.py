"""Reads the revision of a database's schema, lists the known revisions, and migrates to a revision.

`storage.upkeep.schema_upgrade` decides which migrations run, and when a backup is made before them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from storage.database.engine import Database
from storage.errors import SchemaMismatch

if TYPE_CHECKING:
    from alembic.config import Config

# Alembic is imported only for a change of the schema: its import takes a fifth of the time of a short command.

#: The revision with the schema that other programs use. Later revisions keep all its columns.
BASELINE = "0001"

#: The key of the advisory lock by which changes of the schema of the same PostgreSQL database wait for each other.
_CHANGE_LOCK = 7_468_106_206

_VERSIONS = Path(__file__).with_name("migrations") / "versions"


def current_revision(connection: Connection) -> str | None:
    """Return the revision in the table `alembic_version`; None if the table is missing or has no row.

    If another program wrote the table, it may have several revisions. They are returned as one text with commas.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    revisions = connection.execute(text("SELECT version_num FROM alembic_version ORDER BY 1")).scalars()
    return ", ".join(revisions) or None


def head_revision() -> str:
    """Return the newest revision that this version knows."""
    return known_revisions()[-1]


def known_revisions() -> tuple[str, ...]:
    """Return all revisions that this version knows, the oldest first: the beginnings of the migrations' file names."""
    return tuple(sorted(file.name.partition("_")[0] for file in _VERSIONS.glob("[0-9]*.py")))


def has_tables(connection: Connection) -> bool:
    """Return whether the database has the tables of a photo library, with or without our migrations."""
    return inspect(connection).has_table("jobs")


def check_known_revision(connection: Connection, database: Database) -> None:
    """Raise `SchemaMismatch` if the database has a revision that this version does not know."""
    revision = current_revision(connection)
    if revision is None or revision in known_revisions():
        return
    if not revision.isdecimal():
        raise SchemaMismatch(
            f"{database.url}: another program has written the table alembic_version ({revision}), but photojobs needs "
            "this table for its own schema. Use another database or schema."
        )
    raise SchemaMismatch(
        f"{database.url}: its schema {revision} is newer than {head_revision()}, the newest that "
        "this version of photojobs knows. Upgrade photojobs, or restore a backup with an older schema."
    )


def wait_for_other_changes(connection: Connection) -> None:
    """On PostgreSQL, wait until no other transaction changes the schema. Later changes wait for this transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_CHANGE_LOCK})"))


def stamp(connection: Connection, revision: str) -> None:
    """Record that the database has the schema of a revision, without changing the schema."""
    from alembic import command

    command.stamp(_alembic_config(connection), revision)


def migrate_to(connection: Connection, revision: str) -> None:
    """Run the migrations up to a revision on an open connection, inside its transaction."""
    from alembic import command

    command.upgrade(_alembic_config(connection), revision)


def downgrade_to(connection: Connection, revision: str) -> None:
    """Undo the migrations after a revision on an open connection, inside its transaction."""
    from alembic import command

    command.downgrade(_alembic_config(connection), revision)


def _alembic_config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "storage.upkeep:migrations")
    config.attributes["connection"] = connection
    return config
