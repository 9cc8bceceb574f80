"""How other commands find the `photojobs up` that serves a database: its address, and its server's log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deployments.embedded_server.password import known_password
from deployments.server.prefect_server import SERVER_FOLDER
from deployments.server.server_api import ServerApi
from deployments.server.server_log import ServerError, errors_since
from storage.database.engine import Database
from storage.database.private_files import make_private_folder
from task_definitions.foreign_documents import UnreadableDocument, parse_json, read_foreign_file

_FILE = "up.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningUp:
    """A running `photojobs up` or `photojobs serve`.

    Attributes:
        api_url: the API's URL of its Prefect server.
        database: the URL of its database, without the password.
        server_log: the log of the server that it started; None if another program runs the server.
        log_begins_at: the size of the log in bytes before the start.
    """

    api_url: str
    database: str
    process_id: int
    server_log: str | None
    log_begins_at: int


@contextmanager
def announced(home: Path, running: RunningUp) -> Iterator[None]:
    """Let other commands find `running` while the block runs.

    Args:
        home: the `prefect_home` of its database, as other commands compute it.
        running: the data that they find.
    """
    make_private_folder(home)
    file = home / _FILE
    new = home / f"{_FILE}.{os.getpid()}"
    new.touch(mode=0o600)
    new.write_text(json.dumps(asdict(running)), encoding="utf-8")
    new.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def find_running_up(database: Database) -> RunningUp | None:
    """The `photojobs up` that serves a database; None if none runs."""
    file = prefect_home(database) / _FILE
    try:
        running = RunningUp(**parse_json(read_foreign_file(file), source=str(file)))
        os.kill(running.process_id, 0)
    except (OSError, TypeError, UnreadableDocument):
        # The file is missing, or a killed process left it behind.
        return None
    return running if running.database == database.url else None


def prefect_home(database: Database) -> Path:
    """The folder of an embedded Prefect server's database and log: PREFECT_HOME, else beside our database."""
    named = os.environ.get("PREFECT_HOME")
    if named:
        return Path(named)
    folder = Path.home() if database.path is None else database.path.absolute().parent
    return folder / ".photojobs-prefect"


def server_home(database: Database) -> Path:
    """The home of the embedded server of this database, with its runs and history: that of `photojobs up`."""
    return prefect_home(database) / SERVER_FOLDER


def server_of(database: Database) -> ServerApi | None:
    """Prefect's server that plans the runs of a database: the one in the environment, else that of a running `up`."""
    named = os.environ.get("PREFECT_API_URL")
    if named:
        return ServerApi(named.rstrip("/"))
    running = find_running_up(database)
    if running is None:
        return None
    own_home = None if running.server_log is None else Path(running.server_log).parent
    return ServerApi(running.api_url, None if own_home is None else known_password(own_home))


def server_errors(database: Database) -> list[ServerError]:
    """The errors that the server of the running `photojobs up` has logged since its start."""
    running = find_running_up(database)
    if running is None or running.server_log is None:
        return []
    return errors_since(Path(running.server_log), running.log_begins_at)
