"""Commands that only read create nothing and change nothing, whatever they find."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import psycopg.sql
import pytest

from deployments.cli.command_line import build_app
from deployments.cli.output.help_pages import command_pages
from flows import Runtime, start_task
from storage import Database
from storage.upkeep.schema_upgrade import downgrade

Command = Callable[..., Any]

#: Each command that only reads, or whose option has it only read, as it is called here; and whether it needs the newest
#: schema.
READING = {
    "status": ("status", True),
    "doctor": ("doctor", False),
    "report": ("report --json", True),
    "plan": ("plan folder_discovery", True),
    "completion": ("completion bash", False),
    "db check": ("db check", False),
    "definitions list": ("definitions list", False),
    "definitions show": ("definitions show maintenance", False),
    "definitions lint": ("definitions lint", False),
    "definitions schema": ("definitions schema", False),
    "definitions graph": ("definitions graph --task begun", True),
    "definitions diff": ("definitions diff --task begun", True),
    "jobs list": ("jobs list", True),
    "jobs show": ("jobs show 1", True),
    "jobs items": ("jobs items 1", True),
    "jobs why": ("jobs why 1", True),
    "lanes list": ("lanes list", True),
    "library list": ("library list", True),
    "library verify": ("library verify", True),
    "steps list": ("steps list", False),
    "steps show": ("steps show manifest_check", False),
    "tasks list": ("tasks list", True),
    "tasks show": ("tasks show begun", True),
    "undo": ("undo --dry-run begun", True),
}

#: Each command that writes rows or files, or starts something that writes them.
WRITING = {
    "cancel",
    "db backup",
    "db downgrade",
    "db prune",
    "db restore",
    "db upgrade",
    "definitions new",
    "demo",
    "deploy",
    "hold",
    "init",
    "jobs cancel",
    "jobs retry",
    "lanes set",
    "library add-project",
    "release",
    "retry",
    "run",
    "serve",
    "start",
    "up",
    "worker",
}


def test_every_command_is_known_as_one_that_reads_or_one_that_writes() -> None:
    commands = {" ".join(page.path) for page in command_pages(build_app()) if page.path and not page.commands}
    assert READING.keys() | WRITING == commands
    assert not READING.keys() & WRITING


@pytest.fixture(params=["missing", "empty", "of another program", "of an older program", "older", "newest"])
def state(request: pytest.FixtureRequest, place: Any, _sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the database file into the state of this parameter; return the state. No process has the file open."""
    file = place.database_file
    (place.library / "user_0" / "alps").mkdir(parents=True)
    if request.param in ("older", "newest"):
        shutil.copy(_sqlite_template, file)
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        with contextlib.closing(Database(file)) as database, Runtime(database) as runtime, runtime.as_current():
            start_task(type="folder_discovery", tenant_id="user_0", task_id="begun")
            if request.param == "older":
                downgrade(database, "0005", force=True, backup_to=place.folder / "backup")
    elif request.param != "missing":
        columns = "tenant_id TEXT NOT NULL, project_id INTEGER NOT NULL, type TEXT NOT NULL, status TEXT NOT NULL"
        script = {
            "empty": "",
            "of another program": "CREATE TABLE notes (id INTEGER)",
            "of an older program": f"CREATE TABLE jobs (id INTEGER PRIMARY KEY, {columns}, created_at TEXT NOT NULL, "
            "payload_json TEXT)",
        }[request.param]
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.executescript(script)
    return str(request.param)


def test_a_command_that_only_reads_leaves_every_file_as_it_was(command: Command, place: Any, state: str) -> None:
    before = contents(place.folder)
    for line, needs_tables in READING.values():
        ran = command(*line.split())

        assert contents(place.folder) == before, line
        if line.startswith("undo "):
            assert ran.code == 2, (line, ran)
        elif state == "newest" or (line.startswith("plan ") and state == "missing"):
            assert ran.code == 0, (line, ran)
        elif needs_tables:
            assert (ran.code, len(ran.complaints)) == (2, 1), (line, ran)
            if state in ("older", "of an older program"):
                assert "`photojobs db upgrade` upgrades it, after a backup" in ran.complaints[0], line
        else:
            assert ran.code in (0, 1, 2), (line, ran)


@pytest.mark.postgres
@pytest.mark.parametrize("state", ["empty", "of another program", "newest"])
def test_a_command_that_only_reads_changes_nothing_on_postgresql(
    command: Command, place: Any, request: pytest.FixtureRequest, state: str
) -> None:
    url = request.getfixturevalue("postgresql_url" if state == "newest" else "empty_postgresql_url")
    (place.library / "user_0" / "alps").mkdir(parents=True)
    if state == "newest":
        with contextlib.closing(Database(url)) as database, Runtime(database) as runtime, runtime.as_current():
            start_task(type="folder_discovery", tenant_id="user_0", task_id="begun")
    with psycopg.connect(url, autocommit=True) as connection:
        if state == "of another program":
            connection.execute("CREATE TABLE jobs (id integer, name text)")
        before, files = rows(connection), contents(place.folder)
        for line, needs_tables in READING.values():
            ran = command(*line.split(), PHOTOJOBS_DATABASE_URL=url)

            assert (rows(connection), contents(place.folder)) == (before, files), line
            if needs_tables and state != "newest" and not line.startswith("undo "):
                assert (ran.code, len(ran.complaints)) == (2, 1), (line, ran)


def rows(connection: psycopg.Connection) -> dict[str, list[Any]]:
    """Return every table of a PostgreSQL database with its rows, and every sequence with its state."""
    names = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S', 'v')"
    ).fetchall()
    return {
        name: connection.execute(psycopg.sql.SQL("SELECT * FROM {}").format(psycopg.sql.Identifier(name))).fetchall()
        for (name,) in names
    }


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return every file below a folder with its bytes, and every folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    "line",
    ["run folder_discovery", "start folder_discovery", "plan folder_discovery", "library add-project Summer"],
)
def test_a_command_in_a_folder_without_a_library_leaves_no_file(command: Command, place: Any, line: str) -> None:
    place.library.rmdir()
    ran = command(*line.split())
    assert (ran.code, len(ran.complaints)) == (2, 1), ran
    assert contents(place.folder) == {}


def test_a_command_that_writes_upgrades_an_older_file_after_a_backup(command: Command, place: Any) -> None:
    with contextlib.closing(Database(place.database_file)) as database:
        database.migrate()
        downgrade(database, "0005", force=True, backup_to=place.folder / "first")
    before = place.files()

    assert command("lanes", "set", "normal", "--slots", "2").code == 0
    assert command("lanes", "list").code == 0
    (backup,) = place.files() - before
    assert backup.endswith(".backup")
