"""Signal handlers for the time of a block. `output/progress.py` decides what Ctrl-C does to a task that is shown."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def handling(handle: Callable[..., object], *signals: signal.Signals) -> Iterator[None]:
    """Call `handle` on these signals while the block runs."""
    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def removing_temporary_files() -> Iterator[None]:
    """Raise SystemExit in the block on SIGTERM and SIGHUP, so that context managers in it remove their files.

    No task runs in such a block, because a task survives the end of its process.
    """

    def end(number: int, *_: object) -> None:
        sys.exit(128 + number)

    ends = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        # With `nohup`, a command ignores this signal, and continues after the end of its terminal.
        ends.append(signal.SIGHUP)
    with handling(end, *ends):
        yield


@contextmanager
def ctrl_c_pressed() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets; a second Ctrl-C raises KeyboardInterrupt.

    The first Ctrl-C raises nothing, because a database driver would ignore an exception during its clean-up.
    """
    pressed = threading.Event()

    def press(*_: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    with handling(press, signal.SIGINT):
        yield pressed
