"""A child process that runs as long as a block; if it ends earlier, it is started again."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.process.retry_delay import backoff_seconds
from task_definitions.errors import PhotojobsError

logger = logging.getLogger("photojobs.kept_process")

#: The shortest and the longest wait before a restart; the wait doubles after each failed start.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0


@contextmanager
def kept_process(
    name: str,
    *,
    launch: Callable[[], subprocess.Popen[bytes]],
    wait_until_ready: Callable[[subprocess.Popen[bytes]], None],
    stop: Callable[[subprocess.Popen[bytes]], None],
) -> Iterator[None]:
    """Start a process, keep it running, and stop it at the end.

    Args:
        name: its name in the log, such as "Prefect's server".
        launch: starts it; a thread calls this again if the process ended.
        wait_until_ready: returns when it can be used; raises a `PhotojobsError` if it cannot.
        stop: ends it. It may have ended already.

    Raises:
        PhotojobsError: the first start failed; later failures are logged, and the start is repeated.
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
        """Start it, and wait until it is ready, unless the block has ended."""
        with self._lock:
            if self._let_go.is_set():
                return
            self._process = self._launch()
        self._wait_until_ready(self._process)

    def keep(self) -> None:
        """Start it again if it ended, until the block ends."""
        while self._process is not None:
            code = self._process.wait()
            if self._let_go.is_set():
                return
            logger.error("%s ended with code %d; it is started again", self._name, code)
            self._start_again()

    def let_go(self) -> subprocess.Popen[bytes] | None:
        """Stop restarting it; return the process that was started last."""
        with self._lock:
            self._let_go.set()
            return self._process

    def _start_again(self) -> None:
        failures = 0
        while not self._let_go.wait(self._pause_seconds(failures + 1)):
            try:
                if self._process is not None:
                    # Its children may still run; after a failed start, the process itself.
                    self._stop(self._process)
                self.start()
            except Exception as error:
                # Any error: without this thread the process would not be started again.
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
