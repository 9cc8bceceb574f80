"""Keeps a child process running during a `with` block: starts it again if it ends earlier."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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
    log_path: Path,
) -> Iterator[None]:
    """Start a process, keep it running during the block, and stop it at the end of the block.

    Args:
        name: the process's name in the log, such as "Prefect's server".
        launch: starts the process; a thread calls this again after the process ended.
        wait_until_ready: returns when the process can be used; raises a `PhotojobsError` if it cannot be used.
        stop: ends the process, which may have ended already.
        log_path: where the process writes its log, for messages.

    Raises:
        PhotojobsError: the first start failed; later failures are logged, and the start is repeated.
    """
    kept = _KeptProcess(name, launch, wait_until_ready, stop, log_path)
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


def end_process(process: subprocess.Popen[bytes], signal_number: int, limit_seconds: float) -> None:
    """End a process by a signal; kill it if it still runs after this time."""
    if process.poll() is None:
        process.send_signal(signal_number)
        try:
            process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class _KeptProcess:
    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    wait_until_ready: Callable[[subprocess.Popen[bytes]], None]
    stop: Callable[[subprocess.Popen[bytes]], None]
    log_path: Path
    _process: subprocess.Popen[bytes] | None = None
    _let_go: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Start the process and wait until it is ready; do nothing after the end of the block."""
        with self._lock:
            if self._let_go.is_set():
                return
            self._process = self.launch()
        self.wait_until_ready(self._process)

    def keep(self) -> None:
        """Start the process again each time it ends, until the end of the block."""
        while self._process is not None:
            code = self._process.wait()
            if self._let_go.is_set():
                return
            logger.error("%s ended with code %d; it is started again. Its log is %s", self.name, code, self.log_path)
            self._start_again()

    def let_go(self) -> subprocess.Popen[bytes] | None:
        """Stop restarting the process; return the process that was started last; None if none was."""
        with self._lock:
            self._let_go.set()
            return self._process

    def _start_again(self) -> None:
        failures = 0
        while not self._let_go.wait(self._pause_seconds(failures + 1)):
            try:
                if self._process is not None:
                    # Children of a dead process may still run, and so may a process that did not become ready.
                    self.stop(self._process)
                self.start()
            except Exception as error:
                # Every error is caught: if this thread ended, the process would stay down.
                failures += 1
                if not self._let_go.is_set():
                    logger.error(
                        "%s could not be started; trying again: %s",
                        self.name,
                        error,
                        exc_info=not isinstance(error, PhotojobsError),
                    )
            else:
                return

    @staticmethod
    def _pause_seconds(failures: int) -> float:
        return backoff_seconds(failures, first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
