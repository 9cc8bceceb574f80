"""Reads the errors in the log of Prefect's server, and shows them to the user while the server runs."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from task_definitions.foreign_documents import UnreadableDocument, parse_json

logger = logging.getLogger("photojobs.server_log")

#: The name of the log in the server's folder.
SERVER_LOG = "server.log"

#: Seconds between two reads of the log.
LOOK_SECONDS = 1.0

#: The time after which the same error is reported again.
REPEAT_SECONDS = 600.0

#: At most this many bytes at the end of a log are read at once; errors before them are left out.
MAX_BYTES = 1_000_000

_RECORD = re.compile(r"(?P<at>\d\d:\d\d:\d\d\.\d{3}) \| (?P<level>[A-Z]+) +\| (?P<logger>\S+) - (?P<message>.*)")

#: Uvicorn's form of a record. Prefect's loggers do not format such messages, for example exceptions of requests.
_UVICORN_RECORD = re.compile(r"(?P<level>[A-Z]+): {2,}(?P<message>.*)")

#: Names of the scheduler's services and of its module, as records contain them.
_SCHEDULER = ("schedule_deployments", "schedule_recent_deployments", "services.scheduler")


@dataclass(frozen=True, slots=True)
class ServerError:
    """A record with the level ERROR or above in the server's log.

    Attributes:
        at: the time of day as the log states it; empty if the record has none.
        says: the message and the exception, on one line.
    """

    at: str
    says: str

    @property
    def is_of_scheduler(self) -> bool:
        """Whether the server's scheduler logged this error."""
        return any(name in self.says for name in _SCHEDULER)


def errors_in(lines: Iterable[str]) -> Iterator[ServerError]:
    """Yield the errors among the lines of a log, which has Prefect's text form or its JSON form."""
    record: tuple[str, str, str] | None = None
    last = ""
    for line in lines:
        begins = _begins(line)
        if begins is None:
            # In a traceback, the last line that is not indented is the exception.
            if line.strip() and not line.startswith((" ", "Traceback")):
                last = line.strip()
            continue
        yield from _error(record, last)
        record, last = begins, ""
    yield from _error(record, last)


def errors_since(log: Path, offset: int) -> list[ServerError]:
    """Return the errors in a log after its first `offset` bytes, the oldest first; empty if it cannot be read."""
    text, _ = _read(log, offset)
    return list(errors_in(text.splitlines()))


@contextmanager
def errors_shown(log: Path, *, since: int) -> Iterator[None]:
    """While the block runs, copy the errors after the first `since` bytes of the server's log to our own log.

    Of errors that differ only in numbers, one is copied within `REPEAT_SECONDS`.
    """
    stopped = threading.Event()
    thread = threading.Thread(target=_follow, args=(log, since, stopped), name="photojobs-server-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _follow(log: Path, offset: int, stopped: threading.Event) -> None:
    shown_at: dict[str, float] = {}
    while not stopped.wait(LOOK_SECONDS):
        text, offset = _read(log, offset)
        for error in errors_in(text.splitlines()):
            kind = re.sub(r"\d+", "0", error.says)
            if time.monotonic() - shown_at.get(kind, -REPEAT_SECONDS) >= REPEAT_SECONDS:
                shown_at[kind] = time.monotonic()
                logger.error("Prefect's server: %s; see %s", error.says, log)


def _read(log: Path, offset: int) -> tuple[str, int]:
    """Return the complete lines after `offset`, and the offset after them."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            if size < offset:
                # The log is shorter than before, because a new log has replaced it.
                offset = 0
            file.seek(max(offset, size - MAX_BYTES))
            content = file.read()
    except OSError:
        return "", offset
    whole = content[: content.rfind(b"\n") + 1]
    return whole.decode("utf-8", "replace"), size - len(content) + len(whole)


def _begins(line: str) -> tuple[str, str, str] | None:
    """Return the time, level and text of the record that begins in a line; None if none begins there."""
    if found := _RECORD.match(line):
        return found["at"], found["level"], f"{found['logger']}: {found['message']}"
    if found := _UVICORN_RECORD.match(line):
        return "", found["level"], f"uvicorn: {found['message']}"
    return _json_record(line) if line.startswith("{") else None


def _json_record(line: str) -> tuple[str, str, str] | None:
    try:
        record = parse_json(line, source="the log")
        message = record["msg"] % tuple(record["args"]) if record.get("args") else record["msg"]
        exception = record.get("exc_info") or {}
        text = f"{record['name']}: {message} {exception.get('type', '')}: {exception.get('message', '')}".rstrip(" :")
        at = datetime.fromtimestamp(record["created"]).strftime("%H:%M:%S.%f")[:-3]
        return at, str(record["levelname"]), text
    except (ValueError, KeyError, AttributeError, TypeError, UnreadableDocument):
        return None


def _error(record: tuple[str, str, str] | None, last: str) -> Iterator[ServerError]:
    if record is not None and record[1] in ("ERROR", "CRITICAL"):
        yield ServerError(record[0], " ".join(f"{record[2]} {last}".split()))
