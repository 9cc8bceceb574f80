"""Opening the database and the settings for a command, without making what a command should only find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.cli.errors import NoDatabaseYet
from deployments.prefect_server import SERVER_FOLDER
from storage.database import Database
from storage.settings import Settings


@contextmanager
def opened_database(*, settings: Settings | None = None, create: bool = False) -> Iterator[Database]:
    """The database of the settings, brought to the newest schema.

    Args:
        settings: by default those of this process.
        create: whether an SQLite file is made where there is none.

    Raises:
        NoDatabaseYet: there is none, and `create` is false.
        StorageError: it cannot be opened.
    """
    settings = settings or Settings.load()
    database = Database(settings.database_url.get_secret_value())
    try:
        if not create and database.path is not None and not database.path.is_file():
            raise NoDatabaseYet(
                f"{database.path}: there is no database yet. Name another in PHOTOJOBS_DATABASE_URL, or make this one "
                "with `photojobs run folder_discovery`, which gives each folder of the library its project."
            )
        database.migrate()
        yield database
    finally:
        database.close()


def server_home(database: Database) -> Path:
    """The home of the embedded server that runs and history of this database belong to: that of `photojobs up`."""
    return prefect_home(database) / SERVER_FOLDER


def prefect_home(database: Database) -> Path:
    """Where an embedded Prefect server keeps its own database and log: PREFECT_HOME, else beside our database."""
    named = os.environ.get("PREFECT_HOME")
    if named:
        return Path(named)
    folder = Path.home() if database.path is None else database.path.absolute().parent
    return folder / ".photojobs-prefect"
