"""Values that other programs wrote to `meta_json`."""

from __future__ import annotations

import pytest

from storage import Database, PhotosRepository, ProjectsRepository
from storage.photos.derivatives import DerivativesRepository, ProcessedPhoto


@pytest.mark.parametrize("value", [r'"ASCII\u0000"', r'"\ud83d"'])
def test_a_value_that_only_sqlite_can_store_stays_when_metadata_are_written(
    sqlite_database: Database, value: str
) -> None:
    project = ProjectsRepository(sqlite_database).create(project_name="Alps", project_folder="Alps")
    photos = PhotosRepository(sqlite_database)
    ids = photos.create_many({"project_id": project.id, "filename": name} for name in ("fox", "owl"))
    with sqlite_database.begin() as connection:
        connection.exec_driver_sql("UPDATE photos SET meta_json = ? WHERE id = ?", (f'{{"comment": {value}}}', ids[0]))
    before = photos.get_many(ids)
    processed = [ProcessedPhoto(photo=photo, values={}, meta={"make": "Nikon"}) for photo in before]

    assert DerivativesRepository(sqlite_database).write_processed(processed) == set()

    fox, owl = (photo.meta_json for photo in photos.get_many(ids))
    assert fox == {**before[0].meta_json, "make": "Nikon"}
    assert owl == {"make": "Nikon"}
