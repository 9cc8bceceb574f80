"""Creates files and folders that only their owner can read: databases, backups, settings with a password, logs.

Each file is created with its final mode. If the mode were set later, other users could open the file in the meantime.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600

#: The size from which a log is replaced by a new one when it is opened.
MAX_LOG_BYTES = 16 * 1024 * 1024


def make_private_folder(path: Path) -> None:
    """Create a folder and its missing parents with mode 0700; existing folders keep their mode."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            with suppress(FileExistsError):
                folder.mkdir(mode=FOLDER_MODE)


def open_private(path: Path, mode: str = "ab") -> IO[bytes]:
    """Open a file for writing bytes, by default at its end; a new file gets mode 0600."""
    return open(path, mode, opener=_private)


def open_private_log(path: Path) -> IO[bytes]:
    """Open a log for writing at its end. A log that has become large gets the name `<name>.1` first.

    An earlier file of that name is replaced. So both together stay small if the log is opened from time to time.
    """
    with suppress(FileNotFoundError):
        if path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    return open_private(path)


def create_private(path: Path) -> None:
    """Create an empty file with mode 0600 if it does not exist."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
