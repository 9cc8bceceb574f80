"""The commands of `photojobs db` print what they did, and return the right exit codes."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.command_line import run_command_line
from storage.upkeep.revisions import head_revision

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "library.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTOJOBS_DATABASE_URL", f"sqlite:///{path}")
    return path


@pytest.fixture
def db(path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `photojobs db …`; return its exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command_line(["db", *arguments])
        return code, *capsys.readouterr()

    return run


def execute(path: Path, *statements: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


@pytest.fixture
def migrated(db: Command, path: Path) -> Path:
    assert db("upgrade")[0] == 0
    return path


def add_job(path: Path, *, status: str) -> None:
    execute(
        path,
        f"""INSERT INTO jobs (tenant_id, type, status, scope, created_at)
        VALUES ('t', 'x', '{status}', 'global', '2025-10-01T12:00:00.000Z')""",
    )


def test_an_upgrade_is_told_and_the_second_one_does_nothing(db: Command, path: Path) -> None:
    execute(
        path,
        """CREATE TABLE jobs (id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL, project_id INTEGER NOT NULL,
        type TEXT NOT NULL, status TEXT NOT NULL, created_at TEXT NOT NULL, payload_json TEXT)""",
        "INSERT INTO jobs VALUES (7, 't', 1, 'x', 'completed', '2025-10-01T12:00:00.000Z', NULL)",
    )
    code, out, _ = db("check")
    assert "before_scopes" in out
    code, out, _ = db("upgrade")
    assert code == 0
    assert f"none -> {head_revision()}" in out
    assert "before_scopes" in out
    backup = next(path.parent.glob("library.db.*.backup"))
    assert str(backup) in out
    assert execute(path, "SELECT id, scope FROM jobs") == [(7, "project")]
    code, out, _ = db("upgrade")
    assert (code, "already has the newest schema" in out) == (0, True)
    report = json.loads(db("upgrade", "--json")[1])
    assert (report["from_revision"], report["backup"]) == (head_revision(), None)


def test_a_check_exits_with_1_where_something_is_wrong(db: Command, migrated: Path) -> None:
    assert db("check")[0] == 0
    add_job(migrated, status="lost")
    code, out, _ = db("check")
    assert code == 1
    assert "unknown status" in out
    code, out, _ = db("check", "--json")
    document = json.loads(out)
    assert (code, document["is_sound"]) == (1, False)
    assert document["report"]["findings"][0]["name"] == "unknown_job_status"


def test_a_check_of_a_missing_file_fails_in_one_line_and_makes_none(db: Command, path: Path) -> None:
    code, out, error = db("check")
    assert (code, out) == (2, "")
    assert error.startswith("photojobs: ")
    assert error.count("\n") == 1
    assert not path.exists()


def test_a_backup_is_restored_into_a_new_database(db: Command, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_job(migrated, status="queued")
    assert json.loads(db("backup", "copy", "--json")[1]) == {"backup": "copy"}
    code, _, error = db("restore", "copy")
    assert (code, "not empty" in error) == (2, True)
    monkeypatch.setenv("PHOTOJOBS_DATABASE_URL", "sqlite:///new.db")
    code, out, _ = db("restore", "copy")
    assert (code, "restored copy" in out) == (0, True)
    assert execute(Path("new.db"), "SELECT status FROM jobs") == [("queued",)]


def test_a_downgrade_is_told_with_its_backup(db: Command, migrated: Path) -> None:
    code, out, _ = db("downgrade", "--backup", "before")
    assert code == 0
    assert f"{head_revision()} -> 0001" in out
    assert Path("before").is_file()
    assert execute(migrated, "SELECT name FROM sqlite_master WHERE name = 'tasks'") == []
    assert db("downgrade")[0] == 2
    assert db("upgrade")[0] == 0


def test_pruning_says_what_it_removed_and_leaves_what_is_young_or_has_not_ended(db: Command, migrated: Path) -> None:
    add_job(migrated, status="queued")
    for age in (2, 40):
        add_job(migrated, status="failed")
        moment = f"strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-{age} days')"
        execute(migrated, f"UPDATE jobs SET finished_at = {moment} WHERE status = 'failed' AND finished_at IS NULL")
    code, out, _ = db("prune", "--older-than-days", "30", "--json")
    counts = {"tasks": 0, "jobs": 1, "items": 0, "journal_entries": 0, "kept": 0}
    assert (code, json.loads(out)) == (0, {**counts, "reasons": {}})
    assert execute(migrated, "SELECT id FROM jobs ORDER BY id") == [(1,), (2,)]
    execute(migrated, "CREATE TABLE notes (job_id REFERENCES jobs)", "INSERT INTO notes VALUES (2)")
    code, out, _ = db("prune", "--older-than-days", "1")
    assert (code, "\nkept             1\njob 2: rows of other programs depend on it (notes), so it is kept" in out) == (
        0,
        True,
    )
    code, out, error = db("prune", "--older-than-days", "-1")
    assert (code, out, error.count("\n")) == (2, "", 1)
