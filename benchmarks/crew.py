"""Worker processes that run during all rounds, so that no round includes the time of starting them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

#: A generator function that opens the queue at a URL and yields a function, which works until the queue is empty and
#: returns the number of jobs that it ran. It must be defined in a module, because it is sent to a process by its name.
Opener = Callable[[str], Iterator[Callable[[], int]]]


class Crew:
    """Processes that each call `opener(url)` once, and then run jobs on request."""

    def __init__(self, opener: Opener, url: str, *, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(opener, url, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            assert pipe.recv() == "ready"

    def work(self, expected: int) -> float:
        """Let all processes work until the queue is empty, and return the number of jobs per second.

        Raises:
            AssertionError: the processes did not run exactly `expected` jobs.
        """
        began = time.perf_counter()
        for pipe in self._pipes:
            pipe.send("work")
        done = sum(pipe.recv() for pipe in self._pipes)
        took = time.perf_counter() - began
        assert done == expected, f"the processes ran {done} jobs instead of {expected}; run the benchmark again"
        return done / took

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send("end")
        for process in self._processes:
            process.join()


def _serve(opener: Opener, url: str, pipe: Connection) -> None:
    with contextmanager(opener)(url) as work:
        pipe.send("ready")
        while pipe.recv() == "work":
            pipe.send(work())


@contextmanager
def crew(opener: Opener, url: str, *, size: int) -> Iterator[Crew]:
    """Start a crew that runs during the block."""
    opened = Crew(opener, url, size=size)
    try:
        yield opened
    finally:
        opened.close()
