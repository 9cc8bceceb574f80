"""A backup is complete and overwrites nothing, and a restore gives the same rows."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from storage import Database, JobsRepository, Project, ProjectsRepository, Task
from storage.database.tables import metadata, move_intents
from storage.errors import DatabaseBusy, DatabaseUnavailable, SchemaMismatch, StorageError
from storage.library.atomic_write import STALE_TEMPORARY_SECONDS, temporary_path
from storage.upkeep import postgresql_archive
from storage.upkeep.backup import BackupFailed, RestoreFailed, backup, restore
from storage.upkeep.revisions import current_revision, head_revision, migrate_to, wait_for_other_changes
from storage.upkeep.schema_upgrade import DowngradeRefused, downgrade, upgrade
from tests.storage.database.test_concurrent_callers import while_open


def rows(database: Database) -> dict[str, list[Any]]:
    with database.connect() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(select(table)).all())) for table in metadata.sorted_tables
        }


@pytest.fixture
def empty_database(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[Database]:
    """A second database of the same kind, without tables."""
    is_postgresql = database.is_postgresql
    opened = Database(request.getfixturevalue("empty_postgresql_url") if is_postgresql else tmp_path / "empty.db")
    yield opened
    opened.close()


@pytest.fixture
def filled(
    database: Database,
    make_project: Callable[..., Project],
    make_photos: Callable[..., Any],
    make_task: Callable[..., Task],
) -> Database:
    """A database with rows of many kinds, and with characters that are difficult for file formats."""
    project = make_project("tab\t, comma, \\N \"quote\" 'x' ü \n newline")
    photo_ids = make_photos(project, 3, meta_json={"Make": "\\.", "list": [1, None, "\t"]})
    make_task("items", "projects", photo_ids=photo_ids, payload={"reason": "a\\b\n"})
    JobsRepository(database).enqueue(tenant_id="tenant", type="x", project_id=project.id)
    return database


def test_what_is_restored_is_what_was_there(filled: Database, empty_database: Database, tmp_path: Path) -> None:
    copy = backup(filled, tmp_path / "copy")
    restore(empty_database, copy)
    assert rows(empty_database) == rows(filled)
    with empty_database.connect() as connection:
        assert current_revision(connection) == head_revision()


def test_a_file_in_wal_mode_is_restored_from_a_place_where_nothing_can_be_written(
    sqlite_database: Database, tmp_path: Path
) -> None:
    copy = backup(sqlite_database, tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    # On a read-only disk, SQLite cannot create the file with the index of the WAL.
    (tmp_path / "copy-shm").symlink_to("/missing/index")
    restored = Database(tmp_path / "restored.db")
    restore(restored, copy)
    assert rows(restored) == rows(sqlite_database)
    restored.close()
    assert backup(Database(copy), tmp_path / "second").is_file()
    # A WAL with commits cannot be left out.
    (tmp_path / "copy-wal").write_bytes(b"commits")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(copy)
    for path in (copy, tmp_path / "elsewhere" / "link"):
        with pytest.raises(BackupFailed, match="unable to open"):
            backup(Database(path), tmp_path / "third")


def test_a_restored_database_goes_on_giving_out_new_ids(
    filled: Database, empty_database: Database, tmp_path: Path
) -> None:
    last = JobsRepository(filled).enqueue(tenant_id="tenant", type="x")
    restore(empty_database, backup(filled, tmp_path / "copy"))
    new = JobsRepository(empty_database).enqueue(tenant_id="tenant", type="x")
    assert new.id == last.id + 1
    project = ProjectsRepository(empty_database).create(project_name="p", project_folder="p")
    assert project.id == 2


def test_a_restored_database_gives_no_id_of_a_removed_row_out_again(
    filled: Database, empty_database: Database, tmp_path: Path
) -> None:
    removed = JobsRepository(filled).enqueue(tenant_id="tenant", type="x")
    with filled.begin() as connection:
        connection.execute(metadata.tables["jobs"].delete())
    restore(empty_database, backup(filled, tmp_path / "copy"))
    assert JobsRepository(empty_database).enqueue(tenant_id="tenant", type="x").id == removed.id + 1


def test_a_backup_overwrites_nothing(database: Database, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.write_text("precious")
    with pytest.raises(BackupFailed, match="exists"):
        backup(database, target)
    assert target.read_text() == "precious"


def test_two_backups_of_the_same_moment_are_two_files(sqlite_database: Database) -> None:
    first, second = backup(sqlite_database), backup(sqlite_database)
    assert first != second
    assert sqlite_database.path is not None
    pattern = re.escape(sqlite_database.path.name) + r"\.20251001T120000000Z(-1)?\.backup"
    assert all(
        re.fullmatch(pattern, path.name) and path.parent == sqlite_database.path.parent for path in (first, second)
    )


def test_a_backup_into_a_folder_gets_a_name_of_its_own(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    assert backup(database, folder).parent == folder
    assert [path.suffix for path in folder.iterdir()] == [".backup"]


def test_a_backup_that_cannot_be_written_leaves_nothing_behind(database: Database, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="cannot be"):
        backup(database, tmp_path / "missing" / "copy")
    assert not (tmp_path / "missing").exists()


def test_a_backup_removes_what_a_killed_backup_left_in_its_folder(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    temporary_path(folder / "killed.backup").write_bytes(b"half a copy")
    backup(sqlite_database, folder / "first")
    assert len(list(folder.iterdir())) == 2
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + STALE_TEMPORARY_SECONDS + 1)
    backup(sqlite_database, folder / "second")
    assert {path.name for path in folder.iterdir()} == {"first", "second"}


def test_a_backup_while_others_write_is_of_one_moment(sqlite_database: Database, tmp_path: Path) -> None:
    jobs = JobsRepository(sqlite_database)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            jobs.enqueue_with_items(tenant_id="tenant", type="x", items=[{"photo_id": None, "filename": "a"}] * 20)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = [backup(sqlite_database, tmp_path / f"copy-{number}") for number in range(5)]
    finally:
        stop.set()
        writer.join()
    for copy in copies:
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            (jobs_count,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
            (items_count,) = connection.execute("SELECT count(*) FROM job_items").fetchone()
            assert items_count == 20 * jobs_count


def test_a_file_that_another_program_keeps_locked_is_reported(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.upkeep.sqlite_schema.BUSY_TIMEOUT_SECONDS", 0.01)
    copy, locked = backup(sqlite_database, tmp_path / "copy"), tmp_path / "locked.db"
    with (
        contextlib.closing(Database(locked, busy_timeout_seconds=0.01)) as database,
        contextlib.closing(sqlite3.connect(locked, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RestoreFailed, match="another program keeps the file locked"):
            restore(database, copy)
        other.execute("CREATE TABLE a (x)")
        other.execute("COMMIT")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BackupFailed, match="locked"):
            backup(database, tmp_path / "second copy")
    assert not (tmp_path / "second copy").exists()


def test_a_backup_of_a_missing_file_is_refused_and_makes_none(tmp_path: Path) -> None:
    database = Database(tmp_path / "missing.db")
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        backup(database)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_holds_something_is_not_restored_into(filled: Database, tmp_path: Path) -> None:
    copy = backup(filled, tmp_path / "copy")
    before = rows(filled)
    with pytest.raises(RestoreFailed, match="not empty"):
        restore(filled, copy)
    assert rows(filled) == before
    letter = tmp_path / "letter"
    letter.write_text("Dear database,")
    if not filled.is_postgresql:
        with pytest.raises(DatabaseUnavailable, match="not a database"):
            restore(Database(letter), copy)
    assert letter.read_text() == "Dear database,"


def test_a_database_that_another_process_creates_meanwhile_is_not_restored_into(
    filled: Database, empty_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = backup(filled, tmp_path / "copy")

    def create(connection: Connection) -> None:
        wait_for_other_changes(connection)
        migrate_to(connection, "head")
        JobsRepository(connection).enqueue(tenant_id="tenant", type="only")

    if empty_database.is_postgresql:
        with pytest.raises(RestoreFailed, match="not empty"):
            while_open(empty_database, create, lambda: restore(empty_database, copy))
    else:

        def connect_later(*arguments: Any, **more: Any) -> sqlite3.Connection:
            monkeypatch.undo()
            with Database(empty_database.url).begin() as connection:
                create(connection)
            return sqlite3.connect(*arguments, **more)

        monkeypatch.setattr(sqlite3, "connect", connect_later)
        with pytest.raises(RestoreFailed, match="not empty"):
            restore(empty_database, copy)
    assert [job.type for job in JobsRepository(empty_database).list_by_tenant("tenant")] == ["only"]


def test_a_file_that_is_no_backup_is_refused(empty_database: Database, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("Dear backup,")
    with pytest.raises(RestoreFailed):
        restore(empty_database, letter)
    with pytest.raises(RestoreFailed, match="does not exist"):
        restore(empty_database, tmp_path / "missing")
    with pytest.raises(RestoreFailed, match="is not a file"):
        restore(empty_database, tmp_path)


def test_a_damaged_backup_is_refused_and_nothing_is_written(
    filled: Database, empty_database: Database, tmp_path: Path
) -> None:
    copy = backup(filled, tmp_path / "damaged")
    content = bytearray(copy.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = b"\xff" * len(content[middle : middle + 4096])
    copy.write_bytes(content)
    with pytest.raises(StorageError):
        restore(empty_database, copy)
    empty_database.migrate()
    assert rows(empty_database)["jobs"] == []


@pytest.mark.postgres
def test_an_archive_with_a_damaged_header_is_refused(
    postgresql_database: Database, empty_postgresql_url: str, tmp_path: Path
) -> None:
    copy = backup(postgresql_database, tmp_path / "copy")
    sound = copy.read_bytes()
    header = sound.index(b"PK\x01\x02")
    database = Database(empty_postgresql_url)
    # The byte 8 of a header in the directory says whether the part is encrypted, the byte 10 how it is compressed.
    for offset, value in ((8, 1), (10, 99)):
        content = bytearray(sound)
        for at in (found.start() for found in re.finditer(b"PK\x01\x02", sound[header:])):
            content[header + at + offset] = value
        copy.write_bytes(content)
        with pytest.raises(RestoreFailed, match="not a complete archive"):
            restore(database, copy)
    database.close()


@pytest.mark.postgres
def test_an_archive_whose_manifest_does_not_fit_is_refused(
    postgresql_database: Database, empty_postgresql_url: str, tmp_path: Path
) -> None:
    with postgresql_database.begin() as connection:
        connection.execute(text("CREATE DOMAIN mood AS text"))
        connection.execute(text("ALTER TABLE holds ADD COLUMN rating mood"))
    copy = backup(postgresql_database, tmp_path / "copy")
    changed = tmp_path / "changed"
    database = Database(empty_postgresql_url)
    for old, new, error, problem in (
        (f'"revision": "{head_revision()}"', '"revision": "9999"', SchemaMismatch, "9999"),
        ('"mood"', '"temper"', RestoreFailed, "'temper', which the server lacks"),
        ('"mood"', '"int; DROP TABLE photos"', RestoreFailed, "invalid type name"),
    ):
        with zipfile.ZipFile(copy) as source, zipfile.ZipFile(changed, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                is_manifest = name == "manifest.json"
                target.writestr(name, content.replace(old.encode(), new.encode()) if is_manifest else content)
        with pytest.raises(error, match=problem):
            restore(database, changed)
        with database.connect() as connection:
            assert current_revision(connection) is None
    database.close()


@pytest.mark.postgres
def test_columns_that_others_added_on_postgresql_are_restored(
    postgresql_database: Database, empty_postgresql_url: str, tmp_path: Path
) -> None:
    values = {
        "varchar(10)": "kept",
        "character(2)": "AT",
        "bit(3)": "101",
        "numeric(6,2)": "12.50",
        "character varying(5)[]": "{a,b}",
        "timestamp(3) with time zone": "2025-10-01 14:00:00.25+02",
        "interval day to second(1)": "1 day 00:00:01.5",
    }
    read = text("SELECT to_jsonb(jobs) FROM jobs")
    types = text("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'jobs'::regclass")
    with postgresql_database.begin() as connection:
        cursor = connection.connection.cursor()
        for type_, value in values.items():
            cursor.execute(f"""ALTER TABLE jobs ADD COLUMN "50% :{type_}" {type_} DEFAULT '{value}'""")
        JobsRepository(connection).enqueue(tenant_id="t", type="x")
    database = Database(empty_postgresql_url)
    restore(database, backup(postgresql_database, tmp_path / "copy"))
    for query in (read, types):
        with postgresql_database.connect() as before, database.connect() as after:
            assert after.execute(query).all() == before.execute(query).all()
    database.close()


@pytest.mark.postgres
def test_a_backup_of_postgresql_has_the_rows_of_a_table_that_another_program_changes_meanwhile(
    postgresql_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ProjectsRepository(postgresql_database).create(project_name="Alps", project_folder="alps")
    refused: list[str] = []

    def changed_meanwhile(connection: Connection) -> str | None:
        revision = current_revision(connection)
        try:
            with postgresql_database.begin() as other:
                other.execute(text("SET LOCAL lock_timeout = '20ms'"))
                other.execute(text("ALTER TABLE projects ADD COLUMN place float DEFAULT random()"))
        except DatabaseBusy:
            refused.append("projects")
        return revision

    monkeypatch.setattr(postgresql_archive, "current_revision", changed_meanwhile)
    with zipfile.ZipFile(backup(postgresql_database, tmp_path / "copy")) as archive:
        assert archive.read("projects.copy").count(b"\n") == 1
    assert refused == ["projects"]


@pytest.mark.postgres
def test_a_copy_of_one_kind_is_not_restored_into_the_other(
    sqlite_database: Database, postgresql_database: Database, empty_postgresql_url: str, tmp_path: Path
) -> None:
    empty = Database(empty_postgresql_url)
    with pytest.raises(RestoreFailed, match="SQLite file"):
        restore(empty, backup(sqlite_database, tmp_path / "sqlite"))
    empty.close()
    other = Database(tmp_path / "other.db")
    with pytest.raises(RestoreFailed, match="not an SQLite file"):
        restore(other, backup(postgresql_database, tmp_path / "postgresql"))
    other.close()


@pytest.mark.postgres
def test_another_programs_jobs_on_postgresql_are_refused(empty_postgresql_url: str) -> None:
    database = Database(empty_postgresql_url)
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE jobs (id int PRIMARY KEY, title text)"))
    with pytest.raises(SchemaMismatch, match="another program already uses: jobs"):
        database.migrate()
    with database.connect() as connection:
        assert connection.execute(text("SELECT to_regclass('projects')")).scalar() is None
    database.close()


@pytest.mark.postgres
def test_of_two_upgrades_of_postgresql_at_once_one_does_it_and_the_other_finds_it_done(
    empty_postgresql_url: str,
) -> None:
    barrier = threading.Barrier(2)
    changed: list[bool] = []

    def run() -> None:
        database = Database(empty_postgresql_url)
        barrier.wait()
        changed.append(upgrade(database).is_changed)
        database.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(changed) == [False, True]


def test_a_downgrade_keeps_what_other_programs_know_and_an_upgrade_brings_the_rest_back(
    filled: Database, tmp_path: Path
) -> None:
    before = rows(filled)
    report = downgrade(filled, force=True, backup_to=tmp_path / "copy")
    assert report.backup == tmp_path / "copy"
    assert report.backup.is_file()
    with filled.connect() as connection:
        assert current_revision(connection) == "0001"
        names = list(connection.execute(text("SELECT * FROM jobs")).keys())
    assert "payload_json" in names
    assert "claim_token" not in names
    filled.migrate()
    after = rows(filled)
    assert after["photos"] == before["photos"]
    assert len(after["jobs"]) == len(before["jobs"])
    assert after["tasks"] == []


def test_a_downgrade_is_refused_that_would_lose_unfinished_tasks(filled: Database, tmp_path: Path) -> None:
    before = rows(filled)
    with pytest.raises(DowngradeRefused, match="1 unfinished task"):
        downgrade(filled, backup_to=tmp_path / "copy")
    assert rows(filled) == before
    assert not (tmp_path / "copy").exists()
    downgrade(filled, "0002", backup_to=tmp_path / "copy")
    with filled.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM tasks")) == len(before["tasks"])


def test_a_downgrade_is_refused_while_files_of_an_interrupted_move_have_not_returned(
    database: Database, clock: Any, tmp_path: Path
) -> None:
    place = {"group_id": "a", "tenant_id": "t", "source": "t/a/x.jpg", "target": "t/b/x.jpg", "size_bytes": 1}
    with database.begin() as connection:
        connection.execute(move_intents.insert().values(**place, created_at=clock()))
    with pytest.raises(DowngradeRefused, match="1 file of interrupted moves"):
        downgrade(database, backup_to=tmp_path / "copy")
    downgrade(database, "0006", backup_to=tmp_path / "first")
    downgrade(database, force=True, backup_to=tmp_path / "second")


def test_a_downgrade_is_refused_that_would_forget_the_tenants_of_projects(
    database: Database, tmp_path: Path, make_project: Callable[..., Project]
) -> None:
    make_project("Alps", tenant_id=None)
    make_project("Iceland", tenant_id="anna")
    downgrade(database, "0002", backup_to=tmp_path / "first")
    with pytest.raises(DowngradeRefused, match="1 project of other tenants than user_0"):
        downgrade(database, backup_to=tmp_path / "second")
    downgrade(database, force=True, backup_to=tmp_path / "third")


def test_a_downgrade_of_a_missing_file_makes_none(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        downgrade(Database(tmp_path / "missing.db"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("revision", [head_revision(), "none"])
def test_a_downgrade_to_what_is_not_older_is_refused(database: Database, revision: str) -> None:
    with pytest.raises(SchemaMismatch):
        downgrade(database, revision)
