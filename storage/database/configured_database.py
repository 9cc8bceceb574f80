"""The database that the settings name, opened once per process, for calls that were given none."""

from __future__ import annotations

import os
import threading

from storage.database.engine import Database
from storage.settings import Settings

_lock = threading.Lock()
_opened: tuple[tuple[int, str], Database] | None = None


def configured_database() -> Database:
    """The database of `Settings.load()`; the same object until the settings name another one.

    Raises:
        InvalidSettings: the settings are wrong.
        DatabaseUnavailable: what they name cannot be a database.
    """
    global _opened
    url = Settings.load().database_url.get_secret_value()
    # A forked process must not go on with its parent's connections.
    key = (os.getpid(), url)
    with _lock:
        if _opened is not None and _opened[0] == key:
            return _opened[1]
        database = Database(url)
        if _opened is not None:
            _opened[1].engine.dispose(close=_opened[0][0] == os.getpid())
        _opened = (key, database)
        return database
