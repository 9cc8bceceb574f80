"""Controls a process that decodes images: starts it, sends it one request at a time, and kills it if it hangs.

`image_processing.py` decides how many processes there are and which process runs a call. The answers of a process are
not trusted: they must be JSON of limited size that matches the expected type. The setting `image_seconds` is the time
limit of an image, and `image_memory_megabytes` its memory limit.
"""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from multiprocessing.connection import Pipe
from typing import Any, Final, Generic, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from flows.imaging.errors import (
    DecoderCrashed,
    DecoderKilled,
    DecodingUnavailable,
    ImageMissing,
    ImageTimeout,
    ImageTooLarge,
    ImagingError,
    SlowMachine,
    UnreadableImage,
)
from flows.imaging.limits import ImageOptions
from storage.library.errors import FolderMissing

#: The longest time for the start of a process, which normally takes less than a second.
START_SECONDS: Final = 60.0
#: The resident memory from which a process is replaced, to limit memory leaks of decoders.
MAX_RESIDENT_BYTES: Final = 400 << 20
#: If a process has got a smaller share of a core than this, a timeout counts as the fault of a slow machine and not of
#: the file.
_FAIR_SHARE: Final = 0.7
_STOP_SECONDS: Final = 2.0
_MAX_ANSWER_BYTES: Final = 64 << 10

#: The module whose `main` runs in the process.
PROGRAM: Final = "flows.imaging.isolation.worker_process"

# Variables that limit the freed memory that glibc keeps: 140 MB instead of 290 MB after a dozen large pictures, in
# slightly less time. Lower values keep 80 MB but take 7 % more time, because pages are returned and requested again.
# Values in the environment take precedence. Without glibc, the variables have no effect. Each arena reserves 64 MiB of
# addresses, which count for the memory limit of the process; by default, every thread of libvips would have its own.
_MALLOC: Final = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}

#: The environment variables that a process gets. Other variables may contain passwords, such as the password of the
#: database.
_PASSED_ON: Final = re.compile(
    r"PATH|HOME|TMPDIR|TZ|LANG|LC_\w+|LD_LIBRARY_PATH|DYLD_\w+|MALLOC_\w+|VIPS_\w+|PYTHON(?!PATH)\w+|COVERAGE_\w+"
)

#: The classes of errors in a process that are raised again in the parent, besides `OSError`. All other errors become an
#: `ImagingError` with the name of their class and their text.
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
        return ImagingError(": ".join(text for text in (*self.kinds[:1], self.text) if text))


class _Answer(BaseModel, Generic[Result]):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    result: Result | None = None
    failure: _Failure | None = None
    resident_bytes: int

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.result is None) == (self.failure is None):
            raise ValueError("an answer must have either a result or a failure, but not both")
        return self


@functools.cache
def command_without_network() -> tuple[str, ...]:
    """Return the prefix that makes a command run without network access; empty if the system does not allow this.

    The command keeps its process id, its user and its groups. No maintained Python library offers this, and
    `os.unshare` needs Python 3.12, so the prefix is `unshare` of util-linux.
    """
    unshare = shutil.which("unshare") if sys.platform == "linux" else None
    if unshare is None:
        return ()
    # Users other than root need a user namespace. For root, a user namespace would hide the files of other users.
    options = ("--net",) if os.geteuid() == 0 else ("--user", "--map-current-user", "--net")
    command = (unshare, *options, "--")
    try:
        done = subprocess.run((*command, "true"), check=False, capture_output=True, timeout=10)  # noqa: S603 - ours.
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if done.returncode == 0 else ()


class _Process:
    """A running process and the connection to it."""

    def __init__(self, *, threads: int, options: ImageOptions) -> None:
        self.connection, theirs = Pipe()
        their_lifeline, self._lifeline = Pipe(duplex=False)
        self._is_ready = False
        given = json.dumps({"threads": threads, **asdict(options)})
        # With -P, modules in the working folder cannot replace the modules of photojobs.
        program = (sys.executable, "-P", "-c", f"from {PROGRAM} import main; main()")
        with theirs, their_lifeline:
            ends = (theirs.fileno(), their_lifeline.fileno())
            self.popen = subprocess.Popen(  # noqa: S603 - our own interpreter with our own module.
                (*command_without_network(), *program, *map(str, ends), given),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_MALLOC
                | {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
                | {"PYTHONPATH": os.pathsep.join(sys.path), "VIPS_CONCURRENCY": str(threads), "DO_NOT_TRACK": "1"},
                pass_fds=ends,
                process_group=0,
            )

    def is_ready(self, *, wait_seconds: float = 0.0) -> bool:
        """Wait up to `wait_seconds` for the start of the process, and return whether it has started."""
        if not self._is_ready:
            with contextlib.suppress(EOFError, OSError):
                self._is_ready = self.connection.poll(wait_seconds) and self.connection.recv_bytes(16) == b"ready"
        return self._is_ready

    def processor_seconds(self) -> float | None:
        """Return the processor time that the process has used; None if the system does not provide it."""
        try:
            with open(f"/proc/{self.popen.pid}/stat", "rb") as file:  # noqa: PTH123 - for each image.
                fields = file.read().rpartition(b")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return None

    def exit_code(self) -> int | None:
        """Return the exit code if the process ends within a short time; None otherwise."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.popen.wait(_STOP_SECONDS)
        return None

    def stop(self, *, at_once: bool = False) -> None:
        """End the process; with `at_once`, kill it. Call this method only once."""
        self.connection.close()
        self._lifeline.close()
        if at_once:
            self.popen.kill()
        try:
            self.popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


class Worker:
    """A process that runs one image operation at a time.

    Only `kill` may be called from another thread.
    """

    def __init__(self, *, threads: int, options: ImageOptions) -> None:
        self._threads = threads
        self._options = options
        self._process: _Process | None = None
        self._successor: _Process | None = None

    @property
    def process_id(self) -> int | None:
        """The id of the running process; None if none is running."""
        return None if self._process is None else self._process.popen.pid

    def call(
        self, operation: str, result_type: type[Result], *, name: str, timeout_seconds: float, **arguments: Any
    ) -> Result:
        """Run an operation of `worker_process` in the process. Start the process if none is running.

        The arguments must fit into JSON. If the operation exceeds the time limit, the process is killed. `name` is the
        file's name, for messages.

        Raises:
            ImageTimeout: the operation took too long. It is a `SlowMachine` if the process got too little processor
                time.
            DecoderCrashed: the process died, or gave no valid answer. It is a `DecoderKilled` if another process or the
                system killed the process.
            DecodingUnavailable: the process ended, or did not answer, before it got the request.
            OSError: the system could not start the process, or the operation raised this error in the process.
            ImagingError, FolderMissing, ValueError: the operation raised this error in the process.
        """
        request = json.dumps({"operation": operation, "arguments": arguments}).encode()
        try:
            process = self._send(request, name)
            clock = _Clock(process)
            content = self._receive(process, clock, name=name, timeout_seconds=timeout_seconds)
            try:
                answer: _Answer[Any] = _Answer[result_type].model_validate_json(content)  # type: ignore[valid-type]
            except ValidationError as error:
                raise DecoderCrashed(
                    f"{name}: the process that decoded it gave no valid answer. The file is probably damaged; open it "
                    "in another program to check it."
                ) from error
        except BaseException:
            # The process is stopped, because the next call would otherwise receive the late answer of this call.
            self.stop(at_once=True)
            raise
        if answer.resident_bytes > MAX_RESIDENT_BYTES and self._successor is None:
            # This process continues if the system cannot start another one now.
            with contextlib.suppress(OSError):
                self._successor = self._new_process()
        if answer.failure is not None:
            failure = answer.failure.error()
            raise clock.blamed(failure) if isinstance(failure, ImageTimeout) else failure
        return cast("Result", answer.result)

    def kill(self) -> None:
        """Kill the process during a call in another thread. That call raises `DecoderCrashed`."""
        process = self._process
        if process is not None:
            process.popen.kill()

    def stop(self, *, at_once: bool = False) -> None:
        """End the process if one is running; with `at_once`, kill it. The next `call` starts another process."""
        processes = (self._process, self._successor)
        self._process = self._successor = None
        for process in processes:
            if process is not None:
                process.stop(at_once=at_once)

    def _new_process(self) -> _Process:
        return _Process(threads=self._threads, options=self._options)

    def _send(self, request: bytes, name: str) -> _Process:
        for _ in range(2):
            process = self._ready_process(name)
            try:
                process.connection.send_bytes(request)
            except OSError:
                # The process died after its last call, so it did not get this request. The request is sent once more,
                # to a new process.
                ending = self._ending()
            else:
                return process
        raise DecodingUnavailable(
            f"{name}: the image process died before it got the file ({ending}). Run the step again."
        )

    def _ready_process(self, name: str) -> _Process:
        if self._process is not None and self._successor is not None and self._successor.is_ready():
            self._process.stop()
            self._process, self._successor = self._successor, None
        if self._process is None:
            self._process, self._successor = self._successor or self._new_process(), None
            if not self._process.is_ready(wait_seconds=START_SECONDS):
                raise DecodingUnavailable(
                    f"{name}: the image process did not start ({self._ending()}). Look for the reason in the "
                    "standard error of photojobs. Remove this cause, then run the step again."
                )
        return self._process

    def _receive(self, process: _Process, clock: "_Clock", *, name: str, timeout_seconds: float) -> bytes:
        try:
            if process.connection.poll(timeout_seconds):
                return process.connection.recv_bytes(_MAX_ANSWER_BYTES)
        except (EOFError, OSError) as error:
            ending = self._ending()
            kind = DecoderKilled if ending == signal.SIGKILL.name else DecoderCrashed
            raise kind(
                f"{name}: the process that decoded it died ({ending}). The file is probably damaged, or the machine's "
                "memory ran out. Open the file in another program; if it is sound, lower the setting concurrency and "
                "run the step again."
            ) from error
        raise clock.blamed(
            ImageTimeout(
                f"{name}: decoding took longer than {timeout_seconds:g} seconds and was stopped. "
                "Raise the setting image_seconds if the file is a real picture."
            )
        )

    def _ending(self) -> str:
        """Stop the process, and return how it ended, in a few words."""
        code = None if self._process is None else self._process.exit_code()
        process, self._process = self._process, None
        if process is not None:
            process.stop(at_once=True)
        if code is None:
            return "it did not answer"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class _Clock:
    """Finds out whether a timeout was caused by the file or by a slow machine."""

    def __init__(self, process: _Process) -> None:
        self._process = process
        self._began_at = time.monotonic()
        self._processor_seconds = process.processor_seconds()

    def blamed(self, timeout: ImageTimeout) -> ImageTimeout:
        """Return the timeout, or a `SlowMachine` with the same text if the process got too little processor time."""
        now = self._process.processor_seconds()
        if now is None or self._processor_seconds is None:
            return timeout
        share = (now - self._processor_seconds) / (time.monotonic() - self._began_at)
        return SlowMachine(str(timeout)) if share < _FAIR_SHARE else timeout
