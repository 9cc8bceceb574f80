"""Compares snapshots of a folder tree, and yields files and folders that moved, appeared, disappeared or were replaced.

Inode, size and mtime identify a file, so that a renamed file does not count as removed. The snapshots are stored in a
temporary database on disk, so that memory does not grow with the number of files.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.batches import batched
from storage.library.paths import PREVIEW_FOLDER, THUMB_FOLDER

_BATCH_SIZE = 5_000
_DERIVATIVE_FOLDERS = (os.fsencode(THUMB_FOLDER), os.fsencode(PREVIEW_FOLDER))


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeChange:
    """A difference between two snapshots of a tree.

    Attributes:
        action: `came` for a new entry, `went` for an entry that disappeared, `moved` for a new path, and `replaced` if
            the same name now has another file, or other contents.
        is_folder: whether the entry is a folder. The contents of a moved folder are not reported as moved.
        source: the old path, relative to the root; None if the entry came.
        target: the new path, relative to the root; None if the entry went.
        size_bytes: the size of the old file; 0 if it is not a regular file, or if the entry came.
        mtime_ns: the mtime of the old file, in nanoseconds since 1970; 0 for a folder, or if the entry came.
    """

    action: Literal["moved", "came", "went", "replaced"]
    is_folder: bool
    source: Path | None
    target: Path | None
    size_bytes: int
    mtime_ns: int


class LibraryTree:
    """Snapshots of one folder tree, in a scratch file. Use it as a context manager; the caller removes the file.

    Args:
        root: the folder.
        scratch: the path of a file that does not exist yet, outside of the root.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(scratch, check_same_thread=False, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._connection.execute(f"PRAGMA {pragma}")
        # Hard links share an inode, so only one of their names is stored. The thumbnail and the preview of a small
        # image are an exception: they may be hard links of one file, so the column `derivatives` distinguishes them.
        self._connection.executescript(
            "CREATE TABLE origins (inode INTEGER PRIMARY KEY, is_folder, size, mtime_ns, path BLOB);"
            + "".join(
                f"CREATE TABLE {table} (inode INTEGER, is_folder, size, mtime_ns, parent, name BLOB, path BLOB, "
                "derivatives BLOB, PRIMARY KEY (inode, derivatives)) WITHOUT ROWID;"
                for table in ("before", "after")
            )
        )

    def note_origins(self, pairs: Iterable[tuple[os.stat_result, Path]]) -> None:
        """Store which original each entry represents; `pairs` has each entry's status and its original's path."""
        for batch in batched(pairs, _BATCH_SIZE):
            rows = [(*_identity(status), os.fsencode(path)) for status, path in batch]
            with self._lock:
                self._connection.execute("BEGIN")
                self._connection.executemany("INSERT OR REPLACE INTO origins VALUES (?, ?, ?, ?, ?)", rows)
                self._connection.execute("COMMIT")

    def origin(self, path: Path) -> Path:
        """Return the path of the original that the entry at `path` represents, even after the entry has moved.

        If the entry represents no original, the result is `path`.

        Raises:
            FileNotFoundError: the path does not exist.
        """
        inode, is_folder, size, mtime_ns = _identity(path.lstat())
        with self._lock:
            row = self._connection.execute("SELECT * FROM origins WHERE inode = ?", (inode,)).fetchone()
        # A new file may have the inode of a removed one, but it has another time.
        is_known = row is not None and row[1] == is_folder and (is_folder or row[2:4] == (size, mtime_ns))
        return Path(os.fsdecode(row[4])) if is_known else path

    def look(self) -> None:
        """Take the first snapshot, with which the first call of `changes` compares."""
        self._record("before")

    def changes(self) -> Iterator[TreeChange]:
        """Take a snapshot and yield its differences from the previous one: new entries first, then by the old path.

        The caller must consume all differences. The next call compares with this snapshot.
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
        self._connection.executescript(_BEGIN_NEXT)

    def close(self) -> None:
        """Close the scratch file."""
        self._connection.close()

    def __enter__(self) -> LibraryTree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, table: str) -> None:
        with self._lock:
            self._connection.execute("BEGIN")
            for batch in batched(self._entries(), _BATCH_SIZE):
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
                # The contents are left out: a task that cannot list a folder does not change what is in it, either.
                continue


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    if stat.S_ISDIR(status.st_mode):
        return status.st_ino, 1, 0, 0
    # The size of a symlink is the length of its target, which differs in a copy of the tree, so 0 is stored instead.
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

# If one file went and another came with the same name, this is one change: `replaced`.
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

_BEGIN_NEXT = """
    DROP TABLE went; DROP TABLE came; DELETE FROM before;
    ALTER TABLE before RENAME TO older; ALTER TABLE after RENAME TO before; ALTER TABLE older RENAME TO after;"""
