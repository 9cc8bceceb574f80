"""One process that decodes images, seen from outside: started when needed, asked one thing at a time, killed if stuck.

How many there are and who gets which is the matter of `isolation.py`. What a process answers is not trusted: it is
JSON of bounded size and of the form that the caller expects.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any, Final, Generic, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from flows.imaging.errors import (
    DecoderCrashed,
    DecoderKilled,
    ImageMissing,
    ImageTimeout,
    ImageTooLarge,
    ImagingError,
    SlowMachine,
    UnreadableImage,
)
from flows.imaging.limits import ImageOptions
from flows.imaging.no_network import command_without_network
from storage.library.errors import FolderMissing

#: Starting takes well under a second; longer than this means that the machine is stuck.
START_SECONDS: Final = 60.0
#: Resident memory above which a process is replaced, so that leaks of decoders end somewhere.
MAX_RESIDENT_BYTES: Final = 400 << 20
#: A process that had less than this part of a core until its time was over waited for the machine, not for the file.
_FAIR_SHARE: Final = 0.7
_STOP_SECONDS: Final = 2.0
_MAX_ANSWER_BYTES: Final = 64 << 10

#: The module whose `main` runs in the process.
PROGRAM: Final = "flows.imaging.worker_process"

# glibc keeps what images leave free: 290 MB after a dozen large pictures, but 140 MB with these, in a little less time.
# Lower ones keep 80 MB and cost 7 % more time, for pages that are given back and taken again. Those that are set in the
# environment count; elsewhere they mean nothing.
_MALLOC: Final = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}

#: What a decoder needs of the environment. The rest holds passwords, such as that of the database.
_PASSED_ON: Final = re.compile(
    r"PATH|HOME|TMPDIR|TZ|LANG|LC_\w+|LD_LIBRARY_PATH|DYLD_\w+|MALLOC_\w+|VIPS_\w+|PYTHON(?!PATH)\w+|COVERAGE_\w+"
)

#: The errors that a process may raise here; all others become an `ImagingError` with their text.
_RAISED: Final[Mapping[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (ImageMissing, UnreadableImage, ImageTooLarge, ImageTimeout, ImagingError, FolderMissing, ValueError)
}

Result = TypeVar("Result")


class _Failure(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    kinds: list[str]
    text: str
    errno: int | None
    filename: str | None

    def error(self) -> Exception:
        if self.errno is not None and "OSError" in self.kinds:
            return OSError(self.errno, self.text, self.filename)
        for kind in self.kinds:
            if kind in _RAISED:
                return _RAISED[kind](self.text)
        return ImagingError(f"{self.kinds[0] if self.kinds else 'an error'}: {self.text}")


class _Answer(BaseModel, Generic[Result]):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    result: Result | None = None
    failure: _Failure | None = None
    resident_bytes: int

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.result is None) == (self.failure is None):
            raise ValueError("an answer has either a result or a failure")
        return self


def _passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if _PASSED_ON.fullmatch(name)}


class _Process:
    """A running process and the connection to it."""

    def __init__(self, *, threads: int, options: ImageOptions) -> None:
        ours, theirs = socket.socketpair()
        lifeline_end, self._lifeline = os.pipe()
        self.connection = Connection(ours.detach())
        self._is_ready = False
        given = json.dumps({"threads": threads, **asdict(options)})
        # -P: modules in the working folder must not take the place of ours.
        program = (sys.executable, "-P", "-c", f"from {PROGRAM} import main; main()")
        try:
            self.popen = subprocess.Popen(  # noqa: S603 - our own interpreter with our own module.
                (*command_without_network(), *program, str(theirs.fileno()), str(lifeline_end), given),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_MALLOC
                | _passed_on(os.environ)
                | {"PYTHONPATH": os.pathsep.join(sys.path), "VIPS_CONCURRENCY": str(threads), "DO_NOT_TRACK": "1"},
                pass_fds=(theirs.fileno(), lifeline_end),
                process_group=0,
            )
        finally:
            theirs.close()
            os.close(lifeline_end)

    def is_ready(self, *, wait_seconds: float = 0.0) -> bool:
        """Whether it has started; waits for that at most as long as given."""
        if not self._is_ready:
            with contextlib.suppress(EOFError, OSError):
                self._is_ready = self.connection.poll(wait_seconds) and self.connection.recv_bytes(16) == b"ready"
        return self._is_ready

    def processor_seconds(self) -> float | None:
        """The processor time that it has taken so far; None if the system does not say."""
        try:
            with open(f"/proc/{self.popen.pid}/stat", "rb") as file:  # noqa: PTH123 - for each image.
                fields = file.read().rpartition(b")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return None

    def exit_code(self) -> int | None:
        """How it ended, if it does within a moment."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.popen.wait(_STOP_SECONDS)
        return None

    def stop(self, *, at_once: bool = False) -> None:
        """End it; once only."""
        self.connection.close()
        os.close(self._lifeline)
        if at_once:
            self.popen.kill()
        try:
            self.popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


class Worker:
    """A process that performs operations one after the other.

    Not for use by several threads at once, except `kill`.
    """

    def __init__(self, *, threads: int, options: ImageOptions) -> None:
        self._threads = threads
        self._options = options
        self._process: _Process | None = None
        self._successor: _Process | None = None

    @property
    def process_id(self) -> int | None:
        """Of the running process, or None where there is none."""
        return None if self._process is None else self._process.popen.pid

    def call(
        self, operation: str, result_type: type[Result], *, name: str, timeout_seconds: float, **arguments: Any
    ) -> Result:
        """Perform an operation of `worker_process` in the process, which is started where there is none.

        Args:
            operation: its name.
            result_type: the form of its result.
            name: what the work is on, for messages.
            timeout_seconds: how long it may take; then the process is killed.
            arguments: for the operation; JSON.

        Raises:
            ImageTimeout: it took too long; `SlowMachine` if it had less than its share of the processor.
            DecoderCrashed: the process died; `DecoderKilled` if something from outside killed it.
            ImagingError, FolderMissing, OSError, ValueError: as the operation did.
        """
        request = json.dumps({"operation": operation, "arguments": arguments}).encode()
        process = self._send(request, name)
        clock = _Clock(process)
        content = self._receive(process, clock, name=name, timeout_seconds=timeout_seconds)
        try:
            answer: _Answer[Any] = _Answer[result_type].model_validate_json(content)  # type: ignore[valid-type]
        except ValidationError as error:
            self.stop(at_once=True)
            raise DecoderCrashed(f"{name}: the process that decoded it gave no proper answer.") from error
        if answer.resident_bytes > MAX_RESIDENT_BYTES and self._successor is None:
            self._successor = self._new_process()
        if answer.failure is not None:
            failure = answer.failure.error()
            raise clock.blamed(failure) if isinstance(failure, ImageTimeout) else failure
        return cast("Result", answer.result)

    def kill(self) -> None:
        """End the process in the middle of a call of another thread, which then raises `DecoderCrashed`."""
        process = self._process
        if process is not None:
            process.popen.kill()

    def stop(self, *, at_once: bool = False) -> None:
        """End the process, if there is one; the next call starts another.

        Args:
            at_once: kill it instead of letting it end by itself.
        """
        processes = (self._process, self._successor)
        self._process = self._successor = None
        for process in processes:
            if process is not None:
                process.stop(at_once=at_once)

    def _new_process(self) -> _Process:
        return _Process(threads=self._threads, options=self._options)

    def _send(self, request: bytes, name: str) -> _Process:
        for is_last in (False, True):
            process = self._ready_process(name)
            try:
                process.connection.send_bytes(request)
            except OSError as error:
                # It died since its last call, so that this one never reached it.
                ending = self._ending()
                if is_last:
                    raise DecoderCrashed(f"{name}: the image process died before it began ({ending}).") from error
            else:
                return process
        raise AssertionError("unreachable")

    def _ready_process(self, name: str) -> _Process:
        if self._process is not None and self._successor is not None and self._successor.is_ready():
            self._process.stop()
            self._process, self._successor = self._successor, None
        if self._process is None:
            self._process, self._successor = self._successor or self._new_process(), None
            if not self._process.is_ready(wait_seconds=START_SECONDS):
                raise DecoderCrashed(f"{name}: the image process did not start ({self._ending()}). See standard error.")
        return self._process

    def _receive(self, process: _Process, clock: "_Clock", *, name: str, timeout_seconds: float) -> bytes:
        try:
            if process.connection.poll(timeout_seconds):
                return process.connection.recv_bytes(_MAX_ANSWER_BYTES)
        except (EOFError, OSError) as error:
            ending = self._ending()
            kind = DecoderKilled if ending == signal.SIGKILL.name else DecoderCrashed
            raise kind(
                f"{name}: the process that decoded it died ({ending}). The file is probably damaged, or memory ran out."
            ) from error
        except BaseException:
            # After an interrupted wait, the late answer would be taken for that of the next call.
            self.stop(at_once=True)
            raise
        late = clock.blamed(ImageTimeout(f"{name}: it took longer than {timeout_seconds:g} seconds and was stopped."))
        self.stop(at_once=True)
        raise late

    def _ending(self) -> str:
        """How the process ended, in a word, after it was stopped."""
        code = None if self._process is None else self._process.exit_code()
        process, self._process = self._process, None
        if process is not None:
            process.stop(at_once=True)
        if code is None:
            return "it closed its connection"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class _Clock:
    """Tells, when an image took too long, whether the file was at fault or the machine."""

    def __init__(self, process: _Process) -> None:
        self._process = process
        self._began_at = time.monotonic()
        self._processor_seconds = process.processor_seconds()

    def blamed(self, timeout: ImageTimeout) -> ImageTimeout:
        """The time-out itself, or a `SlowMachine` of the same text if the process had too little of a core."""
        now = self._process.processor_seconds()
        if now is None or self._processor_seconds is None:
            return timeout
        share = (now - self._processor_seconds) / (time.monotonic() - self._began_at)
        return SlowMachine(str(timeout)) if share < _FAIR_SHARE else timeout
