"""Temporary faults of a database: its disk is full, its sessions are read-only, its statements reach a timeout.

One call begins a fault and another call ends it, so that executors may die in between.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from storage import Database

#: The statement timeout of executors during that fault. Statements that wait for a lock take longer.
STATEMENT_TIMEOUT_MS = 300

#: How long a fault waits for locks that executors hold.
LOCK_SECONDS = 3

DISK_FULL = "disk full"
READ_ONLY = "read-only"
TIMEOUT = "statement timeout"

#: The options of a session that is not affected by faults in the database's settings.
FREE_OF_FAULTS = "-c statement_timeout=0 -c default_transaction_read_only=off"

#: For each kind of fault, the pattern of the log lines that executors write when the fault affects them.
_SAID = {
    DISK_FULL: re.compile("the disk is full|No space left on device"),
    READ_ONLY: re.compile("in a read-only transaction"),
    TIMEOUT: re.compile("due to statement timeout"),
}

_SIZE_MB = 96


class SmallDisk:
    """A file system that can be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Fill the disk completely."""
        with self._ballast.open("wb", buffering=0) as ballast, suppress(OSError):
            for size in (1024 * 1024, 4096):
                with suppress(OSError):
                    while True:
                        ballast.write(bytes(size))

    def free(self) -> None:
        """Free the space that `fill` took."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk | None]:
    """Mount a small file system at a new folder for the block; yield None if this process may not mount one.

    Root may mount one. Without the rights of root, so may a program that `unshare --map-root-user --mount` started.
    """
    folder.mkdir()
    options = f"size={_SIZE_MB}m,mode=0777"
    if not _succeeds("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)):
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        # The unmount is lazy, because a program that was killed a moment ago may still have files open.
        _succeeds("umount", "--lazy", str(folder))


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class DatabaseFaults:
    """Begins and ends the faults of a database. As a context manager, it ends all active faults at the end.

    Args:
        database: the database; sessions of the test itself must survive the faults.
        disk: the disk that contains the database, if it can be filled.
    """

    def __init__(self, database: Database, disk: SmallDisk | None) -> None:
        self._database = database
        self._disk = disk
        #: The active faults, each with the time of its end and the function that ends it.
        self._on: dict[str, tuple[float, Callable[[], object]]] = {}
        self.kinds = [DISK_FULL] if disk is not None else []
        if database.is_postgresql:
            self.kinds += [READ_ONLY, TIMEOUT]
            self._set("statement_timeout", f"{STATEMENT_TIMEOUT_MS}ms")

    def begin(self, kind: str, seconds: float) -> None:
        """Begin an inactive fault, which lasts for this many seconds."""
        begin = {DISK_FULL: self._fill_disk, READ_ONLY: self._make_read_only, TIMEOUT: self._lock}[kind]
        self._on[kind] = (time.monotonic() + seconds, begin())

    def is_on(self, kind: str) -> bool:
        """Return True if this fault has begun and has not ended."""
        return kind in self._on

    def look(self) -> None:
        """End the faults whose time is over."""
        for kind, (end_at, _) in list(self._on.items()):
            if time.monotonic() >= end_at:
                self._end(kind)

    def cut(self, percent: int) -> None:
        """End this percentage of the sessions of the database, including sessions of the test itself."""
        with self._session() as session:
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND application_name <> 'faults' AND hashtext(pid::text) %% 100 < %s",
                [percent],
            )

    def __enter__(self) -> DatabaseFaults:
        return self

    def __exit__(self, *_exception: object) -> None:
        for kind in list(self._on):
            self._end(kind)
        if self._database.is_postgresql:
            self._reset("statement_timeout")

    def _end(self, kind: str) -> None:
        if kind in self._on:
            _, end = self._on.pop(kind)
            end()

    def _fill_disk(self) -> Callable[[], object]:
        assert self._disk is not None
        # This fault locks the tables until this thread ends it, so `VACUUM FULL` would wait for it in vain.
        self._end(TIMEOUT)
        # Without this, rows would still fit into free space inside the files, which do not shrink by themselves.
        if self._database.is_postgresql:
            with self._session() as session:
                self._with_locks(session, "VACUUM FULL jobs, job_items, tasks")
        else:
            with suppress(sqlite3.Error), closing(sqlite3.connect(str(self._database.path))) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._disk.fill()
        return self._disk.free

    def _make_read_only(self) -> Callable[[], object]:
        # As after a failover: open sessions are read-only, and stay read-only when new sessions may write again.
        self._set("default_transaction_read_only", "on")
        self.cut(100)
        return lambda: self._reset("default_transaction_read_only")

    def _lock(self) -> Callable[[], object]:
        # Reads continue, so that the test can see the state of the task.
        stack = ExitStack()
        session = stack.enter_context(self._session())
        self._with_locks(session, "BEGIN", "LOCK TABLE jobs, tasks IN EXCLUSIVE MODE")
        return stack.close

    def _with_locks(self, session: psycopg.Connection[Any], *statements: str) -> None:
        """Execute statements that lock tables, even if a frozen executor holds locks on these tables."""
        session.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        try:
            for statement in statements:
                session.execute(statement)
        except psycopg.errors.LockNotAvailable:
            session.execute("ROLLBACK")
            # The frozen executor is thawed only after this call. So end its sessions, as an administrator would do.
            self.cut(100)
            for statement in statements:
                session.execute(statement)

    def _set(self, name: str, value: str) -> None:
        with self._session() as session:
            session.execute(f"ALTER DATABASE {self._name} SET {name} = '{value}'")

    def _reset(self, name: str) -> None:
        with self._session() as session:
            session.execute(f"ALTER DATABASE {self._name} RESET {name}")

    @property
    def _name(self) -> str:
        return f'"{self._database.engine.url.database}"'

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        url = self._database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connect = partial(psycopg.connect, url, autocommit=True, application_name="faults", options=FREE_OF_FAULTS)
        try:
            session = connect()
        except psycopg.OperationalError:
            # While the disk is full, the server may refuse a session, because it cannot write its own files.
            self._end(DISK_FULL)
            session = connect()
        with session:
            yield session


def met_in(log: Path) -> Counter[str]:
    """Return how often a fault affected executors according to their log, by the kind of the fault."""
    text = log.read_text(errors="replace")
    return Counter({kind: len(said.findall(text)) for kind, said in _SAID.items()})


def harness_url(url: str) -> str:
    """Return the URL for the sessions of the test itself."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.update_query_dict({"options": FREE_OF_FAULTS})
    return parsed.render_as_string(hide_password=False)


def may_own(folder: Path) -> None:
    """Give a folder to the operating-system user of the PostgreSQL server that the tests start."""
    if os.geteuid() == 0:
        shutil.chown(folder, "pgserver")
