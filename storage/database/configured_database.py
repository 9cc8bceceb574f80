"""Opens the database of the settings, once in each process, for calls without a database argument."""

from __future__ import annotations

import os
import threading

from storage.database.engine import Database
from storage.settings import Settings

_lock = threading.Lock()
_opened: tuple[tuple[int, str], Database] | None = None


def configured_database() -> Database:
    """Return the database of `Settings.load()`. Calls return the same object while the settings have the same URL.

    Raises:
        InvalidSettings: the settings are not valid.
        DatabaseUnavailable: the database URL is not valid, or the folder of the SQLite file does not exist.
    """
    global _opened
    url = Settings.load().database_url.get_secret_value()
    # A forked process must not use its parent's connections, so the key contains the id of the process.
    key = (os.getpid(), url)
    with _lock:
        if _opened is not None and _opened[0] == key:
            return _opened[1]
        database = Database(url)
        if _opened is not None and _opened[0][0] == os.getpid():
            _opened[1].close()
        _opened = (key, database)
        return database
