"""A folder with all that is in it, looked at again and again: what moved, came and went between two looks.

What is the same is told by inode, size and time of change, so that a rename is a rename and no removal. The looks are
kept in a scratch database on disk, so that memory stays flat however many files there are.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from storage.library.paths import PREVIEW_FOLDER, THUMB_FOLDER

_BATCH_SIZE = 5_000
_DERIVATIVE_FOLDERS = (os.fsencode(THUMB_FOLDER), os.fsencode(PREVIEW_FOLDER))


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeChange:
    """Something in the tree that is no longer what or where it was.

    Attributes:
        action: `replaced` where another file has taken the name of one that is gone.
        is_folder: whether it is a folder; what lies in a moved folder is not told of again.
        source: its path before, relative to the root; None where it came.
        target: its path now; None where it went.
        size_bytes: of the file before; 0 for what is no regular file, and for what came.
        mtime_ns: of the file before, in nanoseconds since 1970; 0 for folders and what came.
    """

    action: Literal["moved", "came", "went", "replaced"]
    is_folder: bool
    source: Path | None
    target: Path | None
    size_bytes: int
    mtime_ns: int


class LibraryTree:
    """The looks at one folder. Use it as a context manager; its scratch file is the caller's to remove.

    Args:
        root: the folder.
        scratch: a file that does not exist yet, not below the root.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(scratch, check_same_thread=False, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._connection.execute(f"PRAGMA {pragma}")
        # Hard links have one inode: all but one of their names are left out of account. But the thumbnail and the
        # preview of a small picture may be one file, and both count.
        self._connection.executescript(
            "CREATE TABLE origins (inode INTEGER PRIMARY KEY, is_folder, size, mtime_ns, path BLOB);"
            + "".join(
                f"CREATE TABLE {table} (inode INTEGER, is_folder, size, mtime_ns, parent, name BLOB, path BLOB, "
                "derivatives BLOB, PRIMARY KEY (inode, derivatives)) WITHOUT ROWID;"
                for table in ("before", "after")
            )
        )

    def note_origins(self, pairs: Iterable[tuple[os.stat_result, Path]]) -> None:
        """Remember what each thing in the tree, as it is now, stands for."""
        iterator = iter(pairs)
        while batch := list(islice(iterator, _BATCH_SIZE)):
            rows = [(*_identity(status), os.fsencode(path)) for status, path in batch]
            with self._lock:
                self._connection.execute("BEGIN")
                self._connection.executemany("INSERT OR REPLACE INTO origins VALUES (?, ?, ?, ?, ?)", rows)
                self._connection.execute("COMMIT")

    def origin(self, path: Path) -> Path:
        """What something in the tree stands for, wherever it has moved; the path itself where it stands for nothing.

        Raises:
            FileNotFoundError: there is nothing at the path.
        """
        inode, is_folder, size, mtime_ns = _identity(path.lstat())
        with self._lock:
            row = self._connection.execute("SELECT * FROM origins WHERE inode = ?", (inode,)).fetchone()
        # An inode is given anew when its file is gone; the time is another then.
        is_known = row is not None and row[1] == is_folder and (is_folder or row[2:4] == (size, mtime_ns))
        return Path(os.fsdecode(row[4])) if is_known else path

    def look(self) -> None:
        """Look at the tree for the first time: what `changes` tells is against this."""
        self._record("before")

    def changes(self) -> Iterator[TreeChange]:
        """Look at the tree again, and tell what is different from the last look, in the order of paths; streamed.

        It has to be read to its end, which makes this look the one that the next is held against.
        """
        self._record("after")
        self._connection.executescript(_FIND_CHANGES)
        reader = self._connection.cursor()
        for is_folder, size, mtime_ns, source, target, replaced in reader.execute(_CHANGES):
            yield TreeChange(
                action="replaced" if replaced else "came" if source is None else "went" if target is None else "moved",
                is_folder=bool(is_folder),
                source=_path(source),
                target=_path(target),
                size_bytes=size,
                mtime_ns=mtime_ns,
            )
        self._connection.executescript(_GO_ON)

    def close(self) -> None:
        """Close the scratch file."""
        self._connection.close()

    def __enter__(self) -> LibraryTree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, table: str) -> None:
        entries = self._entries()
        with self._lock:
            self._connection.execute("BEGIN")
            while batch := list(islice(entries, _BATCH_SIZE)):
                self._connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", batch)
            self._connection.execute("COMMIT")

    def _entries(self) -> Iterator[tuple[int, int, int, int, int, bytes, bytes, bytes]]:
        if not self._root.is_dir():
            return
        waiting = [(self._root.lstat().st_ino, b"", os.fsencode(self._root))]
        while waiting:
            parent, prefix, folder = waiting.pop()
            last = folder.rpartition(b"/")[2]
            derivatives = last if last in _DERIVATIVE_FOLDERS else b""
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        identity = _identity(entry.stat(follow_symlinks=False))
                        path = prefix + entry.name
                        yield (*identity, parent, entry.name, path, derivatives)
                        if identity[1]:
                            waiting.append((identity[0], path + b"/", entry.path))
            except PermissionError:
                # Nobody can have changed what nobody can list.
                continue


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    if stat.S_ISDIR(status.st_mode):
        return status.st_ino, 1, 0, 0
    # A link's size is the length of its target, and that of a link which stands in for one is another.
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return status.st_ino, 0, size, status.st_mtime_ns


def _path(text: bytes | None) -> Path | None:
    return None if text is None else Path(os.fsdecode(text))


_SAME = (
    "a.inode = b.inode AND a.derivatives = b.derivatives AND a.is_folder = b.is_folder AND a.size = b.size "
    "AND a.mtime_ns = b.mtime_ns"
)
_TAKEN = "a.parent = b.parent AND a.name = b.name AND a.is_folder = b.is_folder"

_FIND_CHANGES = f"""
    CREATE TEMPORARY TABLE went AS SELECT * FROM before AS b WHERE NOT EXISTS (SELECT 1 FROM after AS a WHERE {_SAME});
    CREATE TEMPORARY TABLE came AS SELECT * FROM after AS a WHERE NOT EXISTS (SELECT 1 FROM before AS b WHERE {_SAME});
    CREATE INDEX went_names ON went (parent, name);
    CREATE INDEX came_names ON came (parent, name);"""

# What has gone while another came under its name is told of once.
_CHANGES = f"""
    SELECT b.is_folder, b.size, b.mtime_ns, b.path, a.path, 0 FROM before AS b JOIN after AS a ON {_SAME}
        WHERE a.parent <> b.parent OR a.name <> b.name
    UNION ALL
    SELECT b.is_folder, b.size, b.mtime_ns, b.path, a.path, 1 FROM went AS b JOIN came AS a ON {_TAKEN}
    UNION ALL
    SELECT b.is_folder, b.size, b.mtime_ns, b.path, NULL, 0 FROM went AS b
        WHERE NOT EXISTS (SELECT 1 FROM came AS a WHERE {_TAKEN})
    UNION ALL
    SELECT a.is_folder, 0, 0, NULL, a.path, 0 FROM came AS a
        WHERE NOT EXISTS (SELECT 1 FROM went AS b WHERE {_TAKEN})
    ORDER BY 4, 5"""

_GO_ON = """
    DROP TABLE went; DROP TABLE came; DELETE FROM before;
    ALTER TABLE before RENAME TO older; ALTER TABLE after RENAME TO before; ALTER TABLE older RENAME TO after;"""
