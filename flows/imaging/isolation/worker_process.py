"""The program of a process that decodes images. It runs one operation after the other, and ends when its parent ends.

`worker.py` controls the process from the parent. Requests and answers are JSON. The program uses no pools, jobs or SQL.
"""

import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from flows.imaging.errors import ImageTooLarge
from flows.imaging.limits import ImageLimits, ImageOptions, Rendition
from flows.imaging.metadata import read_metadata
from flows.imaging.pixels import vips
from flows.imaging.thumbnail_and_preview import inspect_image, write_derivatives

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MAX_TEXT_CHARACTERS: Final = 2000

#: A function that runs one operation. The result must be a JSON value or a dataclass of JSON values.
Operation = Callable[..., Any]


def main(more: Mapping[str, Operation] | None = None) -> None:
    """Serve requests until the connection is closed.

    The command line has three arguments: the descriptor of the connection; the descriptor of a pipe that closes when
    the parent dies; and JSON with the image options and the number of threads for libvips.

    Args:
        more: further operations by name.
    """
    connection_descriptor, lifeline = int(sys.argv[1]), int(sys.argv[2])
    given = json.loads(sys.argv[3])
    options = ImageOptions(
        limits=ImageLimits(**given["limits"]),
        thumbnail=Rendition(**given["thumbnail"]),
        preview=Rendition(**given["preview"]),
    )
    if sys.platform == "linux":
        _limit_memory(options.limits.max_memory_bytes)
    # Ctrl-C in a terminal sends SIGINT to all processes. This process ignores the signal, so that only the parent
    # reacts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    vips.set_threads(given["threads"])
    with Connection(connection_descriptor) as connection:
        _serve(connection, _operations(options) | dict(more or {}))


def _limit_memory(max_bytes: int) -> None:
    """Make an image that needs more memory fail, so that the machine does not run out of memory."""
    inherited = resource.getrlimit(resource.RLIMIT_AS)[1]
    # Only the superuser may raise a limit that the process has inherited, for example from `ulimit -v`.
    limit = max_bytes if inherited == resource.RLIM_INFINITY else min(max_bytes, inherited)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _operations(options: ImageOptions) -> dict[str, Operation]:
    def write(source: str, *, thumbnail: str | None, preview: str | None, **others: Any) -> Any:
        return write_derivatives(
            Path(source),
            thumbnail=None if thumbnail is None else Path(thumbnail),
            preview=None if preview is None else Path(preview),
            options=options,
            **others,
        )

    return {
        "write_derivatives": write,
        "read_metadata": lambda source: read_metadata(Path(source)),
        "inspect_image": lambda source: inspect_image(Path(source), limits=options.limits),
    }


def _serve(connection: Connection, operations: Mapping[str, Operation]) -> None:
    connection.send_bytes(b"ready")
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        answer = _answer(operations[request["operation"]], request["arguments"])
        answer["resident_bytes"] = _resident_bytes()
        try:
            # File names may contain invalid Unicode. It is replaced, because the parser of the parent refuses it.
            connection.send_bytes(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace"))
        except OSError:
            return


def _answer(operation: Operation, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        result = operation(**arguments)
    except MemoryError:
        return _failure(
            ImageTooLarge(
                f"{Path(arguments['source']).name}: decoding needs more memory than image_memory_megabytes allows. "
                "Raise this setting if the file is a real picture."
            )
        )
    except Exception as error:  # noqa: BLE001 - raised again in the parent.
        return _failure(error)
    return {"result": asdict(result) if hasattr(result, "__dataclass_fields__") else result}


def _failure(error: Exception) -> dict[str, Any]:
    number, filename, text = None, None, str(error)
    if isinstance(error, OSError):
        number, filename = error.errno, error.filename
        text = text if number is None else str(error.strerror)
    return {
        "failure": {
            "kinds": [kind.__name__ for kind in type(error).__mro__],
            "text": text[:_MAX_TEXT_CHARACTERS],
            "errno": number,
            "filename": None if filename is None else str(filename),
        }
    }


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - a path object for each image costs more.
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        # Systems other than Linux provide only the highest memory use so far.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _die_with_parent(lifeline: int) -> None:
    # The parent has the other end of the pipe and writes nothing, so the read returns when the parent dies. A separate
    # thread reads, because the main thread cannot react while it decodes.
    os.read(lifeline, 1)
    os._exit(0)
