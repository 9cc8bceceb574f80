"""The inside of a process that decodes images: takes one call after the other, and dies with its parent.

The outside is `worker.py`. Nothing here knows of pools, jobs or SQL.
"""

import os
import pickle
import resource
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from flows.imaging import vips
from flows.imaging.errors import ImagingError


def main() -> None:
    """Serve calls from the connection whose descriptor is the first argument, until it closes.

    Further arguments: a descriptor that closes when the parent dies, and how many threads libvips may use, and
    how many bytes of address space the process may have (0: any).
    """
    connection_descriptor, lifeline, threads, memory_bytes = (int(argument) for argument in sys.argv[1:5])
    if memory_bytes and sys.platform == "linux":
        # An image that needs more costs itself, and not the machine.
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # Ctrl-C in a terminal reaches every process there; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    vips.set_threads(threads)
    with Connection(connection_descriptor) as connection:
        _serve(connection)


def _serve(connection: Connection) -> None:
    connection.send_bytes(b"ready")
    while True:
        try:
            function, arguments, options = pickle.loads(connection.recv_bytes())  # noqa: S301 - from our parent alone.
        except (EOFError, OSError):
            return
        answer = _answer(function, arguments, options)
        try:
            connection.send_bytes(answer)
        except OSError:
            return


def _answer(function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> bytes:
    try:
        return pickle.dumps((True, function(*arguments, **options)))
    except Exception as error:  # noqa: BLE001 - raised again in the parent.
        try:
            # An error of another library may pickle and yet not unpickle, which the parent could not tell from a crash.
            pickled = pickle.dumps((False, error))
            pickle.loads(pickled)  # noqa: S301 - our own bytes.
        except Exception:  # noqa: BLE001 - whatever it is, its text has to arrive.
            return pickle.dumps((False, ImagingError(f"{type(error).__name__}: {error}")))
        return pickled


def _die_with_parent(lifeline: int) -> None:
    # Nothing is ever written; reading ends when the last holder of the other end is gone. In the midst of a decode
    # the main thread would not notice.
    os.read(lifeline, 1)
    os._exit(0)
