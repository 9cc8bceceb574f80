"""One process that decodes images, seen from outside: started when needed, asked one thing at a time, killed if stuck.

How many there are and who gets which is the matter of `isolation.py`.
"""

import contextlib
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Final, TypeVar

from flows.imaging.errors import DecoderCrashed, ImageTimeout

#: Starting takes well under a second; longer than this means that the machine is stuck.
START_SECONDS: Final = 60.0
#: Calls after which the process is replaced, so that leaks of decoders end somewhere.
CALLS_PER_PROCESS: Final = 1000
_STOP_SECONDS: Final = 2.0

# -P: modules in the working folder must not take the place of ours.
_COMMAND: Final = (sys.executable, "-P", "-c", "from flows.imaging.worker_process import main; main()")

# glibc keeps what images leave free: 350 MB after a dozen pictures of 24 megapixels, but 110 MB with these, in the same
# time. Whoever sets them otherwise is heeded; elsewhere they mean nothing.
_MALLOC: Final = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 20),
}

#: What a decoder needs of the environment. The rest holds passwords, such as that of the database.
_PASSED_ON: Final = re.compile(
    r"PATH|HOME|TMPDIR|TZ|LANG|LC_\w+|LD_LIBRARY_PATH|DYLD_\w+|MALLOC_\w+|VIPS_\w+|PYTHON(?!PATH)\w+|COVERAGE_\w+"
)

Result = TypeVar("Result")


def _passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if _PASSED_ON.fullmatch(name)}


class Worker:
    """A process that runs functions one after the other. Not for use by several threads at once, except `kill`."""

    def __init__(self, *, threads: int, memory_bytes: int | None = None) -> None:
        self._threads = threads
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._lifeline = -1
        self._calls = 0

    @property
    def process_id(self) -> int | None:
        """Of the running process, or None where there is none."""
        return None if self._process is None else self._process.pid

    def call(
        self, function: Callable[..., Result], *arguments: Any, name: str, timeout_seconds: float, **options: Any
    ) -> Result:
        """Run a module's function in the process, which is started where there is none.

        Args:
            function: one that can be pickled, as its arguments and its result.
            arguments: for the function.
            name: what the work is on, for messages.
            timeout_seconds: how long it may take; then the process is killed.
            options: keyword arguments for the function.

        Raises:
            ImageTimeout: it took too long.
            DecoderCrashed: the process died.
            Exception: what the function raised.
        """
        request = pickle.dumps((function, arguments, options))
        connection = self._send(request, name)
        try:
            if not connection.poll(timeout_seconds):
                self.stop(at_once=True)
                raise ImageTimeout(f"{name}: it took longer than {timeout_seconds:g} seconds and was stopped.")
            answer = connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise DecoderCrashed(
                f"{name}: the process that decoded it died ({self._ending()}). "
                "The file is probably damaged, or memory ran out."
            ) from error
        except BaseException:
            # Whoever interrupted the wait leaves an answer behind that would be taken for the next one's.
            self.stop(at_once=True)
            raise
        is_result, value = pickle.loads(answer)  # noqa: S301 - from our own process.
        self._calls += 1
        if self._calls >= CALLS_PER_PROCESS:
            self.stop()
        if is_result:
            result: Result = value
            return result
        raise value

    def kill(self) -> None:
        """End the process in the middle of a call of another thread, which then raises `DecoderCrashed`."""
        process = self._process
        if process is not None:
            process.kill()

    def stop(self, *, at_once: bool = False) -> None:
        """End the process, if there is one; the next call starts another.

        Args:
            at_once: kill it instead of letting it end by itself.
        """
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        process, self._process = self._process, None
        if process is None:
            return
        if at_once:
            process.kill()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _send(self, request: bytes, name: str) -> Connection:
        for is_last in (False, True):
            connection = self._connection or self._start(name)
            try:
                connection.send_bytes(request)
            except OSError as error:
                # It died since its last call, so that this one never reached it.
                ending = self._ending()
                if is_last:
                    raise DecoderCrashed(f"{name}: the image process died before it began ({ending}).") from error
            else:
                return connection
        raise AssertionError("unreachable")

    def _start(self, name: str) -> Connection:
        ours, theirs = socket.socketpair()
        lifeline_end, self._lifeline = os.pipe()
        try:
            arguments = (str(theirs.fileno()), str(lifeline_end), str(self._threads), str(self._memory_bytes or 0))
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter with our own module.
                (*_COMMAND, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_MALLOC
                | _passed_on(os.environ)
                | {"PYTHONPATH": os.pathsep.join(sys.path), "VIPS_CONCURRENCY": str(self._threads)},
                pass_fds=(theirs.fileno(), lifeline_end),
                process_group=0,
            )
        finally:
            theirs.close()
            os.close(lifeline_end)
            self._connection = Connection(ours.detach())
        self._calls = 0
        try:
            is_ready = self._connection.poll(START_SECONDS) and self._connection.recv_bytes() == b"ready"
        except (EOFError, OSError):
            is_ready = False
        if not is_ready:
            raise DecoderCrashed(f"{name}: the image process did not start ({self._ending()}). See standard error.")
        return self._connection

    def _ending(self) -> str:
        process = self._process
        code = None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_STOP_SECONDS)
        self.stop(at_once=True)
        if code is None:
            return "it closed its connection"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
