"""Opens an SQLite or PostgreSQL database and begins transactions. The repositories have the SQL of the tables.

`storage.database.dropped_connections` decides when a pooled connection to PostgreSQL is replaced, and
`storage.database.kept_connections` which connections to an SQLite file stay open.
"""

from __future__ import annotations

import re
import sqlite3
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from storage.database.answer_watch import AnswerWatch
from storage.database.clock import Clock, system_clock
from storage.database.column_types import read_stored_json
from storage.database.database_url import shown_url
from storage.database.driver_errors import translate_error, translating_errors
from storage.database.driver_statement import DriverStatement, Runs, Step, bound, run_on
from storage.database.dropped_connections import replace_dropped_connections
from storage.database.kept_connections import KeptConnections
from storage.database.postgresql_session import connect_arguments, prepare_sessions
from storage.database.private_files import create_private
from storage.errors import DatabaseUnavailable
from storage.library.atomic_write import fsync_file, fsync_folder

#: The number of seconds that a statement waits for a lock before it fails with `DatabaseBusy`.
BUSY_TIMEOUT_SECONDS = 30

#: The number of seconds that a server may take to claim jobs, end jobs or write heartbeats, not counting waits for
#: locks.
ANSWER_SECONDS = 15

#: The oldest version of SQLite that has `RETURNING`.
OLDEST_SQLITE = (3, 35)

#: The number of idle connections that a pool keeps open. Heartbeats, claims and handlers need one each at the same
#: time.
POOL_SIZE = 10


class Database:
    """One database, and the clock for the timestamps in it.

    Args:
        url: an SQLAlchemy URL (`sqlite:////abs/file.db`, `postgresql://user:password@host/name`) or the path of a file.
        clock: returns the current time as an aware UTC datetime, for every timestamp that this object writes.
        busy_timeout_seconds: how long a statement waits for a lock.

    Raises:
        DatabaseUnavailable: the URL is not valid, its driver is missing, SQLite is too old, the file's folder does not
            exist, or the file is a folder.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        clock: Clock | None = None,
        busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
    ) -> None:
        self.clock = clock or system_clock
        self._busy_timeout_seconds = busy_timeout_seconds
        self.engine = self._create_engine(str(url))
        # Statements that are planned once have their own connections, because their setting applies to a whole session
        # and would slow other statements.
        self._planning_once = (
            self._create_postgresql_engine(self.engine.url, plans_once=True) if self.is_postgresql else self.engine
        )
        self._kept = KeptConnections(self.engine)
        self._answers = AnswerWatch()
        # This limit must be longer than the server itself waits for a lock.
        self._answer_seconds = busy_timeout_seconds + ANSWER_SECONDS
        self._reader = self.engine.execution_options(photojobs_read=True)
        self._autocommitting_reader = (
            self._reader.execution_options(isolation_level="AUTOCOMMIT") if self.is_postgresql else self._reader
        )
        _databases[self.engine.pool] = self

    @property
    def is_postgresql(self) -> bool:
        """Whether this is PostgreSQL; otherwise it is SQLite."""
        return self.engine.dialect.name == "postgresql"

    @property
    def url(self) -> str:
        """The URL with its password masked, for logs and messages."""
        return shown_url(self.engine.url)

    @property
    def path(self) -> Path | None:
        """The absolute path of an SQLite file; None for PostgreSQL and for a database in memory."""
        name = self.engine.url.database
        return None if self.is_postgresql or name in (None, "", ":memory:") else Path(str(name))

    def __repr__(self) -> str:
        return f"Database({self.url!r})"

    @contextmanager
    def begin(self, *, durable: bool = False) -> Iterator[Connection]:
        """Open a connection in a transaction that may write; commit at the end, roll back on an exception.

        On SQLite the transaction takes the write lock at its beginning (`BEGIN IMMEDIATE`), so it can change a row that
        it has read. Keep the transaction short, because other writers wait.

        Args:
            durable: whether to call `sync` after the commit. On SQLite, a power cut can undo the newest commits since
                the last sync, but never an older commit without the newer ones.
        """
        with self.engine.begin() as connection:
            yield connection
        if durable:
            self.sync()

    def sync(self) -> None:
        """Wait until all commits so far are safe from a power cut. PostgreSQL syncs each commit by itself.

        Raises:
            OSError: the disk of the SQLite file fails.
        """
        if self.path is None:
            return
        # SQLite itself syncs commits that it moves from the write-ahead log to the file. SQLite holds no lock on the
        # log, so closing the log here releases no lock. The log is beside the file itself, not beside a symlink.
        file = self.path.resolve()
        with suppress(FileNotFoundError):
            fsync_file(file.with_name(f"{file.name}-wal"))
        fsync_folder(file.parent)

    @contextmanager
    def begin_briefly(self, limit_seconds: float) -> Iterator[Connection]:
        """Open a transaction as `begin` does. The transaction fails if PostgreSQL takes longer than `limit_seconds`."""
        with self.begin() as connection:
            if not self.is_postgresql:
                yield connection
                return
            with self._answers.within(limit_seconds, connection.connection.driver_connection):
                yield connection

    def connect(self) -> AbstractContextManager[Connection]:
        """Open a connection for reading. It does not wait for writers, and writers do not wait for it."""
        return self._reader.connect()

    def connect_to_look(self) -> AbstractContextManager[Connection]:
        """Open a connection for a single statement that reads. PostgreSQL gets no BEGIN, which saves a round trip."""
        return self._autocommitting_reader.connect()

    def run(self, statement: DriverStatement, parameters: Mapping[str, Any]) -> list[Any]:
        """Run one statement as a transaction of its own, in the driver's fastest way, and return its rows."""
        if isinstance(self.engine.pool, StaticPool):
            with self.begin() as connection:
                return statement.on(connection, parameters)
        if not self.is_postgresql:
            values = bound(parameters, "sqlite")
            with translating_errors(self.engine), self._kept.connection() as driver:
                return statement.rows(driver.execute(statement.text("sqlite"), values).fetchall(), "sqlite")
        with self._driver(is_planned_once=statement.is_planned_once) as driver:
            driver.autocommit = True
            found = _fetched(_execute(driver, (statement, parameters)))
            driver.autocommit = False
        return statement.rows(found, "postgresql")

    def run_together(self, steps: Sequence[Step], looks: Sequence[Step] = ()) -> list[list[Any]]:
        """Run statements in order as one transaction; return the rows of each. No statement can use rows of another.

        On PostgreSQL all statements are sent together, so that no lock is held during a round trip.

        Args:
            steps: the statements of the transaction.
            looks: queries that are sent together with the steps. On PostgreSQL they run after the commit of the steps,
                so that they also see the commits of other transactions; on SQLite they belong to the transaction.
        """
        if not self.is_postgresql:
            with self.run_in_transaction() as run:
                return [run(statement, parameters) for statement, parameters in (*steps, *looks)]
        with self._driver(is_planned_once=all(step.is_planned_once for step, _ in (*steps, *looks))) as driver:
            # In a pipeline, all statements before a `sync` are one transaction without a BEGIN.
            driver.autocommit = True
            with driver.pipeline() as pipeline:
                cursors = [_execute(driver, step) for step in steps]
                if looks:
                    pipeline.sync()
                    cursors += [_execute(driver, look) for look in looks]
            found = [_fetched(cursor) for cursor in cursors]
            driver.autocommit = False
        return [
            statement.rows(rows, "postgresql") for (statement, _), rows in zip((*steps, *looks), found, strict=True)
        ]

    @contextmanager
    def run_in_transaction(self) -> Iterator[Runs]:
        """Open a transaction; the block gets a function that runs statements in it. `begin` is slower on SQLite."""
        if self.is_postgresql or isinstance(self.engine.pool, StaticPool):
            with self.begin() as connection:
                yield partial(run_on, connection)
            return
        with translating_errors(self.engine), self._kept.transaction() as driver:
            yield lambda statement, parameters: statement.rows(
                driver.execute(statement.text("sqlite"), bound(parameters, "sqlite")).fetchall(), "sqlite"
            )

    @contextmanager
    def _driver(self, *, is_planned_once: bool) -> Iterator[Any]:
        with translating_errors(self.engine):
            pooled = (self._planning_once if is_planned_once else self.engine).raw_connection()
            try:
                with self._answers.within(self._answer_seconds, pooled.driver_connection):
                    yield pooled.driver_connection
            except Exception:
                # The connection may be in any state, so it must not be used again.
                pooled.invalidate()
                raise
            finally:
                pooled.close()

    def migrate(self) -> None:
        """Upgrade the database to the newest schema; do nothing if it has this schema already.

        Raises:
            SchemaMismatch: a newer version of photojobs wrote the database, or tables of another program have the names
                of our tables.
        """
        # Imported by name, because `storage.upkeep` imports this module, and imports must not form a circle.
        import_module("storage.upkeep.schema_upgrade").upgrade(self)

    def close(self) -> None:
        """Close every connection of this object."""
        self._kept.close()
        self._planning_once.dispose()
        self.engine.dispose()

    def _create_engine(self, url: str) -> Engine:
        if "://" not in url and re.search(r":[^/]*@", url):
            # The text is probably a server's URL without its scheme. If it were taken for a file's name, messages would
            # show its password.
            raise DatabaseUnavailable(_NO_URL)
        try:
            # A path is not parsed as a URL, because `?` and `%` have a meaning in URLs.
            parsed = make_url(url) if "://" in url else URL.create("sqlite", database=str(Path(url).absolute()))
            if "@" in (parsed.host or ""):
                # The password contains an unescaped @, so a message about the host would show a part of the password.
                raise ArgumentError
            if parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            if parsed.drivername not in _DRIVERS:
                raise DatabaseUnavailable(
                    f"{parsed.drivername}: this kind of database, or this driver, is not supported. Begin "
                    "PHOTOJOBS_DATABASE_URL with sqlite:/// or postgresql://."
                )
            if parsed.get_backend_name() == "sqlite" and "://" in url and "?" in url:
                # SQLAlchemy would cut the path at a ?, and silently ignore options such as mode=ro.
                raise DatabaseUnavailable(
                    f"{parsed.database or ''}?…: the URL of an SQLite file cannot have options. If the ? belongs to "
                    "the path, set PHOTOJOBS_DATABASE_URL to the path without sqlite:///."
                )
            engine = (
                self._create_postgresql_engine(parsed)
                if parsed.get_backend_name() == "postgresql"
                else self._create_sqlite_engine(parsed)
            )
        except (ArgumentError, NoSuchModuleError, ValueError):
            raise DatabaseUnavailable(_NO_URL) from None
        except ModuleNotFoundError as error:
            raise DatabaseUnavailable(
                f'{error.name} is not installed: run `pip install "photojobs[postgres]"` to use PostgreSQL'
            ) from None
        event.listen(engine, "handle_error", translate_error)
        return engine

    def _create_sqlite_engine(self, url: URL) -> Engine:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise DatabaseUnavailable(
                f"the SQLite {sqlite3.sqlite_version} of this Python is too old: photojobs needs SQLite "
                f"{'.'.join(map(str, OLDEST_SQLITE))} or newer. Use a Python with a newer SQLite, or PostgreSQL."
            )
        if url.database in (None, "", ":memory:"):
            engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        else:
            # The path stays the same if the working folder of the process changes later.
            path = Path(str(url.database)).absolute()
            if not path.parent.is_dir():
                raise DatabaseUnavailable(
                    f"{path}: the folder {path.parent} does not exist. Create it, or name another file in "
                    "PHOTOJOBS_DATABASE_URL."
                )
            if path.is_dir():
                raise DatabaseUnavailable(
                    f"{path}: this is a folder, not a database. Name a file in PHOTOJOBS_DATABASE_URL."
                )
            url = url.set(database=str(path))
            engine = create_engine(
                url, pool_size=POOL_SIZE, max_overflow=-1, connect_args={"check_same_thread": False, "timeout": 0}
            )

            @event.listens_for(engine, "do_connect")
            def create(*_: object) -> None:
                # If the file cannot be created, SQLite reports the reason when it opens the file. Python reports a
                # symlink that leads to itself with a RuntimeError.
                with suppress(OSError, RuntimeError):
                    create_private(path.resolve())

        @event.listens_for(engine, "connect")
        def prepare(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None
            connection.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout_seconds * 1000)}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA temp_store = MEMORY")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            options = connection.get_execution_options()
            reading = options.get("photojobs_read", False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

        return engine

    def _create_postgresql_engine(self, url: URL, *, plans_once: bool = False) -> Engine:
        engine = create_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=-1,
            json_deserializer=read_stored_json,
            connect_args=connect_arguments(url),
        )
        prepare_sessions(engine, lock_timeout_seconds=self._busy_timeout_seconds, plans_once=plans_once)
        replace_dropped_connections(engine)
        return engine


#: The names of the supported databases in URLs, with the drivers that photojobs uses.
_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")

_NO_URL = (
    "the database URL is not valid: write sqlite:////path/to/file.db or "
    "postgresql://user:password@host:5432/name; in a password, write %40 for @, %2F for / and %25 for %"
)


def _fetched(cursor: Any) -> list[Any]:
    # `cursor.description` would be slower, because it makes an object for each of thirty columns.
    found: list[Any] = cursor.fetchall() if cursor.pgresult.nfields else []
    return found


def _execute(driver: Any, step: Step) -> Any:
    from psycopg import RawCursor

    statement, parameters = step
    return RawCursor(driver).execute(statement.numbered, statement.in_order(parameters))


#: Maps the pool of an engine to its `Database`, so that a repository that has only a connection finds the clock.
_databases: weakref.WeakKeyDictionary[Any, Database] = weakref.WeakKeyDictionary()


class Access:
    """The access of a repository to its tables: through a `Database`, or through the caller's open connection.

    With a caller's connection, all statements belong to the caller's transaction. This object never commits or rolls
    back that transaction, and never closes the connection.
    """

    def __init__(self, source: Database | Connection) -> None:
        self._source = source
        self.database = source if isinstance(source, Database) else None
        if isinstance(source, Database):
            self.clock = source.clock
            self.is_postgresql = source.is_postgresql
        else:
            database = _databases.get(source.engine.pool)
            self.clock = database.clock if database else system_clock
            self.is_postgresql = source.dialect.name == "postgresql"

    def run(self, statement: DriverStatement, parameters: Mapping[str, Any]) -> list[Any]:
        """Run one statement, in a transaction of its own or in the caller's transaction."""
        if isinstance(self._source, Database):
            return self._source.run(statement, parameters)
        return statement.on(self._source, parameters)

    def run_together(self, steps: Sequence[Step], looks: Sequence[Step] = ()) -> list[list[Any]]:
        """Run statements in order in one transaction; return the rows of each. No statement can use rows of another."""
        if isinstance(self._source, Database):
            return self._source.run_together(steps, looks)
        return [statement.on(self._source, parameters) for statement, parameters in (*steps, *looks)]

    def run_in_transaction(self) -> AbstractContextManager[Runs]:
        """Open a transaction, or use the caller's transaction; the block gets a function that runs statements in it."""
        if isinstance(self._source, Database):
            return self._source.run_in_transaction()
        return nullcontext(partial(run_on, self._source))

    def write(self) -> AbstractContextManager[Connection]:
        """Open a connection in a transaction that may write, or use the caller's connection."""
        return self._source.begin() if isinstance(self._source, Database) else nullcontext(self._source)

    def read(self) -> AbstractContextManager[Connection]:
        """Open a connection for reading, or use the caller's connection."""
        return self._source.connect_to_look() if isinstance(self._source, Database) else nullcontext(self._source)
