"""Lets threads wait for work without constant queries: by LISTEN on PostgreSQL, by a cheap poll per process on SQLite.

A wake-up is only a hint to read the tables. A thread that misses a wake-up waits for the next one, or until its
timeout. The timeout of an idle executor is at most the setting `poll_seconds`; see `flows.process.executor`.
"""

from __future__ import annotations

import os
import random
import select
import socket
import sqlite3
import threading
from contextlib import suppress
from typing import Any, Self

from storage.database.answer_watch import wait_for_end
from storage.database.engine import Database
from storage.errors import StorageError
from storage.lifecycle.notifications import CHANNEL

#: The average number of seconds between two polls of an SQLite file while a thread waits. A poll takes microseconds.
POLL_SECONDS = 0.1

#: The first and the longest delay, in seconds, before a dropped connection is opened again; the delay doubles each
#: time.
RECONNECT_SECONDS = (0.1, 5.0)

#: The number of seconds without a notification after which a PostgreSQL connection is checked.
KEEPALIVE_SECONDS = 30


class Wakeups:
    """Wakes threads that wait for work. One listener thread serves all waiting threads of the process.

    On SQLite, the listener polls only while a thread waits.

    Use it as a context manager, or call `close`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = threading.Condition()
        self._generation = 0
        self._waiting = 0
        self._closed = False
        self._listener: threading.Thread | None = None
        self._pid = os.getpid()
        self._stop_receiver, self._stop_sender = socket.socketpair()
        self._seen = threading.local()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until jobs may have been queued, at most `timeout_seconds`; return True if there may be work.

        A wake-up since the last wait of the calling thread also ends the wait, so that none is missed between two
        waits. After `close`, every wait returns at once.
        """
        with self._changed:
            seen = getattr(self._seen, "generation", self._generation)
            self._waiting += 1
            try:
                self._start_listener()
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or self._generation != seen, max(0.0, timeout_seconds))
            finally:
                self._waiting -= 1
            self._seen.generation = self._generation
            return self._generation != seen

    def notify(self) -> None:
        """Wake the waiting threads of this process."""
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End all waits and the listener thread; wait for the thread, but not for a server that does not answer."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            listener = self._listener
        if listener is not None and self._pid == os.getpid():
            with suppress(OSError):
                # The listener may have ended, so the socket may be closed.
                self._stop_sender.send(b"x")
            if not wait_for_end(listener):
                # The listener still runs, and closes the sockets when it ends.
                return
        self._close_sockets()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_listener(self) -> None:
        # A forked process inherits this object, but not its thread, so the process starts a thread of its own.
        if self._closed or (self._listener is not None and self._pid == os.getpid()):
            return
        if not self._database.is_postgresql and self._database.path is None:
            # Only this process uses a database in memory, and it calls `notify` itself, so no thread is needed.
            return
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._stop_receiver, self._stop_sender = socket.socketpair()
        self._listener = threading.Thread(target=self._run, name="photojobs-wakeups", daemon=True)
        self._listener.start()

    def _run(self) -> None:
        try:
            if self._database.is_postgresql:
                self._listen()
            else:
                self._poll()
        finally:
            if self._closed:
                self._close_sockets()

    def _close_sockets(self) -> None:
        self._stop_sender.close()
        self._stop_receiver.close()

    def _listen(self) -> None:
        first, longest = RECONNECT_SECONDS
        delay = first
        while not self._closed:
            try:
                self._listen_on_connection()
                delay = first
            except Exception as error:
                if not _is_database_error(error):
                    raise
                _wait_to_read(self._stop_receiver, seconds=random.uniform(delay / 2, delay))  # noqa: S311 - jitter.
                delay = min(2 * delay, longest)

    def _listen_on_connection(self) -> None:
        """Wake the waiting threads at each notification, until `close` or until the connection drops."""
        pooled = self._database.engine.raw_connection()
        connection: Any = pooled.driver_connection
        # The connection is used until `close`, so it must not occupy a place in the pool.
        pooled.detach()
        try:
            connection.rollback()
            connection.autocommit = True
            connection.execute(f"LISTEN {CHANNEL}")
            # The server does not send notifications from before LISTEN, such as notifications while the connection was
            # lost. So the waiting threads are woken once.
            self.notify()
            while not self._closed:
                if not _wait_to_read(connection.pgconn.socket, self._stop_receiver, seconds=KEEPALIVE_SECONDS):
                    connection.execute("SELECT 1")
                connection.pgconn.consume_input()
                if _drain(connection):
                    self.notify()
        finally:
            pooled.close()

    def _poll(self) -> None:
        connection: sqlite3.Connection | None = None
        version: int | None = None
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._waiting > 0)
                    if self._closed:
                        return
                try:
                    if connection is None:
                        connection = self._open_file()
                    (now,) = connection.execute("PRAGMA data_version").fetchone()
                except sqlite3.Error:
                    # The file does not exist yet or is busy. The waiters have timeouts, so no error is needed.
                    now = version
                if now != version:
                    # The first poll also notifies, because a change before it was not seen.
                    self.notify()
                version = now
                # The pause is random, so that the processes of a machine do not poll at the same moment.
                pause = random.uniform(0.5, 1.5) * POLL_SECONDS  # noqa: S311 - no secret.
                _wait_to_read(self._stop_receiver, seconds=pause)
        finally:
            if connection is not None:
                connection.close()

    def _open_file(self) -> sqlite3.Connection:
        path = self._database.path
        assert path is not None  # noqa: S101 - checked before the thread was started.
        uri = f"{path.as_uri()}?mode=rw"
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _wait_to_read(*sockets: socket.socket | int, seconds: float) -> bool:
    """Wait until one of the sockets has something to read; return False if none has within this time."""
    # `select.select` refuses file descriptors from 1024 on, which a process with many open files has.
    poller = select.poll()
    for one in sockets:
        poller.register(one, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _drain(connection: Any) -> bool:
    found = False
    while connection.pgconn.notifies() is not None:
        found = True
    return found


def _is_database_error(error: Exception) -> bool:
    return isinstance(error, StorageError | OSError) or type(error).__module__.startswith(("psycopg", "sqlalchemy"))
