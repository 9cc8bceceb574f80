"""What happens to the server, the sessions and the workers while a block lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import psycopg

from tests.pressure.load import Load
from tests.pressure.server import MAX_CONNECTIONS, PostgresServer
from tests.pressure.workers import Workers

#: Seconds between two times that all sessions are ended.
_CUT_SECONDS = 0.5

#: Sessions that read the same tables again and again, each in transactions of so many seconds.
_READERS = 4
_READ_SECONDS = 8.0

#: Jobs that arrive at once.
BURST_JOBS = 5_000

#: What a server is offered under overload, of what the workers can do.
_OVERLOAD = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What a disturbance may use.

    Attributes:
        period_seconds: between two kills of a worker.
    """

    server: PostgresServer
    workers: Workers
    load: Load
    period_seconds: float


@contextmanager
def server_restart(stand: Stand) -> Iterator[None]:
    """The server is shut down for as long as the block lasts, at most ten seconds."""
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
    """All sessions of the workers are ended twice a second."""
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
    """One of the two workers is killed, and started again at the end of the block."""
    stand.workers.kill(0)
    try:
        yield
    finally:
        stand.workers.restart(0)


@contextmanager
def repeated_kills(stand: Stand) -> Iterator[None]:
    """One of the two workers is killed and started again, time after time."""

    def kill() -> None:
        stand.workers.kill(0)
        stand.workers.restart(0)

    with _repeated(kill, stand.period_seconds):
        yield


@contextmanager
def idle_transaction(stand: Stand) -> Iterator[None]:
    """A transaction that has written stays open, so that no dead row can be cleared away."""
    with stand.server.session() as session:
        session.execute("BEGIN")
        session.execute("SELECT pg_current_xact_id()")
        yield


@contextmanager
def overlapping_snapshots(stand: Stand) -> Iterator[None]:
    """Four sessions read the tables again and again, each within snapshots that overlap those of the others."""
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
    """Half as many jobs again arrive as the workers can do."""
    with stand.load.offering(_OVERLOAD):
        yield


@contextmanager
def burst(stand: Stand) -> Iterator[None]:
    """Thousands of jobs arrive at once."""
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
