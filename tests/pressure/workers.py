"""The two workers of a cell: real `photojobs worker` processes."""

from __future__ import annotations

import signal
import subprocess
import time

from tests.pressure.programs import Programs

#: The number of workers, and the number of jobs that each runs at a time.
WORKERS = 2
CONCURRENCY = 4

#: How long a worker may take to stop.
DRAIN_SECONDS = 10.0

SETTINGS = {"concurrency": CONCURRENCY, "heartbeat_seconds": 1, "stale_seconds": 6, "drain_seconds": DRAIN_SECONDS}


class Workers:
    """Starts, kills and stops the workers; creating it starts all of them."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._processes = [programs.start("worker") for _ in range(WORKERS)]
        self._killed: set[int] = set()
        self._is_stopping = False

    def kill(self, place: int) -> None:
        """Kill the worker at this place by SIGKILL."""
        process = self._processes[place]
        self._killed.add(process.pid)
        process.kill()
        process.wait()

    def restart(self, place: int) -> None:
        """Start the worker at this place again if it has ended, unless the workers are being stopped."""
        if not self._is_stopping:
            self._processes[place] = self._programs.start("worker")

    def dead(self) -> int:
        """Return how many workers have ended."""
        return sum(process.poll() is not None for process in self._processes)

    def stop(self, limit_seconds: float) -> tuple[float, list[int | None]]:
        """Send SIGTERM to all workers; return the time until the last one ended, and their exit codes.

        The code is None for a worker that did not end. Killed workers are left out.
        """
        self._is_stopping = True
        began = time.monotonic()
        processes = list(self._processes)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes: list[int | None] = []
        for process in processes:
            try:
                code = process.wait(max(0.0, limit_seconds - (time.monotonic() - began)))
            except subprocess.TimeoutExpired:
                codes.append(None)
            else:
                codes += [] if process.pid in self._killed else [code]
        return time.monotonic() - began, codes

    def start_another(self) -> None:
        """Start one worker after all have ended, for the jobs that they left."""
        self._programs.start("worker")
