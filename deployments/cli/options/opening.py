"""Opens the database for a command; commands that only read create nothing.

Each command decides with `create` and `upgrade` whether it creates or upgrades the database. `Runtime.open` in
`flows.process.runtime` always upgrades it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from deployments.cli.options.errors import NoDatabaseYet, OlderSchema
from deployments.embedded_server.password import use_password_of
from deployments.server.running_up import server_home
from storage.database.engine import Database
from storage.errors import DatabaseUnavailable
from storage.settings import Settings

if TYPE_CHECKING:
    from flows.process.runtime import Runtime


@contextmanager
def opened_database(
    *, settings: Settings | None = None, upgrade: bool = False, create: bool = False, needs_library: bool = False
) -> Iterator[Database]:
    """Open the database that the settings name; in the block, its schema is the newest.

    Args:
        settings: the settings; by default those of this process.
        upgrade: whether an older schema is upgraded; commands that only read leave it false.
        create: whether a missing SQLite file is created; this includes `upgrade`.
        needs_library: whether a missing library folder prevents the creation, because the working folder is then
            probably wrong.

    Raises:
        NoDatabaseYet: the database is missing or has no photojobs tables; and `create` is false, or a missing library
            folder prevents the creation.
        OlderSchema: the schema is older, and `upgrade` and `create` are false.
        StorageError: the database cannot be opened or upgraded, or its schema is newer than this version.
    """
    settings = settings or Settings.load()
    use_password(settings)
    has_library = settings.library_root.is_dir()
    upgrade = upgrade or create
    create = create and (has_library or not needs_library)
    with closing(Database(settings.database_url.get_secret_value())) as database:
        if not create and database.path is not None and not database.path.is_file():
            remedy = (
                "create this one with `photojobs run folder_discovery`, which makes a project of each folder in the "
                "library."
                if has_library
                else f"name your library in PHOTOJOBS_LIBRARY_ROOT, because {settings.library_root} is not a folder; "
                "`photojobs init` sets up the library and a database."
            )
            raise NoDatabaseYet(
                f"{database.path}: this database does not exist. Name another in PHOTOJOBS_DATABASE_URL, or {remedy}"
            )
        if not create and not _is_ours(database):
            raise NoDatabaseYet(
                f"{database.url}: this database has no tables of photojobs, and was not changed. Check that it is the "
                "right database, or run `photojobs db upgrade` to create the tables."
            )
        if upgrade:
            database.migrate()
        else:
            _check_schema(database)
        yield database


@contextmanager
def opened_runtime(
    settings: Settings, *, upgrade: bool = True, create: bool = False, needs_library: bool = False
) -> Iterator[Runtime]:
    """Open the database as `opened_database` does; in the block, the current `Runtime` uses this database."""
    from flows.process.runtime import Runtime

    with (
        opened_database(settings=settings, upgrade=upgrade, create=create, needs_library=needs_library) as database,
        Runtime(database, settings=settings) as runtime,
        runtime.as_current(),
    ):
        yield runtime


def _is_ours(database: Database) -> bool:
    from storage.upkeep.revisions import has_tables

    with database.connect() as connection:
        return has_tables(connection)


def _check_schema(database: Database) -> None:
    from storage.upkeep.revisions import check_known_revision, current_revision, head_revision

    with database.connect() as connection:
        check_known_revision(connection, database)
        revision = current_revision(connection)
    if revision != head_revision():
        raise OlderSchema(
            f"{database.url}: this database has an older schema; `photojobs db upgrade` upgrades it"
            f"{'' if database.is_postgresql else ', after a backup'}."
        )


def use_password(settings: Settings) -> None:
    """Let Prefect use the password of the server of `photojobs up`, if `PREFECT_API_URL` names that server."""
    if not os.environ.get("PREFECT_API_URL"):
        return
    with suppress(DatabaseUnavailable), closing(Database(settings.database_url.get_secret_value())) as database:
        use_password_of(server_home(database))
