"""Context managers that disturb the server, the sessions or the workers during their block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import psycopg

from tests.pressure.load import Load
from tests.pressure.server import MAX_CONNECTIONS, PostgresServer
from tests.pressure.workers import Workers

#: Seconds from one end of all sessions to the next.
_CUT_SECONDS = 0.5

#: The number of sessions that read the same tables again and again, and the seconds of each of their transactions.
_READERS = 4
_READ_SECONDS = 8.0

#: The number of jobs that are added at once.
BURST_JOBS = 5_000

#: The rate of new jobs in an overload, as a multiple of the rate that the workers can do.
_OVERLOAD = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """The objects that a disturbance acts on.

    Attributes:
        period_seconds: the seconds between two kills of a worker.
    """

    server: PostgresServer
    workers: Workers
    load: Load
    period_seconds: float


@contextmanager
def server_restart(stand: Stand) -> Iterator[None]:
    """Shut the server down during the block, for at most ten seconds."""
    stand.server.stop()
    timer = threading.Timer(10.0, stand.server.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        stand.server.start()


@contextmanager
def backends_killed(stand: Stand) -> Iterator[None]:
    """End all sessions of the workers twice a second."""
    with _repeated(stand.server.cut, _CUT_SECONDS):
        yield


@contextmanager
def pool_exhausted(stand: Stand) -> Iterator[None]:
    """Every connection of the server is taken, those of the workers too."""
    taken: list[psycopg.Connection[object]] = []

    def take() -> None:
        with suppress(psycopg.Error):
            while len(taken) < MAX_CONNECTIONS:
                taken.append(sessions.enter_context(stand.server.session()))

    with ExitStack() as sessions:
        take()
        own = [connection.info.backend_pid for connection in taken]
        taken[0].execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> ALL(%s)",
            [own],
        )
        with _repeated(take, 0.05):
            yield


@contextmanager
def worker_crash(stand: Stand) -> Iterator[None]:
    """Kill one of the two workers, and start it again at the end of the block."""
    stand.workers.kill(0)
    try:
        yield
    finally:
        stand.workers.restart(0)


@contextmanager
def repeated_kills(stand: Stand) -> Iterator[None]:
    """Kill and restart one of the two workers again and again."""

    def kill() -> None:
        stand.workers.kill(0)
        stand.workers.restart(0)

    with _repeated(kill, stand.period_seconds):
        yield


@contextmanager
def idle_transaction(stand: Stand) -> Iterator[None]:
    """Keep a transaction open that has written, so that VACUUM cannot remove dead rows."""
    with stand.server.session() as session:
        session.execute("BEGIN")
        session.execute("SELECT pg_current_xact_id()")
        yield


@contextmanager
def overlapping_snapshots(stand: Stand) -> Iterator[None]:
    """Let four sessions read the tables again and again, so that the snapshots of the sessions overlap."""
    ended = threading.Event()

    def read(number: int) -> None:
        ended.wait(number * _READ_SECONDS / _READERS)
        with stand.server.session() as session:
            while not ended.is_set():
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                for _ in range(int(_READ_SECONDS)):
                    session.execute("SELECT status, count(*), max(updated_at) FROM jobs GROUP BY status")
                    if ended.wait(1.0):
                        break
                session.execute("COMMIT")

    threads = [threading.Thread(target=read, args=(number,)) for number in range(_READERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@contextmanager
def sustained_overload(stand: Stand) -> Iterator[None]:
    """Add jobs at one and a half times the rate that the workers can do."""
    with stand.load.offering(_OVERLOAD):
        yield


@contextmanager
def burst(stand: Stand) -> Iterator[None]:
    """Add thousands of jobs at once."""
    stand.load.add(BURST_JOBS)
    yield


@contextmanager
def _repeated(act: Callable[[], object], pause_seconds: float) -> Iterator[None]:
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            with suppress(psycopg.Error):
                act()
            ended.wait(pause_seconds)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
