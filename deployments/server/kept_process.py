"""Keeps a child process running during a `with` block: starts it again if it ends earlier."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flows.process.retry_delay import backoff_seconds
from task_definitions.errors import PhotojobsError

logger = logging.getLogger("photojobs.kept_process")

#: How long a start may take. A newer Prefect first migrates the server's database, which takes long on a slow disk.
START_SECONDS = 120.0

#: The shortest and the longest wait before a restart; the wait doubles after each failed start.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0


@dataclass(kw_only=True)
class KeptProcess:
    """A child process that is started again each time it ends.

    Attributes:
        name: the process's name in messages, such as "Prefect's server".
        launch: starts the process; a thread calls this again after the process ended.
        is_ready: returns whether the process can be used; called until it returns True, at most for `START_SECONDS`.
        failed: the class of the error if the process does not become ready.
        stop: ends the process, which may have ended already.
        log_path: where the process writes its log, for messages.
    """

    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    is_ready: Callable[[], bool]
    failed: type[PhotojobsError]
    stop: Callable[[subprocess.Popen[bytes]], None]
    log_path: Path
    _process: subprocess.Popen[bytes] | None = None
    _let_go: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the process, keep it running during the block, and stop it at the end of the block.

        Raises:
            PhotojobsError: the first start failed; later failures are logged, and the start is repeated.
        """
        thread = threading.Thread(target=self._keep, name=f"photojobs-keeps-{self.name}", daemon=True)
        try:
            self._start()
            thread.start()
            yield
        finally:
            with self._lock:
                self._let_go.set()
            if self._process is not None:
                self.stop(self._process)
            if thread.ident is not None:
                thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._let_go.is_set():
                return
            self._process = process = self.launch()
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            if process.poll() is not None:
                reason = f"ended with code {process.returncode}"
            elif self.is_ready():
                return
            elif time.monotonic() > give_up_at:
                reason = f"was not ready within {START_SECONDS:g} s"
            else:
                time.sleep(0.05)
                continue
            raise self.failed(f"{self.name} {reason}. Look for the reason in {self.log_path}")

    def _keep(self) -> None:
        while self._process is not None:
            code = self._process.wait()
            if self._let_go.is_set():
                return
            logger.error("%s ended with code %d; it is started again. Its log is %s", self.name, code, self.log_path)
            self._start_again()

    def _start_again(self) -> None:
        failures = 0
        while not self._let_go.wait(self._pause_seconds(failures + 1)):
            try:
                if self._process is not None:
                    # Children of a dead process may still run, and so may a process that did not become ready.
                    self.stop(self._process)
                self._start()
            except Exception as error:
                # Every error is caught: if this thread ended, the process would stay down.
                failures += 1
                if not self._let_go.is_set():
                    logger.error(
                        "%s could not be started (%s); photojobs tries again",
                        self.name,
                        error,
                        exc_info=not isinstance(error, PhotojobsError),
                    )
            else:
                return

    @staticmethod
    def _pause_seconds(failures: int) -> float:
        return backoff_seconds(failures, first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)


def end_process(process: subprocess.Popen[bytes], signal_number: int, limit_seconds: float) -> None:
    """End a process by a signal; kill it if it still runs after this time."""
    if process.poll() is None:
        process.send_signal(signal_number)
        try:
            process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
