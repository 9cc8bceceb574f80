"""Provides migrated PostgreSQL databases, and uses them for several tests, because a new one takes longer than a test.

A database is used again only if its schema and its settings are those of a new one. It is emptied and renamed, so that
threads and processes that a test left running do not find it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from storage import Database

#: A query for every part of the schema that a test may change, and for the statistics of the planner.
_SHAPE = """
    SELECT c.oid::text, c.relname, c.relkind::text, concat_ws(' ', a.attname, a.atttypid, a.attnotnull)
    FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'constraint', conname, conrelid::text, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'function', proname, '', prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', tgname, tgrelid::text, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'setting', '', '', setconfig::text
    FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()
    UNION ALL SELECT 'statistics', tablename, attname, '' FROM pg_stats WHERE schemaname = 'public'
    UNION ALL SELECT 'schema', nspname, '', '' FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'revision', version_num, '', '' FROM alembic_version
    ORDER BY 1, 2, 3, 4
"""
_USED_TABLES = """
    SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    AND pg_relation_size(oid) > 0 AND relname <> 'alembic_version'
"""
#: Resets all sequences, also those of empty tables, because a failed statement takes a number too.
_RESET_SEQUENCES = """
    SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
    FROM pg_sequences WHERE last_value IS NOT NULL
"""
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
_END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
#: How long sessions that a test has closed may take to end. Sessions that are then still open are ended by force.
_CLOSING_SECONDS = 0.05


class PostgresqlDatabases:
    """The databases of one test process on a server.

    A kept template is a migrated database for several processes: the first one makes it, and none deletes it.
    """

    def __init__(self, server_url: str, *, kept_template: str | None = None) -> None:
        self._server_url = server_url
        self._server = psycopg.connect(server_url, autocommit=True)
        self._free: list[str] = []
        self._keeps_template = kept_template is not None
        self._template = kept_template or _new_name()
        if not self._exists(self._template):
            self._create(self._template)
            database = Database(self.url(self._template))
            database.migrate()
            database.close()
        with self._connected(self._template) as connection:
            self._shape = connection.execute(_SHAPE).fetchall()
            self._first_rows = {table: _copied(connection, table) for table in _used_tables(connection)}

    @property
    def kept(self) -> int:
        """The number of databases that wait for their next test."""
        return len(self._free)

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return make_url(self._server_url).set(database=name).render_as_string(hide_password=False)

    def create(self, template: str | None = None) -> str:
        """Create a database as a copy of the template, or without tables; return its name."""
        name = _new_name()
        self._create(name, template)
        return name

    def drop(self, name: str) -> None:
        """End all sessions of a database, and delete it."""
        self._server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def take(self) -> str:
        """Return the name of a migrated database that is like a new one."""
        return self._free.pop() if self._free else self.create(self._template)

    def give_back(self, name: str) -> None:
        """Empty a database for the next test, or delete it if its schema or settings have changed."""
        new_name = _new_name()
        self._end_sessions(name)
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        try:
            self._server.execute(rename.format(sql.Identifier(name), sql.Identifier(new_name)))
        except psycopg.Error:
            # A session has connected again.
            return self.drop(name)
        try:
            with self._connected(new_name) as connection:
                if connection.execute(_SHAPE).fetchall() != self._shape:
                    return self.drop(new_name)
                self._empty(connection)
        except psycopg.Error:
            # For example, the table of the revision may be missing.
            return self.drop(new_name)
        return self._free.append(new_name)

    def _end_sessions(self, name: str) -> None:
        # The server itself waits at least 100 ms for the end of a session, and before a rename.
        give_up_at = time.monotonic() + _CLOSING_SECONDS
        while self._server.execute(_SESSIONS, [name]).fetchone() != (0,):
            if time.monotonic() > give_up_at:
                self._server.execute(_END_SESSIONS, [name])
                break
            time.sleep(0.001)

    def close(self) -> None:
        """Delete all databases except a kept template."""
        for name in (*self._free, *([] if self._keeps_template else [self._template])):
            self.drop(name)
        self._server.close()

    def _exists(self, name: str) -> bool:
        return self._server.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is not None

    def _create(self, name: str, template: str | None = None) -> None:
        like = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        self._server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + like)

    @contextmanager
    def _connected(self, name: str) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.url(name)) as connection:
            yield connection

    def _empty(self, connection: psycopg.Connection[Any]) -> None:
        tables = sql.SQL(", ").join(map(sql.Identifier, _used_tables(connection)))
        connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(tables))
        connection.execute(_RESET_SEQUENCES)
        for table, rows in self._first_rows.items():
            with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
                copy.write(rows)


def _new_name() -> str:
    return f"photojobs_test_{uuid.uuid4().hex[:12]}"


def _used_tables(connection: psycopg.Connection[Any]) -> list[str]:
    return [name for (name,) in connection.execute(_USED_TABLES)]


def _copied(connection: psycopg.Connection[Any], table: str) -> bytes:
    with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
        return b"".join(bytes(data) for data in copy)
