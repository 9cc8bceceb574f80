"""A staged file is assigned to the right photo, also if its name is spelled differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text, update

from storage import Database, ProjectsRepository
from storage.comparison import derivative_scan
from storage.comparison.derivative_scan import DerivativeScan
from storage.database.tables import photos
from storage.database.temporary_tables import temporary_tables
from storage.library.naming.kinds import FileKind
from storage.library.paths import derivative_stem
from storage.library.scan import ScannedDerivative, ScannedFile
from storage.photos.derivatives import DerivativeKind
from storage.records import Project


def _file(base_name: str) -> ScannedFile:
    return ScannedFile(
        name=f"{base_name}.jpg",
        base_name=base_name,
        extension="jpg",
        kind=FileKind.JPG,
        size_bytes=1,
        mtime_ns=2,
        ctime_ns=3,
        problem=None,
    )


def _project(database: Database, name: str) -> Project:
    return ProjectsRepository(database).create(project_name=name, project_folder=name, tenant_id="tenant")


def _add_photos(database: Database, project: Project, names: Sequence[str]) -> list[int]:
    now = database.clock()
    rows = [{"project_id": project.id, "filename": name, "created_at": now, "updated_at": now} for name in names]
    with database.begin() as connection:
        connection.execute(insert(photos), rows)
        found = connection.execute(text("SELECT id FROM photos WHERE project_id = :id ORDER BY id"), {"id": project.id})
        return list(found.scalars())


@contextmanager
def _staged(database: Database, project: Project, names: Sequence[str]) -> Iterator[tuple[Connection, DerivativeScan]]:
    with database.connect() as connection, temporary_tables(connection):
        scan = DerivativeScan(connection)
        scan.begin(project.id)
        scan.add_originals(map(_file, names))
        yield connection, scan


def test_a_file_belongs_to_the_first_photo_whose_name_differs_only_in_spelling(
    database: Database,
) -> None:
    project = _project(database, "Iceland")
    fox, other_fox, owl = _add_photos(database, project, ["FOX", "Fox", "owl"])
    _add_photos(database, _project(database, "Norway"), ["elk"])
    with _staged(database, project, ["fox", "Fox", "OWL", "Owl", "elk"]) as (_, scan):
        found = [(fox, "fox.jpg"), (other_fox, "Fox.jpg"), (owl, "OWL.jpg"), (owl, "Owl.jpg")]
        for batches in (scan.changed_files, scan.unknown, scan.changed_files):
            assert sorted(row for batch in batches() for row in batch) == sorted(found)


def test_the_derivative_of_a_long_name_is_found_if_the_file_differs_in_spelling(database: Database) -> None:
    project, name = _project(database, "Iceland"), "x" * 251
    _add_photos(database, project, [name])
    with database.begin() as connection:
        connection.execute(update(photos).values(thumbnail_status="generated"))
    made = ScannedDerivative(base_name=derivative_stem(name), size_bytes=1, mtime_ns=3)
    with database.connect() as connection, temporary_tables(connection):
        scan = DerivativeScan(connection)
        scan.begin(project.id)
        scan.add_derivatives(DerivativeKind.THUMBNAIL, [made])
        scan.add_originals([_file(name.upper())])
        assert len([row for batch in scan.changed_files() for row in batch]) == 1
        assert list(scan.outdated(DerivativeKind.THUMBNAIL)) == []


def test_the_work_for_a_file_without_a_photo_grows_in_proportion_to_the_files(
    sqlite_database: Database,
) -> None:
    steps = [_steps(sqlite_database, count) for count in (500, 4_000)]
    assert steps[1] < 16 * steps[0]


def _steps(database: Database, count: int) -> int:
    """Return how many hundred steps SQLite's machine takes to find the photos of files, one of which has none."""
    project = _project(database, f"of {count}")
    names = [f"IMG_{number:05}" for number in range(count)]
    _add_photos(database, project, names)
    steps = 0

    def count_step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with _staged(database, project, [*names, "fox"]) as (connection, scan):
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(count_step, 100)
        try:
            assert [row for batch in scan.unknown() for row in batch if row[1] == "fox.jpg"] == []
        finally:
            driver.set_progress_handler(None, 0)
    return steps


@pytest.mark.postgres
def test_postgresql_does_not_compare_each_file_with_each_photo(
    postgresql_database: Database,
) -> None:
    project = _project(postgresql_database, "Iceland")
    names = [f"IMG_{number:05}" for number in range(5_000)]
    _add_photos(postgresql_database, project, names)
    with _staged(postgresql_database, project, names) as (connection, scan):
        assert scan is not None
        explain = text(f"EXPLAIN {derivative_scan._FIND_STRANGERS}")
        plan = "\n".join(connection.execute(explain, {"project_id": project.id}).scalars())
        connection.rollback()
    assert "Nested Loop" not in plan
