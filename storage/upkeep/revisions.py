"""Reads the revision of a database's schema, lists the known revisions, and migrates to a revision."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from storage.database.engine import Database
from storage.errors import SchemaMismatch

#: The revision with the schema that other programs use. Later revisions only add to this schema.
BASELINE = "0001"


def current_revision(connection: Connection) -> str | None:
    """Return the revision that the database records; None if it is empty or belongs to an earlier program."""
    return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str:
    """Return the newest revision that this version knows."""
    head = ScriptDirectory.from_config(alembic_config(None)).get_current_head()
    assert head is not None  # noqa: S101 - the package ships its migrations.
    return head


def known_revisions() -> tuple[str, ...]:
    """Return all revisions that this version knows, the oldest first."""
    scripts = ScriptDirectory.from_config(alembic_config(None)).walk_revisions()
    return tuple(reversed([script.revision for script in scripts]))


def has_tables(connection: Connection) -> bool:
    """Return whether the database has the tables of a photo library, with or without our migrations."""
    return inspect(connection).has_table("jobs")


def check_known_revision(connection: Connection, database: Database) -> None:
    """Raise `SchemaMismatch` if the database has a revision that this version does not know."""
    revision = current_revision(connection)
    if revision is not None and revision not in known_revisions():
        raise SchemaMismatch(
            f"{database.url}: its schema {revision} is newer than this version of photojobs knows "
            f"({head_revision()}). Upgrade photojobs, or restore the backup made before that upgrade."
        )


def stamp(connection: Connection, revision: str) -> None:
    """Record that the database has the schema of a revision, without changing the schema."""
    command.stamp(alembic_config(connection), revision)


def migrate_to(connection: Connection, revision: str) -> None:
    """Run the migrations up to a revision on an open connection, inside its transaction."""
    command.upgrade(alembic_config(connection), revision)


def alembic_config(connection: Connection | None) -> Config:
    """Return Alembic's configuration for an open connection; the list of revisions needs no connection."""
    config = Config()
    config.set_main_option("script_location", "storage.upkeep:migrations")
    config.attributes["connection"] = connection
    return config
