"""Lets other commands find the `photojobs up` that serves a database: its address, and the log of its server.

`deployments.serving.up` refuses a second `up` for the same database, by a lock. `prefect_home` decides in which folder
the server's database and the logs are.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from deployments.embedded_server.password import known_password
from deployments.server.server_api import ServerApi
from deployments.server.server_log import ServerError, errors_since
from flows.orchestration.supervision import is_locked
from storage.database.engine import Database
from storage.database.private_files import make_private_folder, open_private
from task_definitions.foreign_documents import UnreadableDocument, parse_json, read_foreign_file

#: The subfolder in which `photojobs up` keeps the home of its server.
SERVER_FOLDER = "prefect"

_FILE = "up.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningUp:
    """The data of a running `photojobs up` or `photojobs serve`.

    Attributes:
        api_url: the URL of the API of its Prefect server.
        database: the URL of its database, without the password.
        process_id: the id of its process.
        server_log: the log of the server that it started; None if another program runs the server.
        log_begins_at: the size of the log in bytes when the server was started.
    """

    api_url: str
    database: str
    process_id: int
    server_log: str | None
    log_begins_at: int


@contextmanager
def announced(home: Path, running: RunningUp) -> Iterator[None]:
    """Let other commands find `running` while the block runs.

    Commands look in `home`, the `prefect_home` of the database.
    """
    make_private_folder(home)
    file = home / _FILE
    new = home / f"{_FILE}.{os.getpid()}"
    with open_private(new, "wb") as opened:
        # The lock ends with the process. The process id alone proves nothing: another process may get it, and in a
        # container, the first process always has the same one.
        with suppress(OSError):  # A network file system may have no locks; then commands do not find this `up`.
            fcntl.flock(opened, fcntl.LOCK_EX)
        opened.write(json.dumps(asdict(running)).encode())
        opened.flush()
        new.replace(file)
        try:
            yield
        finally:
            # Another `up` with another folder may have replaced the file.
            with suppress(FileNotFoundError):
                if os.path.samestat(file.stat(), os.fstat(opened.fileno())):
                    file.unlink()


def find_running_up(database: Database) -> RunningUp | None:
    """Return the `photojobs up` that serves a database; None if none runs."""
    file = prefect_home(database) / _FILE
    try:
        running = RunningUp(**parse_json(read_foreign_file(file), source=str(file)))
        os.kill(running.process_id, 0)
        if not is_locked(file):
            return None
    except (OSError, TypeError, UnreadableDocument):
        # The file is missing or damaged, or a killed process left it behind.
        return None
    return running if running.database == database.url else None


def prefect_home(database: Database) -> Path:
    """Return the folder of `photojobs up`: PREFECT_HOME, else one beside the SQLite file.

    For PostgreSQL and for a database in memory, the folder is in the home folder of the user.
    """
    named = os.environ.get("PREFECT_HOME")
    if named:
        return Path(named)
    folder = Path.home() if database.path is None else database.path.absolute().parent
    return folder / ".photojobs-prefect"


def server_home(database: Database) -> Path:
    """Return the home folder of the Prefect server that `photojobs up` without `--folder` starts for this database."""
    return prefect_home(database) / SERVER_FOLDER


def server_of(database: Database) -> ServerApi | None:
    """Return the Prefect server for a database: the one in the environment, else that of a running `photojobs up`.

    Return None if there is neither.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named:
        return ServerApi(named.rstrip("/"))
    running = find_running_up(database)
    if running is None:
        return None
    own_home = None if running.server_log is None else Path(running.server_log).parent
    return ServerApi(running.api_url, None if own_home is None else known_password(own_home))


def server_errors(database: Database) -> list[ServerError]:
    """Return the errors that the server of the running `photojobs up` has logged since its start.

    The list is empty if no `photojobs up` runs, or if it did not start the server.
    """
    running = find_running_up(database)
    if running is None or running.server_log is None:
        return []
    return errors_since(Path(running.server_log), running.log_begins_at)
