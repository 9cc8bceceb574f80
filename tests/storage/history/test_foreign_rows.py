"""Rows of other programs that keep the database from removing a row are found however their keys are declared."""

from __future__ import annotations

from sqlalchemy import text

from storage import Database, PhotosRepository, ProjectsRepository
from storage.database.tables import photos
from storage.history.foreign_rows import removal_refusals


def _photo(database: Database) -> int:
    project = ProjectsRepository(database).create(project_name="a", project_folder="a", tenant_id="t")
    (photo_id,) = PhotosRepository(database).create_many([{"project_id": project.id, "filename": "a"}])
    return photo_id


def test_a_table_of_ours_is_found_however_another_program_spelled_its_name(sqlite_database: Database) -> None:
    photo_id = _photo(sqlite_database)
    with sqlite_database.begin() as connection:
        for statement in (
            "ALTER TABLE photos RENAME TO renamed",
            "ALTER TABLE renamed RENAME TO Photos",
            "CREATE TABLE covers (photo integer REFERENCES PHOTOS (ID))",
            f"INSERT INTO covers VALUES ({photo_id})",
        ):
            connection.execute(text(statement))
        assert "(covers)" in removal_refusals(connection, photos, [photo_id])[photo_id]


def test_a_key_that_sets_only_columns_to_null_that_may_be_null_keeps_no_row(postgresql_database: Database) -> None:
    photo_id = _photo(postgresql_database)
    with postgresql_database.begin() as connection:
        for statement in (
            "ALTER TABLE photos ADD UNIQUE (project_id, id)",
            "CREATE TABLE covers (project_id bigint NOT NULL, photo_id bigint)",
            "ALTER TABLE covers ADD FOREIGN KEY (project_id, photo_id) REFERENCES photos (project_id, id) "
            "ON DELETE SET NULL (photo_id)",
            "INSERT INTO covers SELECT project_id, id FROM photos",
        ):
            connection.execute(text(statement))
        assert removal_refusals(connection, photos, [photo_id]) == {}
        assert PhotosRepository(connection).remove_many([photo_id]) == 1
