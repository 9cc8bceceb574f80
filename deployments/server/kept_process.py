"""A child process that is there for as long as a block lasts: one that ends before is started again."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.process.retry_delay import backoff_seconds
from task_definitions.errors import PhotojobsError

logger = logging.getLogger("photojobs.kept_process")

#: How long a process that ended stays away, at first and at most; doubled each time it does not come up.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0


@contextmanager
def kept_process(
    name: str,
    *,
    launch: Callable[[], subprocess.Popen[bytes]],
    wait_until_ready: Callable[[subprocess.Popen[bytes]], None],
    stop: Callable[[subprocess.Popen[bytes]], None],
) -> Iterator[None]:
    """Start a process, see that it stays, and stop it.

    Args:
        name: for the log, such as "Prefect's server".
        launch: starts it; called again, from a thread, whenever it has ended.
        wait_until_ready: returns when it can be used; raises a `PhotojobsError` when it will not be.
        stop: ends it. It may have ended already.

    Raises:
        PhotojobsError: it could not be started the first time; later that is logged, and tried again.
    """
    kept = _KeptProcess(name, launch, wait_until_ready, stop)
    thread = threading.Thread(target=kept.keep, name=f"photojobs-keeps-{name}", daemon=True)
    try:
        kept.start()
        thread.start()
        yield
    finally:
        process = kept.let_go()
        if process is not None:
            stop(process)
        if thread.ident is not None:
            thread.join()


class _KeptProcess:
    def __init__(
        self,
        name: str,
        launch: Callable[[], subprocess.Popen[bytes]],
        wait_until_ready: Callable[[subprocess.Popen[bytes]], None],
        stop: Callable[[subprocess.Popen[bytes]], None],
    ) -> None:
        self._name = name
        self._launch = launch
        self._wait_until_ready = wait_until_ready
        self._stop = stop
        self._process: subprocess.Popen[bytes] | None = None
        self._let_go = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start it, and wait until it is ready, unless nobody needs it any more."""
        with self._lock:
            if self._let_go.is_set():
                return
            self._process = self._launch()
        self._wait_until_ready(self._process)

    def keep(self) -> None:
        """Start it again whenever it has ended, until it is let go."""
        while self._process is not None:
            code = self._process.wait()
            if self._let_go.is_set():
                return
            logger.error("%s ended with code %d; it is started again", self._name, code)
            self._start_again()

    def let_go(self) -> subprocess.Popen[bytes] | None:
        """Start it no more; returns the last that was started."""
        with self._lock:
            self._let_go.set()
            return self._process

    def _start_again(self) -> None:
        failures = 0
        while not self._let_go.wait(self._pause_seconds(failures + 1)):
            try:
                if self._process is not None:
                    # Its own children may be left; of a start that failed, itself.
                    self._stop(self._process)
                self.start()
            except Exception as error:
                # Whatever it was: without this thread nobody would start it any more.
                failures += 1
                if not self._let_go.is_set():
                    logger.error(
                        "%s is not up yet: %s", self._name, error, exc_info=not isinstance(error, PhotojobsError)
                    )
            else:
                return

    @staticmethod
    def _pause_seconds(failures: int) -> float:
        return backoff_seconds(failures, first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
