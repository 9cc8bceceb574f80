"""Limits how long a process waits for an answer of a PostgreSQL server, and for the end of a thread.

The process itself enforces the limits. Timeouts of PostgreSQL and TCP do not detect a frozen server, because its
machine still acknowledges packets. Use the limit only for short statements: statements that claim jobs, end jobs or
write heartbeats.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: The number of seconds between two checks while a statement waits.
LOOK_SECONDS = 1.0

#: The longest wait, in seconds, for the end of a thread that uses the database, because the server may never answer.
END_SECONDS = 1.0

#: The thread that checks connections ends after this number of checks in a row without a waiting statement.
_IDLE_LOOKS = 60


class AnswerWatch:
    """Shuts down connections whose server does not answer in time. The waiting statement then fails."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[int, tuple[float, Any]] = {}
        self._numbers = 0
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @contextmanager
    def within(self, seconds: float, connection: Any) -> Iterator[None]:
        """Limit the time of the block: if it takes longer than `seconds`, shut down the psycopg connection."""
        with self._lock:
            if self._pid != os.getpid():
                # A forked process inherits this object, but neither its thread nor the statements that wait.
                self._pid, self._thread = os.getpid(), None
                self._waits.clear()
            self._numbers += 1
            number = self._numbers
            self._waits[number] = (time.monotonic() + seconds, connection)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="photojobs-answer-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._waits.pop(number, None)

    def _run(self) -> None:
        idle = 0
        while True:
            threading.Event().wait(LOOK_SECONDS)
            with self._lock:
                now = time.monotonic()
                for number, (give_up_at, connection) in list(self._waits.items()):
                    if now >= give_up_at:
                        del self._waits[number]
                        _shut_down(connection)
                idle = 0 if self._waits else idle + 1
                if idle >= _IDLE_LOOKS:
                    self._thread = None
                    return


def wait_for_end(thread: threading.Thread) -> bool:
    """Wait up to `END_SECONDS` for a daemon thread that was asked to end; return False if it still runs."""
    thread.join(END_SECONDS)
    return not thread.is_alive()


def _shut_down(connection: Any) -> None:
    # A copy of the descriptor is used, because only the thread that uses the connection may close the original.
    try:
        copy = socket.socket(fileno=os.dup(connection.pgconn.socket))
    except Exception:  # noqa: BLE001 - the connection was closed meanwhile.
        return
    try:
        copy.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    finally:
        copy.close()
