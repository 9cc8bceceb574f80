"""`check` finds wrong rows, says what to do, and changes nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from storage import Database, JobsRepository, Project, Task
from storage.errors import DatabaseUnavailable
from storage.upkeep.integrity import IntegrityReport, check
from storage.upkeep.integrity_rules import Severity
from storage.upkeep.revisions import head_revision
from storage.upkeep.schema_upgrade import downgrade, upgrade

LEGACY = """
    CREATE TABLE projects (id INTEGER PRIMARY KEY, project_folder TEXT NOT NULL UNIQUE, project_name TEXT NOT NULL,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, schema_version TEXT);
    CREATE TABLE photos (id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
        manifest_id TEXT UNIQUE, filename TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL);
    CREATE TABLE jobs (id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL, project_id INTEGER NOT NULL
        REFERENCES projects(id) ON DELETE CASCADE, type TEXT NOT NULL, status TEXT NOT NULL, created_at TEXT NOT NULL,
        finished_at TEXT, payload_json TEXT);
    CREATE TABLE job_items (id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL, job_id INTEGER NOT NULL
        REFERENCES jobs_legacy(id) ON DELETE CASCADE, photo_id INTEGER REFERENCES photos(id) ON DELETE SET NULL,
        filename TEXT, status TEXT NOT NULL, message TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL);
    INSERT INTO projects VALUES (1, 'a', 'A', '2025-10-01T12:00:00.000Z', '2025-10-01T12:00:00.000Z', NULL);
    INSERT INTO jobs VALUES (1, 't', 1, 'x', 'queued', '2025-10-01T12:00:00.000Z', NULL, '{}');
    INSERT INTO jobs VALUES (2, 't', 9, 'x', 'completed', 'yesterday', '2025-10-01T12:00:00.000Z', '[1]');
    INSERT INTO job_items VALUES (1, 't', 1, NULL, 'f', 'pending', NULL, '2025-10-01T12:00:00.000Z',
        '2025-10-01T12:00:00.000Z');
    INSERT INTO job_items VALUES (2, 't', 7, NULL, 'f', 'pending', NULL, '2025-10-01T12:00:00.000Z',
        '2025-10-01T12:00:00.000Z');
"""


@pytest.fixture
def legacy_path(tmp_path: Path) -> Path:
    path = tmp_path / "legacy.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(LEGACY)
    return path


def checked(path: Path) -> IntegrityReport:
    database = Database(path)
    try:
        return check(database)
    finally:
        database.close()


def found(report: IntegrityReport) -> dict[str, tuple[str, ...]]:
    return {finding.name: finding.examples for finding in report.findings}


def test_a_database_in_use_is_sound(
    database: Database,
    make_project: Callable[..., Project],
    make_photos: Callable[..., list[int]],
    make_task: Callable[..., Task],
) -> None:
    make_task("items", photo_ids=make_photos(make_project(), 3))
    jobs = JobsRepository(database)
    jobs.enqueue(tenant_id="tenant", type="x")
    assert jobs.claim_next("worker") is not None
    report = check(database)
    assert report.findings == ()
    assert report.is_sound
    assert (report.revision, report.upgrade_changes) == (head_revision(), ())
    assert report.counts["jobs"].by_status == {"queued": 1, "running": 1}
    assert report.counts["photos"].rows == 3


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("unknown_job_status", "status = 'lost'"),
        ("running_without_worker", "status = 'running'"),
        ("unfinished_but_finished_at", "finished_at = created_at"),
        ("ended_without_finished_at", "status = 'completed'"),
        ("unknown_scope", "scope = 'everything'"),
        ("project_scope_without_project", "scope = 'project'"),
        ("unfinished_job_without_task", "task_id = 'gone'"),
        ("document_is_no_object", "payload_json = '[1]'"),
        ("unreadable_timestamp", "run_after = '{unreadable_time}'"),
    ],
)
def test_an_impossible_job_is_found(database: Database, unreadable_time: str, name: str, change: str) -> None:
    jobs = JobsRepository(database)
    jobs.enqueue(tenant_id="tenant", type="x")
    bad = jobs.enqueue(tenant_id="tenant", type="x")
    with database.begin() as connection:
        set_by_sql = change.format(unreadable_time=unreadable_time)
        connection.execute(text(f"UPDATE jobs SET {set_by_sql} WHERE id = :id"), {"id": bad.id})
    report = check(database)
    assert found(report) == {name: (str(bad.id),)}
    assert not report.is_sound
    assert f"(1 row: {bad.id})" in str(report.findings[0])


def test_a_global_job_with_a_project_is_found(database: Database, make_project: Callable[..., Project]) -> None:
    job = JobsRepository(database).enqueue(tenant_id="tenant", type="x", project_id=make_project().id)
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET scope = 'global'"))
    assert found(check(database)) == {"global_scope_with_project": (str(job.id),)}


def test_a_job_with_more_items_than_one_may_have_is_found(database: Database) -> None:
    job = JobsRepository(database).enqueue_with_items(
        tenant_id="tenant", type="x", items=[{"filename": "a"}] * 2000, scope="photo_set"
    )
    assert check(database).findings == ()
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO job_items (tenant_id, job_id, filename, status, created_at, updated_at) "
                "SELECT tenant_id, job_id, 'one more', status, created_at, updated_at FROM job_items LIMIT 1"
            )
        )
    assert found(check(database)) == {"too_many_items": (str(job.id),)}  # type: ignore[union-attr]


def test_an_unknown_item_status_is_found(database: Database) -> None:
    JobsRepository(database).enqueue_with_items(tenant_id="tenant", type="x", items=[{"filename": "a"}])
    with database.begin() as connection:
        connection.execute(text("UPDATE job_items SET status = 'queued'"))
    assert list(found(check(database))) == ["unknown_item_status"]


def test_a_task_that_waits_for_nothing_is_a_warning(database: Database, make_task: Callable[..., Task]) -> None:
    task = make_task("library", scope="global")
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET status = 'completed', finished_at = created_at"))
    report = check(database)
    assert found(report) == {"unfinished_task_without_jobs": (task.id,)}
    assert report.findings[0].severity is Severity.WARNING
    assert report.is_sound


def test_a_task_that_ended_before_its_jobs_is_found(database: Database, make_task: Callable[..., Task]) -> None:
    task = make_task("library", scope="global")
    with database.begin() as connection:
        connection.execute(
            text("UPDATE tasks SET status = 'completed', finished_at = created_at, flags_json = '[\"a\"]'")
        )
    assert found(check(database)) == dict.fromkeys(("ended_task_with_jobs", "document_is_no_object"), (task.id,))


def test_a_claim_of_a_job_that_does_not_run_is_a_warning(
    database: Database, make_project: Callable[..., Project]
) -> None:
    project = make_project()
    job = JobsRepository(database).enqueue(tenant_id="tenant", type="x", project_id=project.id)
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO project_claims (project_id, job_id, claim_token, claimed_at) "
                "SELECT project_id, id, 'token', created_at FROM jobs"
            )
        )
    assert job.project_id == project.id
    report = check(database)
    assert found(report) == {"claim_of_a_job_that_does_not_run": (str(project.id),)}
    assert report.is_sound


@pytest.mark.parametrize("moment", ["yesterday", "", "2025-13-45T00:00:00.000Z", "1759320000"])
def test_a_time_that_cannot_be_read_is_found(sqlite_database: Database, moment: str) -> None:
    job = JobsRepository(sqlite_database).enqueue(tenant_id="tenant", type="x")
    with sqlite_database.begin() as connection:
        connection.execute(text("UPDATE jobs SET created_at = :moment"), {"moment": moment})
    assert found(check(sqlite_database)) == {"unreadable_timestamp": (str(job.id),)}


@pytest.mark.parametrize("moment", ["2025-10-01T12:00:00Z", "2025-10-01 12:00:00", "2025-10-01T12:00:00.000+00:00"])
def test_times_as_other_programs_write_them_are_fine(sqlite_database: Database, moment: str) -> None:
    JobsRepository(sqlite_database).enqueue(tenant_id="tenant", type="x")
    with sqlite_database.begin() as connection:
        connection.execute(text("UPDATE jobs SET created_at = :moment"), {"moment": moment})
    assert check(sqlite_database).findings == ()


def test_orphans_that_a_program_without_foreign_keys_left_are_found(sqlite_database: Database) -> None:
    assert sqlite_database.path is not None
    JobsRepository(sqlite_database).enqueue_with_items(tenant_id="tenant", type="x", items=[{"filename": "a"}])
    with contextlib.closing(sqlite3.connect(sqlite_database.path)) as connection, connection:
        connection.execute("DELETE FROM jobs")
        connection.execute("CREATE TABLE public_links (id INTEGER PRIMARY KEY, photo_id INTEGER REFERENCES photos(id))")
        connection.execute("INSERT INTO public_links VALUES (1, 99)")
    report = check(sqlite_database)
    assert [(finding.name, finding.table, finding.count) for finding in report.findings] == [
        ("orphan", "job_items", 1),
        ("foreign_key", "public_links", 1),
    ]


def test_a_reference_that_an_old_migration_bent_after_our_upgrade_is_found(sqlite_database: Database) -> None:
    assert sqlite_database.path is not None
    with contextlib.closing(sqlite3.connect(sqlite_database.path)) as connection, connection:
        connection.execute("ALTER TABLE jobs RENAME TO jobs_legacy")
        connection.execute("CREATE TABLE jobs AS SELECT * FROM jobs_legacy")
    report = check(sqlite_database)
    assert {"wrong_reference"} == {finding.name for finding in report.findings}
    assert any("job_items.job_id refers to jobs_legacy" in finding.problem for finding in report.findings)


def test_a_legacy_file_is_looked_at_without_a_byte_of_it_changing(legacy_path: Path) -> None:
    before = (legacy_path.read_bytes(), legacy_path.stat().st_mtime_ns, sorted(legacy_path.parent.iterdir()))
    report = checked(legacy_path)
    assert (legacy_path.read_bytes(), legacy_path.stat().st_mtime_ns, sorted(legacy_path.parent.iterdir())) == before
    assert report.revision is None
    assert report.legacy_kinds == ("before_scopes", "half_migrated")
    assert report.counts["jobs"].by_status == {"completed": 1, "queued": 1}
    assert {(finding.name, finding.table) for finding in report.findings} == {
        ("older_schema", None),
        ("orphan", "jobs"),
        ("orphan", "job_items"),
        ("foreign_key", "job_items"),
        ("unreadable_timestamp", "jobs"),
        ("document_is_no_object", "jobs"),
    }


def test_what_a_check_announces_is_what_the_upgrade_does(legacy_path: Path) -> None:
    announced = checked(legacy_path).upgrade_changes
    database = Database(legacy_path)
    report = upgrade(database)
    database.close()
    assert announced == report.changes != ()


def test_after_an_upgrade_only_what_it_cannot_know_is_left(legacy_path: Path) -> None:
    database = Database(legacy_path)
    database.migrate()
    database.close()
    report = checked(legacy_path)
    assert set(found(report)) == {"unreadable_timestamp", "document_is_no_object"}
    assert (report.legacy_kinds, report.upgrade_changes) == ((), ())


def test_a_downgraded_database_is_older_but_sound(database: Database, tmp_path: Path) -> None:
    downgrade(database, backup_to=tmp_path / "copy")
    report = check(database)
    assert list(found(report)) == ["older_schema"]
    assert report.is_sound
    # An upgrade of PostgreSQL makes no backup.
    assert ("upgrade` makes a backup" in str(report.findings[0])) is not database.is_postgresql


def test_a_newer_schema_is_found(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    report = check(database)
    assert list(found(report)) == ["newer_schema"]
    assert not report.is_sound


@pytest.mark.postgres
def test_an_empty_postgresql_database_is_older_but_sound(empty_postgresql_url: str) -> None:
    database = Database(empty_postgresql_url)
    report = check(database)
    database.close()
    assert list(found(report)) == ["older_schema"]


def test_another_programs_file_is_found_and_named(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, title TEXT)")
    report = checked(path)
    assert list(found(report)) == ["foreign_schema"]
    assert ".." not in str(report.findings[0])
    assert not report.is_sound


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        checked(tmp_path / "missing.db")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_text("Dear database, " * 100)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        checked(path)


def test_a_damaged_file_is_found(legacy_path: Path) -> None:
    content: Any = bytearray(legacy_path.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    legacy_path.write_bytes(content)
    report = checked(legacy_path)
    assert "damaged_file" in found(report)
    assert not report.is_sound
