"""Creates the empty database of a Prefect server from SQL, at once; Prefect's 150 migrations would take seconds.

The SQL has the schema of the oldest supported Prefect; a newer Prefect migrates it. When the oldest supported version
changes, install it, and renew `empty_database.sql` with `python -m deployments.embedded_server.empty_database`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from storage.database.private_files import make_private_folder

#: The name that Prefect gives to the database file in its home.
DATABASE_NAME = "prefect.db"

_SQL = Path(__file__).with_name("empty_database.sql")


def database_is_elsewhere() -> bool:
    """Return whether the environment has a setting of the database of Prefect's server.

    If so, the database may be another one than the file in the server's home.
    """
    return any(name.startswith("PREFECT_") and "DATABASE" in name and os.environ[name] for name in os.environ)


def prepare_database(home: Path) -> Path:
    """Return the server's database file in `home`, created if it is missing; an existing file is not changed."""
    file = home / DATABASE_NAME
    if file.exists():
        return file
    make_private_folder(home)
    handle, name = tempfile.mkstemp(dir=home, prefix=f"{DATABASE_NAME}.", suffix=".new")
    os.close(handle)
    try:
        with closing(sqlite3.connect(name)) as connection:
            connection.executescript(_SQL.read_text(encoding="utf-8"))
        # The file is linked and not renamed, because another process may have created `file` meanwhile, and written to
        # it.
        with suppress(FileExistsError):
            os.link(name, file)
    except OSError:
        # The file system has no hard links.
        if not file.exists():
            Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)
    return file


def dump_of(file: Path) -> str:
    """Return the content of an SQLite database as SQL statements."""
    with closing(sqlite3.connect(file)) as connection:
        return "\n".join(connection.iterdump()) + "\n"


def migrated_database(home: Path) -> Path:
    """Create a database in `home` by the migrations of the installed Prefect; return its file."""
    from prefect.server.database import provide_database_interface
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

    file = home / DATABASE_NAME
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{file}"}):
        asyncio.run(provide_database_interface().create_db())
    return file


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        _SQL.write_text(dump_of(migrated_database(Path(folder))), encoding="utf-8")
