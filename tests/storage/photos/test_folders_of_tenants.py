"""The upgrade that allows the same folder name for several tenants keeps every row; it changes only our own files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from storage import Database, PhotosRepository, Project, ProjectsRepository
from storage.database.tables import file_journal, photo_tags, photos, projects, tags, tasks
from storage.errors import ConstraintViolated, SchemaMismatch
from storage.photos.projects import folders_are_unique_per_tenant
from storage.upkeep.revisions import current_revision, head_revision
from storage.upkeep.schema_upgrade import downgrade, upgrade
from tests.storage.upkeep.test_legacy_upgrade import (
    LegacyFile,
    Watch,
    current,
    each_statement,
    kill_upgrade,
    watched_upgrade,
    within_statements,
)

BEFORE = "0008"


def rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    with database.connect() as connection:
        return {
            table.name: [
                dict(row) for row in connection.execute(table.select().order_by(*table.primary_key)).mappings()
            ]
            for table in (projects, photos, tags, photo_tags, tasks, file_journal)
        }


@pytest.fixture
def filled(
    database: Database, make_project: Callable[..., Project], make_photos: Callable[..., list[int]], make_task: Any
) -> Database:
    """A database of projects with photos and a tag; the newest project was removed."""
    kept, removed = make_project("Alps"), make_project("Iceland")
    make_task("items", photo_ids=make_photos(kept, 3))
    with database.begin() as connection:
        tag_id = connection.scalar(tags.insert().values(project_id=kept.id, name="snow").returning(tags.c.id))
        photo_id = connection.scalar(photos.select().with_only_columns(photos.c.id).limit(1))
        connection.execute(photo_tags.insert().values(photo_id=photo_id, tag_id=tag_id))
    ProjectsRepository(database).remove(removed.id)
    return database


def add(database: Database, tenant_id: str, folder: str) -> int:
    return ProjectsRepository(database).create(project_name="New", project_folder=folder, tenant_id=tenant_id).id


def test_every_row_and_id_is_kept_both_ways(filled: Database, tmp_path: Path) -> None:
    before = rows(filled)
    last_id = before["projects"][-1]["id"] + 1
    downgrade(filled, BEFORE, force=True, backup_to=tmp_path / "backup")
    assert rows(filled) == before
    with pytest.raises(ConstraintViolated):
        add(filled, "other", "Alps")
    assert upgrade(filled).kept == ()
    assert rows(filled) == before
    # The id of the removed project is not used again.
    assert add(filled, "other", "Alps") > last_id
    with pytest.raises(ConstraintViolated):
        add(filled, "other", "Alps")
    with filled.begin() as connection:
        connection.execute(projects.delete())
        assert connection.scalar(text("SELECT count(*) FROM photos")) == 0


def test_a_downgrade_is_refused_if_two_tenants_have_folders_of_one_name(filled: Database, tmp_path: Path) -> None:
    add(filled, "other", "Alps")
    before = rows(filled)
    with pytest.raises(SchemaMismatch, match="the first: Alps") as refused:
        downgrade(filled, force=True, backup_to=tmp_path / "backup")
    assert str(refused.value).startswith(f"{filled.url}: several tenants have")
    assert rows(filled) == before
    with filled.connect() as connection:
        assert current_revision(connection) == head_revision()


def test_a_file_that_another_program_uses_as_well_keeps_folders_unique(sqlite_database: Database) -> None:
    downgrade(sqlite_database, BEFORE)
    with sqlite_database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE public_links (id INTEGER PRIMARY KEY)")
    report = upgrade(sqlite_database)
    assert "unique among all tenants" in report.kept[0]
    with sqlite_database.connect() as connection:
        assert not folders_are_unique_per_tenant(connection)
    add(sqlite_database, "tenant", "Alps")
    with pytest.raises(ConstraintViolated):
        add(sqlite_database, "other", "Alps")
    downgrade(sqlite_database, force=True)
    assert upgrade(sqlite_database).kept == report.kept


def test_a_file_that_another_program_made_keeps_folders_unique(tmp_path: Path) -> None:
    file = LegacyFile(tmp_path / "library.db")
    current(file)
    assert len(file.upgrade().kept) == 1
    with file.database() as database:
        add(database, "tenant", "Alps")
        with pytest.raises(ConstraintViolated):
            add(database, "other", "Alps")


def test_views_triggers_and_indexes_are_kept(sqlite_database: Database) -> None:
    downgrade(sqlite_database, BEFORE)
    with sqlite_database.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW folders AS SELECT project_folder FROM projects")
        connection.exec_driver_sql(
            "CREATE TRIGGER removed AFTER DELETE ON projects BEGIN DELETE FROM tags WHERE project_id = OLD.id; END"
        )
        connection.exec_driver_sql("CREATE INDEX own ON projects (project_name)")
    upgrade(sqlite_database)
    kept = text("SELECT name, sql FROM sqlite_master WHERE name IN ('folders', 'own', 'removed') ORDER BY 1")
    with sqlite_database.connect() as connection:
        before = connection.execute(kept).all()
    assert len(before) == 3
    downgrade(sqlite_database)
    upgrade(sqlite_database)
    add(sqlite_database, "tenant", "Alps")
    add(sqlite_database, "other", "Alps")
    with sqlite_database.connect() as connection:
        assert connection.execute(kept).all() == before
        assert list(connection.scalars(text("SELECT * FROM folders"))) == ["Alps", "Alps"]


def test_a_new_file_is_ours(tmp_path: Path) -> None:
    with LegacyFile(tmp_path / "library.db").database() as database:
        assert upgrade(database).kept == ()
        with database.connect() as connection:
            assert folders_are_unique_per_tenant(connection)


def test_the_project_of_a_folder_is_the_tenants(database: Database) -> None:
    first, second = add(database, "tenant", "Alps"), add(database, "other", "Alps")
    repository = ProjectsRepository(database)
    found = [repository.get_by_folder("Alps", tenant_id=tenant) for tenant in ("tenant", "other", "third")]
    assert [None if one is None else one.id for one in found] == [first, second, None]
    assert [one.id for one in repository.list_beside("other")] == [second]


# The child only upgrades and dies, so it does not need the threads of its parent.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("watch", [each_statement, within_statements], ids=lambda watch: watch.__name__)
@pytest.mark.slow
def test_a_file_of_ours_whose_upgrade_is_killed_at_any_moment_is_old_or_new(
    sqlite_database: Database, tmp_path: Path, watch: Watch
) -> None:
    project_id = add(sqlite_database, "tenant", "Alps")
    PhotosRepository(sqlite_database).create_many([{"project_id": project_id, "filename": "fox"}])
    downgrade(sqlite_database, BEFORE)
    sqlite_database.close()
    old = LegacyFile(Path(str(sqlite_database.path)))
    old_rows, old_bytes = old.rows(), old.path.read_bytes()
    finished = LegacyFile(tmp_path / "finished.db")
    finished.path.write_bytes(old_bytes)
    moments: list[None] = []
    watched_upgrade(finished.path, watch, lambda: moments.append(None))
    states = set()
    count = len(moments)
    for at in sorted({number * count // 8 for number in range(8)} | set(range(count - 3, count))):
        (tmp_path / str(at)).mkdir()
        copy = LegacyFile(tmp_path / str(at) / "library.db")
        copy.path.write_bytes(old_bytes)
        kill_upgrade(copy.path, watch, at=at)
        is_new = copy.rows()["alembic_version"] != old_rows["alembic_version"]
        states.add(is_new)
        assert copy.upgrade().is_changed is not is_new
        assert copy.rows() == finished.rows()
        assert copy.is_sound()
    assert states == ({False, True} if watch is each_statement else {False})
