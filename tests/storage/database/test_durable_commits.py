"""A durable commit is on the disk of an SQLite file before the caller continues."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from storage import Database, ProjectsRepository


class Disk:
    """Copies of the database's files at their last sync: the state that a power cut leaves."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        self._database = database
        self.synced: list[Path] = []

    def note(self, path: Path) -> None:
        self.synced.append(path)
        if path.is_file():
            shutil.copy(path, self.folder / path.name)

    def project_names(self) -> list[str]:
        with closing(sqlite3.connect(self.folder / self._database.name)) as left:
            return [name for (name,) in left.execute("SELECT project_name FROM projects ORDER BY id")]


@pytest.fixture
def disk(sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    path = sqlite_database.path
    assert path is not None
    folder = tmp_path / "disk"
    folder.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    found = Disk(folder, path)
    found.note(path)
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        found.note(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", noted)
    return found


def add_project(database: Database, name: str, *, durable: bool) -> None:
    with database.begin(durable=durable) as connection:
        ProjectsRepository(connection).create(project_name=name, project_folder=name, tenant_id="tenant")


def test_a_durable_commit_and_all_before_it_are_on_the_disk(sqlite_database: Database, disk: Disk) -> None:
    add_project(sqlite_database, "Iceland", durable=False)
    assert disk.project_names() == []
    add_project(sqlite_database, "Norway", durable=True)
    assert disk.project_names() == ["Iceland", "Norway"]
    path = sqlite_database.path
    assert path is not None
    # The folder is synced too, because SQLite may have just created the log.
    assert disk.synced[-1] == path.parent


def test_commits_are_on_the_disk_after_a_sync(sqlite_database: Database, disk: Disk) -> None:
    add_project(sqlite_database, "Iceland", durable=False)
    sqlite_database.sync()
    assert disk.project_names() == ["Iceland"]


def test_the_log_of_a_file_that_a_symlink_names_is_synced(
    sqlite_database: Database, disk: Disk, tmp_path: Path
) -> None:
    assert sqlite_database.path is not None
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "named.db"
    link.symlink_to(sqlite_database.path)
    database = Database(link)
    add_project(database, "Iceland", durable=True)
    assert disk.project_names() == ["Iceland"]
    database.close()


def test_a_relative_path_names_the_same_file_in_every_later_working_folder(
    sqlite_database: Database, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sqlite_database.path
    assert path is not None
    monkeypatch.chdir(path.parent)
    database = Database(f"sqlite:///{path.name}")
    monkeypatch.chdir(disk.folder)
    add_project(database, "Iceland", durable=True)
    assert disk.project_names() == ["Iceland"]
    assert database.path == path
    database.close()


def test_a_sync_releases_no_lock_of_a_transaction(sqlite_database: Database) -> None:
    path = sqlite_database.path
    assert path is not None
    # Locks of SQLite belong to a process, so only another process shows whether they are still held.
    write = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with sqlite_database.begin():
        sqlite_database.sync()
        other = subprocess.run([sys.executable, "-c", write], capture_output=True, text=True, check=False)
    assert "database is locked" in other.stderr


def test_a_database_without_a_log_can_be_synced(tmp_path: Path) -> None:
    database = Database(tmp_path / "new.db")
    database.sync()
    database.close()


def test_a_file_system_that_cannot_sync_folders_is_enough(
    sqlite_database: Database, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def of_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files)
    add_project(sqlite_database, "Iceland", durable=True)
    assert disk.project_names() == ["Iceland"]
