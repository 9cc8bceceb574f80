"""Snapshots of rows for the journal and for an undo."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from storage import Database, PhotosRepository, ProjectsRepository
from storage.database.column_types import encode_json
from storage.database.tables import photos
from storage.history.foreign_columns import FOREIGN, changed_columns
from storage.history.photo_states import PhotoStates, TakenNames
from storage.history.project_states import add_project, is_in_use
from storage.history.row_snapshots import TAG_IDS, TAGS, removed_project, snapshot_photos


def test_rows_that_refer_to_a_photo_that_another_program_removed_belong_to_no_snapshot(
    sqlite_database: Database,
) -> None:
    project = ProjectsRepository(sqlite_database).create(project_name="Alps", project_folder="Alps")
    kept, removed = PhotosRepository(sqlite_database).create_many(
        {"project_id": project.id, "filename": name} for name in ("fox", "owl")
    )
    with closing(sqlite3.connect(str(sqlite_database.path), isolation_level=None)) as other:
        # Without `PRAGMA foreign_keys = ON`, SQLite keeps the rows that refer to a removed row.
        other.execute("INSERT INTO tags (id, project_id, name) VALUES (1, ?, 'animal')", (project.id,))
        for table, columns in (
            ("photo_tags", "(photo_id, tag_id) VALUES (?, 1)"),
            ("photo_originals", "(photo_id, name, kind) VALUES (?, 'a.jpg', 'jpg')"),
            ("photo_derivatives", "(photo_id, kind, source_name, generated_at) VALUES (?, 'preview', 'a.jpg', '')"),
        ):
            other.execute(f"INSERT INTO {table} {columns}", (removed,))
        other.execute("DELETE FROM photos WHERE id = ?", (removed,))

    with sqlite_database.connect() as connection:
        assert snapshot_photos(connection, [kept, removed]).keys() == {kept}


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "{not JSON",
        "[" * 70 + "]" * 70,
        '"a text"',
        '{"rating":5}',
        b'{"rating":5}',
        r'{"comment": "ASCII\u0000", "title": "\ud83d"}',
        "a\0b",
        b"a\0b",
    ],
)
@pytest.mark.parametrize("is_removed", [True, False])
def test_values_of_another_program_are_restored(
    sqlite_database: Database, stored: str | bytes, is_removed: bool
) -> None:
    project = ProjectsRepository(sqlite_database).create(project_name="Alps", project_folder="Alps")
    [photo_id] = PhotosRepository(sqlite_database).create_many([{"project_id": project.id, "filename": "fox"}])
    with sqlite_database.begin() as connection:
        connection.exec_driver_sql("UPDATE photos SET meta_json = ?, ext = ?", (stored, stored))
        row = json.loads(encode_json(snapshot_photos(connection, [photo_id])[photo_id]))
        [part] = snapshot_photos(connection, [photo_id], columns=("meta_json", "ext")).values()
        assert part == {name: row[name] for name in ("meta_json", "ext")}
        if is_removed:
            PhotosRepository(connection).remove_many([photo_id])
        else:
            connection.exec_driver_sql("UPDATE photos SET meta_json = '{}', ext = 'jpg'")
        states = PhotoStates(connection, [photo_id])
        states.put(photo_id, row)

        states.write(connection, tenant_id="tenant", folders={}, now=sqlite_database.clock())

        document = stored.decode() if isinstance(stored, bytes) else stored
        assert tuple(connection.exec_driver_sql("SELECT meta_json, ext FROM photos").one()) == (document, stored)


def test_tags_and_columns_of_another_program_with_values_that_json_cannot_hold_are_restored(
    sqlite_database: Database,
) -> None:
    project = ProjectsRepository(sqlite_database).create(project_name="Alps", project_folder="Alps")
    [photo_id] = PhotosRepository(sqlite_database).create_many([{"project_id": project.id, "filename": "fox"}])
    with sqlite_database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE photos ADD COLUMN camera")
        connection.exec_driver_sql("UPDATE photos SET camera = ?", ("X100\0",))
        tags = [(1, project.id, "owl\0"), (2, project.id, b"\0\1")]
        connection.exec_driver_sql("INSERT INTO tags (id, project_id, name) VALUES (?, ?, ?)", tags)
        connection.exec_driver_sql(
            "INSERT INTO photo_tags (photo_id, tag_id) VALUES (?, ?)", [(photo_id, 1), (photo_id, 2)]
        )
        row = json.loads(encode_json(snapshot_photos(connection, [photo_id])[photo_id]))
        assert changed_columns(connection, photos, {photo_id: row[FOREIGN]}) == {}
        PhotosRepository(connection).remove_many([photo_id])
        removed = json.loads(encode_json(removed_project(connection, project.id)))
        assert is_in_use(connection, project.id, own_tags=removed[TAGS]) is None
        ProjectsRepository(connection).remove(project.id)
        given = list(zip(removed[TAG_IDS], removed[TAGS], strict=True))
        add_project(connection, removed, tags=given, now=sqlite_database.clock())
        states = PhotoStates(connection, [photo_id])
        states.put(photo_id, row)

        states.write(connection, tenant_id="tenant", folders={}, now=sqlite_database.clock())

        assert connection.exec_driver_sql("SELECT camera FROM photos").scalar_one() == "X100\0"
        assert connection.exec_driver_sql("SELECT id, project_id, name FROM tags ORDER BY id").all() == tags
        assert connection.exec_driver_sql("SELECT tag_id FROM photo_tags ORDER BY 1").scalars().all() == [1, 2]


def test_a_manifest_id_that_json_cannot_hold_is_compared_as_it_is_stored(sqlite_database: Database) -> None:
    project = ProjectsRepository(sqlite_database).create(project_name="Alps", project_folder="Alps")
    ids = PhotosRepository(sqlite_database).create_many(
        {"project_id": project.id, "filename": name} for name in ("fox", "owl", "elk")
    )
    with sqlite_database.begin() as connection:
        for photo_id, manifest_id in zip(ids, (b"\0\1", "a\0b", "plain"), strict=True):
            connection.exec_driver_sql("UPDATE photos SET manifest_id = ? WHERE id = ?", (manifest_id, photo_id))
        states = snapshot_photos(connection, ids)

        taken = TakenNames(connection, list(states.values()))

    for photo_id, state in states.items():
        assert not taken.is_manifest_id_taken(state, but_for=photo_id)
        assert taken.is_manifest_id_taken(state, but_for=photo_id + 10)
        assert taken.is_name_taken(state, but_for=photo_id + 10)
