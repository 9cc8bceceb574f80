"""An image process with additional operations, which crash, hang, give wrong answers or report its state."""

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from flows.imaging.isolation import worker_process
from flows.imaging.pixels import vips


def main() -> None:
    """Serve requests as `flows.imaging.isolation.worker_process` does."""
    worker_process.main(
        {
            "abort": os.abort,
            "raise_signal": lambda number: signal.raise_signal(number),
            "exit": lambda code: os._exit(code),
            "sleep": lambda seconds: time.sleep(seconds) or 1,
            "spin": _spin,
            "process_id": os.getpid,
            "threads": vips.threads,
            "environment": lambda: " ".join(sorted(os.environ)),
            "allocate": lambda count, source: len(bytearray(count)),
            "keep": lambda count: _kept.append(b"x" * count) or count,
            "connect": _connect,
            "decode_text": lambda: b"\xff".decode(),
            "call": lambda program: subprocess.check_call([program]),
            "answer": lambda value: value,
            "die_once": _die_once,
            "be_late_once": _be_late_once,
        }
    )


_kept: list[bytes] = []


def _spin(seconds: float) -> int:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return 1


def _connect(port: int) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return "connected"
    except OSError as error:
        return error.strerror or "refused"


def _tries(notes: str) -> int:
    """Return how often this function was called with these notes, in any process."""
    with Path(notes).open("a") as file:
        file.write(f"{os.getpid()} {threading.active_count()}\n")
    return len(Path(notes).read_text().splitlines())


def _die_once(notes: str) -> Any:
    if _tries(notes) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def _be_late_once(notes: str) -> Any:
    if _tries(notes) == 1:
        time.sleep(3600)
    return os.getpid()
