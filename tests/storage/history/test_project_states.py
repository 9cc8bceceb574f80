"""An undo restores rows of projects."""

from __future__ import annotations

from sqlalchemy import select

from storage import Database, ProjectsRepository
from storage.database.tables import tags
from storage.history.project_states import add_project, remove_empty_project
from storage.history.row_snapshots import TAG_IDS, TAGS


def test_a_restored_project_has_both_of_its_tags_of_one_name(sqlite_database: Database) -> None:
    project = ProjectsRepository(sqlite_database).create(project_name="Alps", project_folder="Alps", tenant_id="tenant")
    with sqlite_database.begin() as connection:
        # A file of another program may have such tags, so it has no unique index.
        connection.exec_driver_sql("DROP TABLE tags")
        connection.exec_driver_sql("CREATE TABLE tags (id INTEGER PRIMARY KEY, project_id INTEGER, name TEXT)")
        rows = [{"id": 5, "project_id": project.id, "name": "fox"}, {"id": 7, "project_id": project.id, "name": "fox"}]
        connection.execute(tags.insert(), rows)
        removed = remove_empty_project(connection, project.id)
        assert removed is not None
        connection.execute(tags.delete())

        add_project(
            connection,
            removed,
            tags=list(zip(removed[TAG_IDS], removed[TAGS], strict=True)),
            now=sqlite_database.clock(),
        )

        found = connection.execute(select(tags.c.id, tags.c.name).order_by(tags.c.id)).all()
    assert list(map(tuple, found)) == [(5, "fox"), (7, "fox")]


def test_a_restored_project_without_a_valid_time_gets_the_current_time(sqlite_database: Database) -> None:
    project = ProjectsRepository(sqlite_database).create(project_name="Alps", project_folder="Alps", tenant_id="tenant")
    with sqlite_database.begin() as connection:
        connection.exec_driver_sql("UPDATE projects SET created_at = 'last summer', archived_at = 'never'")
        removed = remove_empty_project(connection, project.id)
        assert removed is not None

        add_project(connection, removed, tags=(), now=sqlite_database.clock())

    restored = ProjectsRepository(sqlite_database).get(project.id)
    assert (restored.created_at, restored.archived_at) == (sqlite_database.clock(), None)
