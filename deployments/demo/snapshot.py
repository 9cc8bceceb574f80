"""Takes a snapshot of a library and its rows, to prove that a run changed nothing, or to show what it changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from storage.database.engine import Database
from storage.database.tables import photo_tags, photos, projects, tags


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a library: a text for each file and for each row of a project, photo or tag, by its name."""

    files: dict[str, str]
    rows: dict[str, str]

    def differences(self, later: Snapshot) -> list[str]:
        """Return the differences between this snapshot and a later one, each as one line."""
        return [
            f"{what}: {name}"
            for before, after in ((self.files, later.files), (self.rows, later.rows))
            for name in sorted(before.keys() | after.keys())
            for what in (_difference(before.get(name), after.get(name)),)
            if what is not None
        ]


def take_snapshot(root: Path, database: Database) -> Snapshot:
    """Read the files below `root` with their contents and times, and the rows of projects, photos and tags."""
    files = {
        path.relative_to(root).as_posix(): f"{path.lstat().st_mtime_ns} {_digest(path)}"
        for path in root.rglob("*")
        if path.is_file() or path.is_symlink()
    }
    rows: dict[str, str] = {}
    with database.connect() as connection:
        for table in (projects, photos, tags, photo_tags):
            for row in connection.execute(select(table)):
                key = ", ".join(str(getattr(row, column.name)) for column in table.primary_key)
                rows[f"{table.name} {key}"] = repr(tuple(row))
    return Snapshot(files, rows)


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _difference(before: str | None, after: str | None) -> str | None:
    if before == after:
        return None
    if before is None:
        return "new"
    return "deleted" if after is None else "changed"
