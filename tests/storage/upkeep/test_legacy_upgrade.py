"""Files of earlier programs are upgraded in place, and these programs can still use them."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from storage import Database, Job, JobsRepository
from storage.errors import DatabaseBusy, DatabaseReadOnly, DatabaseUnavailable, SchemaMismatch, StorageError
from storage.upkeep import migrations
from storage.upkeep.revisions import head_revision, known_revisions
from storage.upkeep.schema_upgrade import UpgradeReport, downgrade, upgrade

#: The long form kills the upgrade at every moment, the short form at some moments and around the COMMIT.
IS_FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"

T = "2025-10-01T12:00:00.000Z"
LATER = "2025-10-02T08:30:00.250Z"

PROJECTS = """CREATE TABLE projects (id INTEGER PRIMARY KEY AUTOINCREMENT, project_folder TEXT NOT NULL UNIQUE,
    project_name TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, schema_version TEXT{more})"""
PHOTOS = """CREATE TABLE photos (id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL,
    manifest_id TEXT UNIQUE, filename TEXT NOT NULL, basename TEXT, ext TEXT, created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL, date_time_original TEXT, jpg_available INTEGER NOT NULL, raw_available INTEGER NOT NULL,
    other_available INTEGER NOT NULL, keep_jpg INTEGER NOT NULL, keep_raw INTEGER NOT NULL, thumbnail_status TEXT,
    preview_status TEXT, orientation INTEGER, meta_json TEXT{more},
    FOREIGN KEY (project_id) REFERENCES projects(id) ON DELETE CASCADE)"""
TAGS = """CREATE TABLE tags (id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL, name TEXT NOT NULL,
    UNIQUE(project_id, name), FOREIGN KEY (project_id) REFERENCES projects(id) ON DELETE CASCADE);
    CREATE TABLE photo_tags (photo_id INTEGER NOT NULL, tag_id INTEGER NOT NULL, PRIMARY KEY (photo_id, tag_id),
    FOREIGN KEY (photo_id) REFERENCES photos(id) ON DELETE CASCADE,
    FOREIGN KEY (tag_id) REFERENCES tags(id) ON DELETE CASCADE)"""
JOBS = """CREATE TABLE {name} (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant_id TEXT NOT NULL, -- whose, and when
    project_id INTEGER{project}, type TEXT NOT NULL, status TEXT NOT NULL, created_at TEXT NOT NULL, started_at TEXT,
    finished_at TEXT, progress_total INTEGER, progress_done INTEGER, payload_json TEXT, error_message TEXT,
    worker_id TEXT, heartbeat_at TEXT{more}, FOREIGN KEY (project_id) REFERENCES projects(id) ON DELETE {action})"""
ITEMS = """CREATE TABLE job_items (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant_id TEXT NOT NULL,
    job_id INTEGER NOT NULL, photo_id INTEGER, filename TEXT, status TEXT NOT NULL, message TEXT,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, FOREIGN KEY (job_id) REFERENCES {jobs}(id) ON DELETE CASCADE,
    FOREIGN KEY (photo_id) REFERENCES photos(id) ON DELETE SET NULL)"""
FOREIGN = """CREATE TABLE photo_public_hashes (photo_id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE,
        FOREIGN KEY (photo_id) REFERENCES photos(id) ON DELETE CASCADE);
    CREATE TABLE public_links (id INTEGER PRIMARY KEY, title TEXT, job_id INTEGER REFERENCES jobs(id))"""

JOB_MORE = {
    "priority": "INTEGER NOT NULL DEFAULT 0",
    "scope": "TEXT NOT NULL",
    "attempts": "INTEGER NOT NULL DEFAULT 0",
    "max_attempts": "INTEGER",
    "last_error_at": "TEXT",
    "updated_at": "TEXT",
}
PROJECT_MORE = {"status": "TEXT", "archived_at": "TEXT", "manifest_version": "TEXT DEFAULT '1.0'"}
PHOTO_MORE = {"visibility": "TEXT NOT NULL DEFAULT 'private'"}
INDEXES = """CREATE INDEX idx_jobs_status ON jobs(status);
    CREATE INDEX idx_jobs_tenant_status ON jobs(tenant_id, status);
    CREATE INDEX idx_job_items_job ON job_items(job_id)"""


def definitions(columns: dict[str, str]) -> str:
    return "".join(f", {name} {type_}" for name, type_ in columns.items())


def without(columns: dict[str, str], *names: str) -> dict[str, str]:
    return {name: type_ for name, type_ in columns.items() if name not in names}


class LegacyFile:
    """An SQLite file of another program, which this class writes and reads by plain SQL."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.row_factory = sqlite3.Row
            yield connection

    def execute(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        with self.open() as connection:
            return connection.execute(sql, parameters).fetchall()

    def script(self, *statements: str) -> None:
        with self.open() as connection:
            connection.executescript(";".join(statements))

    def insert(self, table: str, **values: Any) -> int:
        with self.open() as connection:
            marks = ", ".join("?" * len(values))
            statement = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"
            return int(connection.execute(statement, tuple(values.values())).lastrowid or 0)

    def job(
        self, id: int, *, table: str = "jobs", project_id: int | None = 1, status: str = "queued", **more: Any
    ) -> None:
        required = {"tenant_id": "tenant", "type": "manifest_check", "created_at": T}
        self.insert(table, **(required | {"id": id, "project_id": project_id, "status": status} | more))

    def item(self, id: int, job_id: int, *, photo_id: int | None = None, **more: Any) -> None:
        required = {"tenant_id": "tenant", "status": "pending", "created_at": T, "updated_at": T, "filename": f"f{id}"}
        self.insert("job_items", **(required | {"id": id, "job_id": job_id, "photo_id": photo_id} | more))

    def project(self, id: int, **more: Any) -> None:
        required = {"project_folder": f"folder-{id}", "project_name": f"Project {id}", "created_at": T, "updated_at": T}
        self.insert("projects", **(required | {"id": id} | more))

    def photo(self, id: int, *, project_id: int = 1, **more: Any) -> None:
        flags = dict.fromkeys(("jpg_available", "raw_available", "other_available", "keep_jpg", "keep_raw"), 1)
        required = {"filename": f"photo-{id}", "created_at": T, "updated_at": T, "project_id": project_id}
        self.insert("photos", **(flags | required | {"id": id} | more))

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Return every row of every table, in order."""
        with self.open() as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {
                table: [dict(row) for row in connection.execute(f'SELECT * FROM "{table}" ORDER BY 1')]
                for table in tables
                if not table.startswith("sqlite_")
            }

    def is_sound(self) -> bool:
        return self.execute("PRAGMA foreign_key_check") == [] and [
            row[0] for row in self.execute("PRAGMA integrity_check")
        ] == ["ok"]

    def foreign_keys(self, table: str) -> dict[str, tuple[str, str]]:
        rows = self.execute(f"PRAGMA foreign_key_list({table})")
        return {row["from"]: (row["table"], row["on_delete"]) for row in rows}

    @contextlib.contextmanager
    def database(self, **settings: Any) -> Iterator[Database]:
        database = Database(self.path, **settings)
        try:
            yield database
        finally:
            database.close()

    def upgrade(self) -> UpgradeReport:
        with self.database() as database:
            return upgrade(database)

    def enqueue(self, **values: Any) -> Job:
        with self.database() as database:
            return JobsRepository(database).enqueue(**({"tenant_id": "tenant", "type": "folder_check"} | values))

    def backups(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}.*.backup"))


def create_tables(
    file: LegacyFile,
    *,
    job_columns: dict[str, str],
    project: str = "",
    action: str = "SET NULL",
    projects: dict[str, str] = PROJECT_MORE,
    photos: dict[str, str] = PHOTO_MORE,
    items_refer_to: str = "jobs",
    indexes: str = INDEXES,
) -> None:
    file.script(
        PROJECTS.format(more=definitions(projects)),
        PHOTOS.format(more=definitions(photos)),
        TAGS,
        JOBS.format(name="jobs", project=project, action=action, more=definitions(job_columns)),
        ITEMS.format(jobs=items_refer_to),
        FOREIGN,
        indexes,
    )


def fill(file: LegacyFile, **scope: str) -> None:
    """Add rows of every kind."""
    file.project(1)
    file.project(2, schema_version="3")
    file.photo(10, meta_json='{"Make": "X"}', date_time_original="2020:01:01 10:00:00", manifest_id="m10")
    file.photo(11, project_id=2, thumbnail_status="generated", orientation=6)
    file.insert("tags", id=5, project_id=1, name="sunset")
    file.insert("photo_tags", photo_id=10, tag_id=5)
    file.job(100, **scope, payload_json='{"task_id": "t1", "source": "user"}', progress_total=2, progress_done=0)
    file.job(101, status="running", started_at=LATER, worker_id="old-1", heartbeat_at=LATER, project_id=2, **scope)
    file.job(102, status="completed", finished_at=LATER, **scope)
    file.job(103, status="failed", finished_at=LATER, error_message="é" * 1000, **scope)
    file.job(104, status="canceled", finished_at=LATER, payload_json="no json", **scope)
    file.item(1000, 100, photo_id=10)
    file.item(1001, 100, photo_id=11, status="done", message="fine")
    file.insert("photo_public_hashes", photo_id=10, hash="abc")
    file.insert("public_links", id=1, title="link", job_id=102)


@pytest.fixture
def file(tmp_path: Path) -> LegacyFile:
    return LegacyFile(tmp_path / "library.db")


def before_scopes(file: LegacyFile) -> None:
    old_jobs = without(JOB_MORE, *JOB_MORE)
    create_tables(file, job_columns=old_jobs, project=" NOT NULL", action="CASCADE", projects={}, photos={})
    fill(file)


def before_scopes_with_attempts(file: LegacyFile) -> None:
    create_tables(file, job_columns=without(JOB_MORE, "scope"), project=" NOT NULL", action="CASCADE")
    fill(file)


def half_migrated(file: LegacyFile) -> None:
    create_tables(file, job_columns=JOB_MORE, items_refer_to='"jobs_legacy"')
    file.script(JOBS.format(name="jobs_legacy", project=" NOT NULL", action="CASCADE", more=", priority INTEGER"))
    fill(file, scope="photo_set")
    file.job(90, table="jobs_legacy", priority=95)
    file.job(91, table="jobs_legacy", status="completed", finished_at=T, priority=None)
    file.job(100, table="jobs_legacy", status="running")
    file.item(900, 90, photo_id=11)


def half_migrated_without_the_old_table(file: LegacyFile) -> None:
    create_tables(file, job_columns=JOB_MORE, items_refer_to='"jobs_legacy"')
    fill(file, scope="project")


def half_migrated_before_scopes(file: LegacyFile) -> None:
    create_tables(
        file,
        job_columns={},
        project=" NOT NULL",
        action="CASCADE",
        items_refer_to="jobs_legacy",
        projects={},
        photos={},
    )
    file.script(JOBS.format(name="jobs_legacy", project=" NOT NULL", action="CASCADE", more=""))
    fill(file)
    file.job(50, table="jobs_legacy")
    file.item(500, 50)


def current(file: LegacyFile) -> None:
    create_tables(file, job_columns=JOB_MORE)
    fill(file, scope="project")


KINDS: dict[Callable[[LegacyFile], None], tuple[str, ...]] = {
    before_scopes: ("before_scopes",),
    before_scopes_with_attempts: ("before_scopes",),
    half_migrated: ("half_migrated",),
    half_migrated_without_the_old_table: ("half_migrated",),
    half_migrated_before_scopes: ("before_scopes", "half_migrated"),
    current: ("current",),
}
every_kind = pytest.mark.parametrize("build", KINDS, ids=lambda build: build.__name__)


def assert_every_row_is_kept(before: dict[str, list[dict[str, Any]]], file: LegacyFile) -> None:
    after = file.rows()
    for table, rows in before.items():
        name = "jobs" if table == "jobs_legacy" and table not in after else table
        key = next(iter(rows[0])) if rows else "id"
        found = {(row[key], row["tag_id"] if name == "photo_tags" else None): row for row in after[name]}
        merged_ids = {row["id"] for row in before["jobs"]} if table == "jobs_legacy" else set()
        for row in rows:
            if row[key] in merged_ids:
                continue
            kept = found[row[key], row["tag_id"] if name == "photo_tags" else None]
            assert {column: kept[column] for column in row if row[column] is not None} == {
                column: value for column, value in row.items() if value is not None
            }


def test_the_names_of_the_migrations_are_their_revisions_in_the_order_of_alembic() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert known_revisions() == tuple(reversed([script.revision for script in scripts.walk_revisions()]))


@every_kind
def test_every_row_and_id_is_kept(file: LegacyFile, build: Callable[[LegacyFile], None]) -> None:
    build(file)
    before = file.rows()
    foreign = file.execute("SELECT sql FROM sqlite_master WHERE tbl_name LIKE '%public%' ORDER BY name")
    report = file.upgrade()
    assert_every_row_is_kept(before, file)
    assert file.is_sound()
    assert report.legacy_kinds == KINDS[build]
    assert report.to_revision == head_revision()
    assert report.row_counts == {table: len(rows) for table, rows in before.items()}
    assert file.execute("SELECT sql FROM sqlite_master WHERE tbl_name LIKE '%public%' ORDER BY name") == foreign


@every_kind
def test_the_upgraded_file_has_the_schema_that_programs_know(
    file: LegacyFile, build: Callable[[LegacyFile], None]
) -> None:
    build(file)
    file.upgrade()
    columns = {row["name"]: row for row in file.execute("PRAGMA table_info(jobs)")}
    assert columns["project_id"]["notnull"] == 0
    assert columns["scope"]["notnull"] == 1
    assert set(JOB_MORE) <= set(columns)
    assert file.foreign_keys("jobs")["project_id"] == ("projects", "SET NULL")
    assert file.foreign_keys("job_items") == {"job_id": ("jobs", "CASCADE"), "photo_id": ("photos", "SET NULL")}
    assert file.foreign_keys("public_links")["job_id"][0] == "jobs"
    assert file.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs_legacy'") == []


@every_kind
def test_the_copy_made_before_holds_what_the_file_held(file: LegacyFile, build: Callable[[LegacyFile], None]) -> None:
    build(file)
    before = file.rows()
    report = file.upgrade()
    assert report.backup == file.backups()[0]
    assert report.backup.parent == file.path.parent
    assert LegacyFile(report.backup).rows() == before


@every_kind
def test_an_upgrade_that_is_run_twice_does_nothing_the_second_time(
    file: LegacyFile, build: Callable[[LegacyFile], None]
) -> None:
    build(file)
    file.upgrade()
    before = file.path.read_bytes()
    report = file.upgrade()
    assert not report.is_changed
    assert report.backup is None
    assert len(file.backups()) == 1
    assert file.path.read_bytes() == before


@every_kind
def test_our_engine_picks_up_jobs_of_the_old_program(file: LegacyFile, build: Callable[[LegacyFile], None]) -> None:
    build(file)
    file.upgrade()
    file.job(5000, scope="project", priority=100, payload_json='{"custom": "data"}')
    file.item(9000, 5000, photo_id=10)
    with file.database() as database:
        jobs = JobsRepository(database)
        claimed = jobs.claim_next("worker-1")
        assert claimed is not None
        assert (claimed.id, claimed.payload, claimed.attempts) == (5000, {"custom": "data"}, 0)
        assert [item.photo_id for item in jobs.list_items(5000)] == [10]
        assert jobs.complete(5000) is not None
        older = jobs.claim_next("worker-1")
    assert older is not None
    assert older.scope in ("project", "photo_set")


@every_kind
def test_old_programs_go_on_working_on_the_upgraded_file(file: LegacyFile, build: Callable[[LegacyFile], None]) -> None:
    build(file)
    file.upgrade()
    ours = file.enqueue(project_id=1, priority=99, tenant_id="user_0")
    claimed = file.execute(
        """UPDATE jobs SET status = 'running', started_at = ?, heartbeat_at = ?, worker_id = 'old' WHERE id = (
            SELECT id FROM jobs WHERE status = 'queued' ORDER BY priority DESC, created_at LIMIT 1) RETURNING *""",
        T,
        T,
    )
    assert claimed[0]["id"] == ours.id
    assert file.execute("SELECT * FROM jobs WHERE id = ?", ours.id)[0]["worker_id"] == "old"
    file.execute("DELETE FROM projects WHERE id = 2")
    file.execute("INSERT INTO tags (project_id, name) VALUES (1, 'new')")
    with file.database() as database:
        assert JobsRepository(database).get_by_id(ours.id).status == "running"


def test_rows_without_a_scope_become_project(file: LegacyFile) -> None:
    create_tables(file, job_columns=JOB_MORE | {"scope": "TEXT", "priority": "INTEGER"})
    fill(file)
    file.upgrade()
    rows = file.execute("SELECT DISTINCT scope, priority, attempts FROM jobs")
    assert [tuple(row) for row in rows] == [("project", 0, 0)]
    file.job(6000)
    assert file.execute("SELECT scope FROM jobs WHERE id = 6000")[0]["scope"] == "project"


def test_rows_that_only_jobs_legacy_has_keep_their_ids_and_their_items(file: LegacyFile) -> None:
    half_migrated(file)
    file.upgrade()
    rows = {row["id"]: row for row in file.execute("SELECT * FROM jobs")}
    assert (rows[90]["scope"], rows[90]["priority"], rows[91]["priority"]) == ("project", 95, 0)
    assert rows[100]["status"] == "queued"
    assert file.execute("SELECT job_id FROM job_items WHERE id = 900")[0]["job_id"] == 90


def test_a_column_that_only_jobs_legacy_has_is_kept_with_its_values(file: LegacyFile) -> None:
    half_migrated(file)
    file.script("ALTER TABLE jobs_legacy ADD COLUMN note TEXT", "UPDATE jobs_legacy SET note = 'n' || id")
    file.upgrade()
    notes = {row["id"]: row["note"] for row in file.execute("SELECT id, note FROM jobs")}
    assert (notes[90], notes[100], notes[101]) == ("n90", "n100", None)


def test_jobs_legacy_stays_where_one_of_its_ids_is_another_job(file: LegacyFile) -> None:
    half_migrated(file)
    file.script("UPDATE jobs_legacy SET type = 'something_else' WHERE id = 100")
    before = file.rows()["jobs_legacy"]
    report = file.upgrade()
    assert file.rows()["jobs_legacy"] == before
    assert any("jobs_legacy: stays" in change for change in report.changes)
    assert file.is_sound()


def test_jobs_legacy_stays_where_a_foreign_table_refers_to_it(file: LegacyFile) -> None:
    half_migrated(file)
    file.script("CREATE TABLE job_notes (id INTEGER PRIMARY KEY, job_id INTEGER REFERENCES jobs_legacy(id))")
    file.insert("job_notes", id=1, job_id=90)
    file.upgrade()
    assert file.foreign_keys("job_notes")["job_id"][0] == "jobs_legacy"
    assert file.is_sound()
    assert file.execute("SELECT count(*) AS n FROM jobs WHERE id IN (90, 91)")[0]["n"] == 2


def test_a_file_that_lost_jobs_between_two_steps_of_the_old_migration_gets_it_back(file: LegacyFile) -> None:
    half_migrated(file)
    file.script("DROP TABLE jobs")
    before = file.rows()
    file.upgrade()
    assert [row["id"] for row in file.execute("SELECT id FROM jobs ORDER BY id")][:3] == [90, 91, 100]
    assert_every_row_is_kept({**before, "jobs": []}, file)
    # The job of the public link is gone, and the link is not ours to change.
    assert {row["table"] for row in file.execute("PRAGMA foreign_key_check")} == {"public_links"}


@pytest.mark.parametrize("build", [before_scopes, half_migrated, half_migrated_without_the_old_table, current])
def test_orphans_are_settled_and_none_is_lost(file: LegacyFile, build: Callable[[LegacyFile], None]) -> None:
    build(file)
    scope = {} if build is before_scopes else {"scope": "project"}
    file.job(200, project_id=77, **scope)
    file.item(2000, 888, photo_id=10, tenant_id="other")
    file.item(2001, 888)
    file.item(2002, 100, photo_id=999)
    file.photo(50, project_id=66)
    file.insert("tags", id=60, project_id=66, name="lost")
    file.insert("photo_tags", photo_id=444, tag_id=555)
    before = file.rows()
    report = file.upgrade()
    assert file.is_sound()
    after = file.rows()
    for table, rows in before.items():
        if table != "jobs_legacy":
            key = next(iter(rows[0]))
            assert {row[key] for row in rows} <= {row[key] for row in after[table]}
    placeholder = next(row for row in after["jobs"] if row["id"] == 888)
    assert (placeholder["type"], placeholder["status"], placeholder["tenant_id"]) == ("unknown", "failed", "other")
    assert "only its items existed" in placeholder["error_message"]
    assert next(row for row in after["jobs"] if row["id"] == 200)["project_id"] is None
    assert next(row for row in after["job_items"] if row["id"] == 2002)["photo_id"] is None
    assert next(row for row in after["projects"] if row["id"] == 66)["status"] == "canceled"
    assert {"photo_id": 444, "tag_id": 555} in after["photo_tags"]
    assert sum(" to missing " in change for change in report.changes) == 7


def test_what_other_programs_added_is_kept(file: LegacyFile) -> None:
    create_tables(
        file,
        job_columns={
            "color": "TEXT COLLATE NOCASE DEFAULT 'red, (blue)'",
            "[odd name]": "INTEGER CHECK ([odd name] > 0)",
        },
        project=" NOT NULL",
        action="CASCADE",
    )
    fill(file)
    file.script(
        'UPDATE jobs SET "odd name" = id',
        "CREATE INDEX my_own ON jobs(color, created_at DESC) WHERE color IS NOT NULL",
        "CREATE TABLE audit (id INTEGER, was TEXT)",
        "CREATE VIEW open_jobs AS SELECT id, status FROM jobs WHERE status IN ('queued', 'running')",
        "CREATE TRIGGER changed UPDATE OF status ON jobs BEGIN INSERT INTO audit VALUES (old.id, old.status); END",
        "CREATE TRIGGER added AFTER INSERT ON jobs BEGIN INSERT INTO audit VALUES (new.id, 'new'); END",
        "CREATE TRIGGER cleared AFTER UPDATE OF project_id ON jobs BEGIN INSERT INTO audit VALUES (old.id, 'p'); END",
    )
    file.execute("DELETE FROM projects WHERE id = 2")
    before = file.rows()
    file.upgrade()
    assert file.rows()["audit"] == before["audit"] == []
    assert [(row["color"], row["odd name"]) for row in file.execute("SELECT * FROM jobs WHERE id = 100")] == [
        ("red, (blue)", 100)
    ]
    assert file.execute("SELECT id FROM jobs WHERE color = 'RED, (BLUE)'") != []
    assert [row["id"] for row in file.execute("SELECT id FROM open_jobs ORDER BY id")] == [100, 101]
    assert len(file.execute("SELECT 1 FROM sqlite_master WHERE name = 'my_own' AND sql LIKE '%WHERE color%'")) == 1
    file.execute("UPDATE jobs SET status = 'canceled' WHERE id = 100")
    assert file.rows()["audit"] == [{"id": 100, "was": "queued"}]
    with pytest.raises(sqlite3.IntegrityError):
        file.execute('UPDATE jobs SET "odd name" = -1')


def test_tables_written_in_another_hand_are_understood(file: LegacyFile) -> None:
    file.script(
        """CREATE TABLE "Projects" (id INT PRIMARY KEY, project_folder TEXT NOT NULL, project_name TEXT NOT NULL,
            created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, updated_at TEXT NOT NULL)""",
        """CREATE TABLE [Jobs] ([id] INTEGER NOT NULL, tenant_id TEXT NOT NULL, `project_id` INTEGER NOT NULL, type TEXT
            NOT NULL, status TEXT NOT NULL CHECK (status IN ('queued', 'running')), created_at TEXT NOT NULL, /* a, ( */
            payload_json TEXT, label TEXT GENERATED ALWAYS AS (type || ', ' || status) STORED, -- b, (
            CONSTRAINT pk PRIMARY KEY (id), CONSTRAINT fk FOREIGN KEY (project_id) REFERENCES projects (id),
            CHECK (length(type) > 0)) WITHOUT ROWID""",
        # SQLite gives no numbers to the rows of such a table.
        "CREATE TABLE tags (id INTEGER PRIMARY KEY DESC, project_id INTEGER NOT NULL, name TEXT NOT NULL)",
        f"INSERT INTO projects VALUES (2, 'f2', 'n', '{T}', '{T}'), (1, 'f1', 'n', '{T}', '{T}')",
    )
    file.job(3, project_id=2, type="a")
    file.upgrade()
    assert file.is_sound()
    assert [tuple(row) for row in file.execute("SELECT id, project_id, label, scope FROM jobs")] == [
        (3, 2, "a, queued", "project")
    ]
    assert file.enqueue(project_id=1, tenant_id="user_0").id == 4
    assert file.insert("tags", project_id=1, name="sunset") == file.execute("SELECT id FROM tags")[0]["id"]
    file.execute("UPDATE jobs SET status = 'canceled'")
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        file.execute("UPDATE jobs SET type = ''")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        file.project(3, project_folder="f1")


def test_a_view_that_is_broken_already_does_not_stand_in_the_way(file: LegacyFile) -> None:
    before_scopes(file)
    file.script("CREATE VIEW broken AS SELECT * FROM nowhere")
    file.upgrade()
    assert file.is_sound()


def test_a_trigger_that_the_old_migration_left_on_jobs_legacy_works_on_jobs(file: LegacyFile) -> None:
    half_migrated(file)
    file.script(
        "CREATE TABLE audit (job_id INTEGER)",
        "CREATE TRIGGER added AFTER INSERT ON jobs_legacy BEGIN INSERT INTO audit VALUES (new.id); END",
    )
    file.upgrade()
    file.job(7000, scope="project")
    assert [row["job_id"] for row in file.execute("SELECT job_id FROM audit")] == [7000]


def test_a_required_column_of_another_program_does_not_keep_us_from_enqueueing(file: LegacyFile) -> None:
    create_tables(file, job_columns=JOB_MORE | {"origin": "TEXT NOT NULL", "weight": "REAL NOT NULL"})
    file.project(1)
    file.job(1, scope="project", origin="web", weight=1.5)
    file.upgrade()
    job = file.enqueue()
    rows = {row["id"]: (row["origin"], row["weight"]) for row in file.execute("SELECT * FROM jobs")}
    assert rows == {1: ("web", 1.5), job.id: ("", 0.0)}


def test_an_id_that_was_given_out_is_never_given_out_again(file: LegacyFile) -> None:
    before_scopes(file)
    file.job(999)
    file.execute("DELETE FROM jobs WHERE id = 999")
    file.upgrade()
    assert file.enqueue().id == 1000


def test_missing_indexes_are_made_and_those_of_others_with_our_names_are_kept(file: LegacyFile) -> None:
    create_tables(
        file,
        job_columns=JOB_MORE,
        indexes="CREATE INDEX idx_jobs_running ON jobs(worker_id); CREATE INDEX idx_jobs_status ON jobs(type, status);"
        "CREATE INDEX theirs ON jobs(tenant_id, status)",
    )
    fill(file, scope="project")
    file.upgrade()
    indexes = {
        row["name"]: row["sql"] for row in file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'")
    }
    assert "worker_id" in indexes["legacy_idx_jobs_running"]
    assert "type" in indexes["legacy_idx_jobs_status"]
    assert "(status)" in indexes["idx_jobs_status"].replace('"', "")
    assert "idx_jobs_tenant_status" not in indexes
    assert "idx_jobs_ready" in indexes


def test_a_current_file_keeps_its_tables_as_they_are(file: LegacyFile) -> None:
    current(file)
    before = {row["name"]: row["rootpage"] for row in file.execute("SELECT * FROM sqlite_master WHERE type = 'table'")}
    report = file.upgrade()
    after = {row["name"]: row["rootpage"] for row in file.execute("SELECT * FROM sqlite_master WHERE type = 'table'")}
    assert {name: after[name] for name in before} == before
    assert all("index" in change for change in report.changes)


def test_a_new_database_is_made_without_a_backup(file: LegacyFile) -> None:
    report = file.upgrade()
    assert (report.from_revision, report.backup, report.legacy_kinds, report.changes) == (None, None, (), ())
    assert file.backups() == []


@pytest.mark.parametrize(
    ("revisions", "problem"),
    [
        (["9999"], "9999 is newer"),
        (["ae1027a6acf"], r"another program .* alembic_version \(ae1027a6acf\)"),
        (["b2", "a1"], r"another program .* alembic_version \(a1, b2\)"),
    ],
)
def test_a_file_of_an_unknown_schema_is_refused_and_not_changed(
    file: LegacyFile, revisions: list[str], problem: str
) -> None:
    file.upgrade()
    file.execute("DELETE FROM alembic_version")
    for revision in revisions:
        file.insert("alembic_version", version_num=revision)
    before = file.rows()
    with pytest.raises(SchemaMismatch, match=problem):
        file.upgrade()
    assert file.rows() == before
    assert file.backups() == []


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("CREATE TABLE jobs (id INTEGER PRIMARY KEY, title TEXT, salary INTEGER)", "tenant_id, type, status"),
        ("CREATE VIEW jobs AS SELECT 1 AS id", "the view jobs"),
        ("CREATE TABLE lanes (id INTEGER PRIMARY KEY, swimmer TEXT)", "the table lanes"),
        ("CREATE TABLE photos (id INTEGER PRIMARY KEY, url TEXT)", "project_id, filename"),
        ("CREATE TABLE pools (id INTEGER); CREATE INDEX idx_jobs_ready ON pools(id)", "the index idx_jobs_ready"),
        ("CREATE TABLE jobs_legacy (id INTEGER PRIMARY KEY, title TEXT)", "the table jobs_legacy lacks 4 columns"),
    ],
)
def test_a_file_of_another_program_is_refused_and_not_changed(file: LegacyFile, sql: str, named: str) -> None:
    file.script(sql)
    before = file.path.read_bytes()
    with pytest.raises(SchemaMismatch, match=named) as refused:
        file.upgrade()
    assert str(file.path) in str(refused.value)
    assert file.path.read_bytes() == before
    assert file.backups() == []


def test_a_column_that_ours_would_take_over_is_refused(file: LegacyFile) -> None:
    create_tables(file, job_columns=JOB_MORE | {"unique_key": "TEXT"})
    with pytest.raises(SchemaMismatch, match="unique_key"):
        file.upgrade()


def test_a_reference_that_cannot_be_an_id_is_refused_and_no_copy_stays(file: LegacyFile) -> None:
    create_tables(file, job_columns=JOB_MORE)
    file.photo(1, project_id="alps")
    before = file.rows()
    with pytest.raises(SchemaMismatch, match=r"photos.project_id: 'alps' cannot be an id in projects"):
        file.upgrade()
    assert file.rows() == before
    assert file.backups() == []


def test_what_is_no_database_is_refused_and_not_changed(file: LegacyFile) -> None:
    file.path.write_bytes(b"this is a letter, not a database" * 100)
    before = file.path.read_bytes()
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        file.upgrade()
    assert file.path.read_bytes() == before


def test_a_damaged_file_is_refused_and_not_changed(file: LegacyFile) -> None:
    before_scopes(file)
    content = bytearray(file.path.read_bytes())
    pages = len(content) // 4096
    content[4096 * (pages - 6) : 4096 * (pages - 1)] = b"\xff" * 4096 * 5
    file.path.write_bytes(content)
    before = file.path.read_bytes()
    with pytest.raises(StorageError):
        file.upgrade()
    assert file.path.read_bytes() == before
    assert file.backups() == []


def test_a_file_that_may_not_be_written_is_refused(file: LegacyFile) -> None:
    before_scopes(file)
    before = file.path.read_bytes()
    with file.database() as database:
        event.listen(database.engine, "connect", lambda raw, _record: raw.execute("PRAGMA query_only = ON"))
        with pytest.raises(DatabaseReadOnly, match="read-only"):
            upgrade(database)
    assert file.path.read_bytes() == before


def test_a_locked_file_is_refused_after_the_busy_timeout(file: LegacyFile) -> None:
    before_scopes(file)
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with file.database(busy_timeout_seconds=0.05) as database, pytest.raises(DatabaseBusy):
            upgrade(database)
    assert file.backups() == []


def test_an_upgrade_that_a_reader_keeps_from_its_commit_changes_nothing(file: LegacyFile) -> None:
    before_scopes(file)
    before = file.path.read_bytes()
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM jobs").fetchone()
        with file.database(busy_timeout_seconds=0.05) as database, pytest.raises(DatabaseBusy):
            upgrade(database)
    assert file.path.read_bytes() == before
    assert file.upgrade().is_changed


def test_of_two_upgrades_at_once_one_does_it_and_the_other_finds_it_done(file: LegacyFile) -> None:
    half_migrated(file)
    reports: list[UpgradeReport] = []
    barrier = threading.Barrier(2)

    def run() -> None:
        barrier.wait()
        reports.append(file.upgrade())

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.is_changed for report in reports) == [False, True]
    assert len(file.backups()) == 1
    assert file.is_sound()


Watch = Callable[[sqlite3.Connection, Callable[[], None]], None]


def each_statement(raw: sqlite3.Connection, seen: Callable[[], None]) -> None:
    raw.set_trace_callback(lambda _statement: seen())


def within_statements(raw: sqlite3.Connection, seen: Callable[[], None]) -> None:
    def go_on() -> int:
        seen()
        return 0

    raw.set_progress_handler(go_on, 100)


def watched_upgrade(path: Path, watch: Watch, seen: Callable[[], None]) -> None:
    database = Database(path)
    event.listen(database.engine, "connect", lambda raw, _record: watch(raw, seen))
    upgrade(database)
    database.close()


def kill_upgrade(path: Path, watch: Watch, *, at: int) -> None:
    """Upgrade in a child process that kills itself at the n-th watched moment."""
    child = os.fork()
    if child == 0:
        moments = iter(range(at))

        def seen() -> None:
            if next(moments, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            watched_upgrade(path, watch, seen)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


# The child only upgrades and dies, so it does not need the threads of its parent.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("watch", [each_statement, within_statements], ids=lambda watch: watch.__name__)
@pytest.mark.parametrize("build", KINDS if IS_FULL else [half_migrated], ids=lambda build: build.__name__)
@pytest.mark.slow
def test_a_file_whose_upgrade_is_killed_at_any_moment_is_old_or_new(
    file: LegacyFile, tmp_path: Path, build: Callable[[LegacyFile], None], watch: Watch
) -> None:
    build(file)
    old_rows, old_bytes = file.rows(), file.path.read_bytes()
    moments: list[None] = []
    finished = LegacyFile(tmp_path / "finished.db")
    finished.path.write_bytes(old_bytes)
    watched_upgrade(finished.path, watch, lambda: moments.append(None))
    new_schema = finished.execute("SELECT name, sql FROM sqlite_master ORDER BY name")
    count = len(moments)
    chosen = set(range(count)) if IS_FULL else {number * count // 8 for number in range(8)}
    states = set()
    # The last moments, which are around the COMMIT, are always chosen.
    for at in sorted(chosen | set(range(count - 3, count))):
        (tmp_path / str(at)).mkdir()
        copy = LegacyFile(tmp_path / str(at) / "library.db")
        copy.path.write_bytes(old_bytes)
        kill_upgrade(copy.path, watch, at=at)
        rows = copy.rows()
        is_new = "alembic_version" in rows
        states.add(is_new)
        if is_new:
            assert copy.execute("SELECT name, sql FROM sqlite_master ORDER BY name") == new_schema
            assert_every_row_is_kept(old_rows, copy)
        else:
            assert rows == old_rows
        assert copy.upgrade().is_changed is not is_new
        assert copy.is_sound()
    # SQLite looks at no step of its own after the COMMIT, but it does tell of the statements that follow.
    assert states == ({False, True} if watch is each_statement else {False})


def test_a_downgraded_file_serves_old_programs_and_can_be_upgraded_again(file: LegacyFile) -> None:
    half_migrated(file)
    file.upgrade()
    before = file.rows()
    with file.database() as database:
        report = downgrade(database)
    assert report.backup is not None
    assert LegacyFile(report.backup).rows() == before
    columns = [row["name"] for row in file.execute("PRAGMA table_info(jobs)")]
    assert "task_id" not in columns
    assert "scope" in columns
    file.job(8000, scope="project")
    again = file.upgrade()
    assert (again.from_revision, again.to_revision) == ("0001", head_revision())
    assert file.rows()["jobs"] == before["jobs"] + [row for row in file.rows()["jobs"] if row["id"] == 8000]
    assert file.is_sound()


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param(["CREATE VIEW broken AS SELECT * FROM nowhere"], id="a view that cannot be read"),
        pytest.param(["CREATE VIEW of_tasks AS SELECT task_id FROM jobs"], id="a view of a column that goes"),
        pytest.param(
            [
                "CREATE VIEW titles AS SELECT id, project_name FROM projects",
                "CREATE TRIGGER title_written INSTEAD OF UPDATE ON titles BEGIN "
                "UPDATE projects SET project_name = new.project_name WHERE id = new.id; END",
                "CREATE TRIGGER job_seen AFTER INSERT ON jobs BEGIN SELECT count(*) FROM titles; END",
            ],
            id="triggers that need a view",
        ),
    ],
)
def test_views_and_triggers_of_other_programs_outlast_a_downgrade(file: LegacyFile, objects: list[str]) -> None:
    half_migrated(file)
    file.upgrade()
    file.script("; ".join((*objects, "CREATE TRIGGER task_seen AFTER INSERT ON tasks BEGIN SELECT 1; END")))
    with file.database() as database:
        downgrade(database)
    query = "SELECT sql FROM sqlite_schema WHERE type IN ('view', 'trigger')"
    assert sorted(row["sql"] for row in file.execute(query)) == sorted(objects)
    file.upgrade()
    assert file.is_sound()


@pytest.mark.parametrize(
    "object_",
    [
        "CREATE TABLE notes (task_id TEXT REFERENCES tasks (id), job_id INTEGER REFERENCES jobs (id))",
        "CREATE TRIGGER noted AFTER INSERT ON jobs BEGIN UPDATE tasks SET label = 'x' WHERE id = new.task_id; END",
        "CREATE TRIGGER noted UPDATE OF status ON jobs WHEN new.task_id IS NOT NULL BEGIN SELECT 1; END",
    ],
    ids=["a foreign key", "a trigger that writes to a table", "a trigger that reads a column"],
)
def test_a_downgrade_after_which_other_programs_could_not_write_is_refused(file: LegacyFile, object_: str) -> None:
    half_migrated(file)
    file.upgrade()
    # A table into which nothing can be written before the downgrade is no reason.
    file.script("CREATE TABLE broken (id INTEGER REFERENCES nowhere)", object_)
    before = file.execute("SELECT * FROM sqlite_schema")
    with file.database() as database:
        with pytest.raises(SchemaMismatch, match=f"no longer write to {'notes' if 'TABLE' in object_ else 'jobs'}, b"):
            downgrade(database)
        assert file.execute("SELECT * FROM sqlite_schema") == before
        assert len(file.backups()) == 1
        downgrade(database, "0008")
    assert file.execute("SELECT 1 FROM sqlite_schema WHERE sql = ?", object_) != []


names = st.sampled_from(["status", "archived_at", "manifest_version"])
texts = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))


@given(data=st.data())
def test_whatever_a_legacy_file_holds_or_lacks_is_found_again(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = LegacyFile(tmp_path_factory.mktemp("random") / "library.db")
    is_half_migrated = data.draw(st.booleans(), label="half migrated")
    absent = data.draw(st.sets(st.sampled_from(sorted(JOB_MORE))), label="absent columns of jobs")
    nullable = data.draw(st.booleans(), label="project may be NULL")
    more = data.draw(st.sets(st.sampled_from(["color", '"odd name"', "[a,b]"])), label="columns of other programs")
    job_columns = without(JOB_MORE, *absent)
    create_tables(
        file,
        job_columns=job_columns | dict.fromkeys(more, "DEFAULT 'x, y'"),
        project="" if nullable else " NOT NULL",
        action=data.draw(st.sampled_from(["CASCADE", "SET NULL"])),
        projects=without(PROJECT_MORE, *data.draw(st.sets(names))),
        photos=data.draw(st.sampled_from([{}, PHOTO_MORE])),
        items_refer_to="jobs_legacy" if is_half_migrated else "jobs",
        indexes=data.draw(st.sampled_from([INDEXES, "SELECT 1"])),
    )
    file.project(1)
    file.photo(1)
    tables = ["jobs"]
    if is_half_migrated and data.draw(st.booleans(), label="jobs_legacy is there"):
        file.script(JOBS.format(name="jobs_legacy", project=" NOT NULL", action="CASCADE", more=""))
        tables.append("jobs_legacy")
    ids = data.draw(st.lists(st.integers(1, 2**40), max_size=8, unique=True), label="job ids")
    for job_id in ids:
        values: dict[str, Any] = {
            "status": data.draw(st.sampled_from(["queued", "running", "completed", "failed", "canceled"])),
            "payload_json": data.draw(texts),
            "error_message": data.draw(texts),
            "progress_total": data.draw(st.one_of(st.none(), st.integers(-5, 2**31))),
        }
        table = data.draw(st.sampled_from(tables))
        if table == "jobs" and "scope" in job_columns:
            values["scope"] = data.draw(st.sampled_from(["project", "photo_set", "global"]))
        file.job(job_id, table=table, **values)
    for number, job_id in enumerate(ids):
        file.item(number + 1, job_id, photo_id=data.draw(st.sampled_from([None, 1])), message=data.draw(texts))
    before = file.rows()
    file.upgrade()
    assert_every_row_is_kept(before, file)
    assert file.is_sound()
    assert {row["id"] for row in file.rows()["jobs"]} == set(ids)


def test_a_check_of_the_table_on_states_goes_and_a_unique_column_of_another_program_may_be_empty(
    file: LegacyFile,
) -> None:
    create_tables(
        file,
        job_columns=JOB_MORE
        | {
            "ticket": "TEXT NOT NULL UNIQUE CHECK (type IS NOT NULL AND 1)",
            "CHECK": "(status IN ('queued', 'running'))",
        },
    )
    file.project(1, project_folder="f1")
    file.job(3, scope="project", ticket="t3")
    file.upgrade()
    assert file.is_sound()
    first, second = file.enqueue(tenant_id="user_0", project_id=1), file.enqueue(tenant_id="user_0", project_id=1)
    file.execute("UPDATE jobs SET status = 'canceled'")
    assert [row["ticket"] for row in file.execute("SELECT ticket FROM jobs ORDER BY id")] == ["t3", None, None]
    assert first.id != second.id
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        file.job(9, scope="project", ticket="t3")
