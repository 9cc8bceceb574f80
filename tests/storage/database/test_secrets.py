"""No output shows a password, and only the owner can read files that may contain one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import make_url

from storage import Database
from storage.database import private_files
from storage.database.database_url import shown_url
from storage.database.private_files import make_private_folder, open_private, open_private_log
from storage.errors import DatabaseUnavailable
from storage.upkeep.backup import backup


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hunter2@host:5432/photos", "postgresql://me:***@host:5432/photos"),
        ("postgresql://me@host/photos?password=hunter2&sslmode=require", "postgresql://me@host/photos?sslmode=require"),
        ("postgresql://host/photos?passfile=/hunter2&sslpassword=hunter2", "postgresql://host/photos"),
        ("sqlite:////srv/photos.db?mode=ro&key=hunter2", "sqlite:////srv/photos.db?mode=ro"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert shown_url(make_url(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "me:hunter2@host/photos",
        "postgresql:/me:hunter2@host/photos",
        "//me:hunter2@host/photos",
        "postgresql://me:hunter2@host:port/photos",
        "postgresql://me:hunt@er2@host/photos",
        "mysql://me:hunter2@host/photos",
    ],
)
def test_a_url_that_is_not_valid_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        Database(url)
    assert "hunter2" not in str(refusal.value)
    assert "er2" not in str(refusal.value)


def test_a_server_that_does_not_answer_is_named_without_the_password_of_its_options() -> None:
    database = Database("postgresql://me@127.0.0.1:1/photos?password=hunter2")
    with pytest.raises(DatabaseUnavailable) as refusal, database.connect():
        pass
    assert "hunter2" not in str(refusal.value)
    assert "127.0.0.1" in str(refusal.value)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", ["photojobs.db", "symlink"])
def test_a_new_database_and_its_backup_are_their_owners_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "symlink").symlink_to("photojobs.db")
    before = os.umask(0o022)
    try:
        database = Database(tmp_path / name)
        database.migrate()
        backup(database, tmp_path / "copy.db")
        files = {path.name: mode(path) for path in tmp_path.iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert {"photojobs.db", "copy.db"} <= set(files)
    assert set(files.values()) == {0o600}


def test_a_backup_of_either_database_is_its_owners_alone(database: Database, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        copy = backup(database, tmp_path / "copy")
    finally:
        os.umask(before)
    assert mode(copy) == 0o600


def test_a_database_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "photojobs.db"
    file.touch(mode=0o644)
    file.chmod(0o640)
    database = Database(file)
    database.migrate()
    database.close()
    assert mode(file) == 0o640


def test_private_folders_and_files_are_made_so_and_those_that_exist_are_left(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "a" / "b")
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700
    tmp_path.joinpath("shared").mkdir(mode=0o755)
    make_private_folder(tmp_path / "shared")
    assert mode(tmp_path / "shared") == 0o755
    with open_private(tmp_path / "log") as file:
        file.write(b"x")
    assert mode(tmp_path / "log") == 0o600


def test_a_log_that_has_become_large_is_replaced_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_files, "MAX_LOG_BYTES", 5)
    log = tmp_path / "server.log"
    for text in (b"first", b"+", b"second"):
        with open_private_log(log) as opened:
            opened.write(text)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "server.log": b"second",
        "server.log.1": b"first+",
    }
    assert mode(log) == 0o600
