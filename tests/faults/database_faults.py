"""Faults of a database that pass: its disk is full, its sessions are read-only, its statements run into a timeout.

Each begins at one call and ends at another, so that executors may die meanwhile.
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
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from storage import Database

#: Of the sessions of executors; statements that wait for a lock are longer at work.
STATEMENT_TIMEOUT_MS = 300

#: For so long a fault waits for the locks of executors.
LOCK_SECONDS = 3

DISK_FULL = "disk full"
READ_ONLY = "read-only"
TIMEOUT = "statement timeout"

#: Options of a session that the faults of the database's settings do not meet.
FREE_OF_FAULTS = "-c statement_timeout=0 -c default_transaction_read_only=off"

#: What executors write into their log when a fault meets them.
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
        """Leave no room."""
        with self._ballast.open("wb", buffering=0) as ballast, suppress(OSError):
            for size in (1024 * 1024, 4096):
                with suppress(OSError):
                    while True:
                        ballast.write(bytes(size))

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk | None]:
    """A new folder on a small file system of its own; None if this process may not mount one.

    Root may, and without rights of root a program that `unshare --map-root-user --mount` started.
    """
    folder.mkdir()
    options = f"size={_SIZE_MB}m,mode=0777"
    if not _succeeds("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)):
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: a program that was killed a moment ago may still have files open.
        _succeeds("umount", "--lazy", str(folder))


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class DatabaseFaults:
    """The faults that this database can have; use it as a context manager, which ends those that are on.

    Args:
        database: of the harness, whose own sessions must outlive the faults.
        disk: that the database is on, if it can be filled.
    """

    def __init__(self, database: Database, disk: SmallDisk | None) -> None:
        self._database = database
        self._disk = disk
        #: The faults that are on, each with its time and what ends it.
        self._on: dict[str, tuple[float, Callable[[], object]]] = {}
        self.kinds = [DISK_FULL] if disk is not None else []
        if database.is_postgresql:
            self.kinds += [READ_ONLY, TIMEOUT]
            self._set("statement_timeout", f"{STATEMENT_TIMEOUT_MS}ms")

    def begin(self, kind: str, seconds: float) -> None:
        """Have a fault that is not on for so many seconds."""
        begin = {DISK_FULL: self._fill_disk, READ_ONLY: self._make_read_only, TIMEOUT: self._lock}[kind]
        self._on[kind] = (time.monotonic() + seconds, begin())

    def is_on(self, kind: str) -> bool:
        """Whether a fault has begun and not ended."""
        return kind in self._on

    def look(self) -> None:
        """End those whose time is over."""
        for kind, (end_at, end) in list(self._on.items()):
            if time.monotonic() >= end_at:
                del self._on[kind]
                end()

    def cut(self, percent: int) -> None:
        """End so many of a hundred sessions of the database, those of the harness too."""
        with self._session() as session:
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND application_name <> 'faults' AND hashtext(pid::text) %% 100 < %s",
                [percent],
            )

    def __enter__(self) -> DatabaseFaults:
        return self

    def __exit__(self, *_exception: object) -> None:
        for _, end in self._on.values():
            end()
        self._on.clear()
        if self._database.is_postgresql:
            self._reset("statement_timeout")

    def _fill_disk(self) -> Callable[[], object]:
        assert self._disk is not None
        # Else there would be room for more within the files, which do not shrink by themselves.
        if self._database.is_postgresql:
            with self._session() as session:
                self._with_locks(session, "VACUUM FULL jobs, job_items, tasks")
        else:
            with suppress(sqlite3.Error), closing(sqlite3.connect(str(self._database.path))) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._disk.fill()
        return self._disk.free

    def _make_read_only(self) -> Callable[[], object]:
        # What a failover leaves: sessions that are read-only, and stay so when new ones may write again.
        self._set("default_transaction_read_only", "on")
        self.cut(100)
        return lambda: self._reset("default_transaction_read_only")

    def _lock(self) -> Callable[[], object]:
        # Readers go on, so that the harness sees how the task stands.
        stack = ExitStack()
        session = stack.enter_context(self._session())
        self._with_locks(session, "BEGIN", "LOCK TABLE jobs, tasks IN EXCLUSIVE MODE")
        return stack.close

    def _with_locks(self, session: psycopg.Connection[Any], *statements: str) -> None:
        """Execute statements that lock tables, also if a frozen executor keeps its locks on them."""
        session.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        try:
            for statement in statements:
                session.execute(statement)
        except psycopg.errors.LockNotAvailable:
            session.execute("ROLLBACK")
            # The harness thaws it only after this call, so its sessions are ended, as an administrator would do.
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
        with psycopg.connect(url, autocommit=True, application_name="faults", options=FREE_OF_FAULTS) as session:
            yield session


def met_in(log: Path) -> Counter[str]:
    """How often a log of executors says that a fault met them, by kind."""
    text = log.read_text(errors="replace")
    return Counter({kind: len(said.findall(text)) for kind, said in _SAID.items()})


def harness_url(url: str) -> str:
    """The URL for the harness's own sessions."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.update_query_dict({"options": FREE_OF_FAULTS})
    return parsed.render_as_string(hide_password=False)


def may_own(folder: Path) -> None:
    """Let the system's user of the server that the tests start own a folder."""
    if os.geteuid() == 0:
        shutil.chown(folder, "pgserver")
