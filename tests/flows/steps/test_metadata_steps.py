"""The steps metadata and regenerate_metadata: rows get the values of originals, and keep those of others."""

from __future__ import annotations

import errno
import os

import pytest
from sqlalchemy import text

from flows.imaging.pixels.vips import load_vips
from storage import JobsRepository, PhotosRepository, ProjectsRepository
from tests.flows.conftest import items_of


@pytest.fixture
def picture(studio, jpeg):
    def make(project, name, *, row=None, **exif):
        return studio.photo(project, name, "jpg", contents={"jpg": jpeg(**exif)}, **(row or {}))

    return make


def test_date_orientation_camera_and_size_come_into_the_row(studio, picture):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox", DateTimeOriginal="2024:05:06 07:08:09", Make="Nikon", Model="Z 8", Orientation=8)
    job = studio.run("metadata", scope="photo_set", items=items_of(photo_id))
    assert job.status == "completed", job.error_message
    photo = studio.get_photo(photo_id)
    assert (photo.date_time_original, photo.orientation) == ("2024-05-06T07:08:09", 8)
    size = (studio.folder(iceland).path / "fox.jpg").stat().st_size
    assert photo.meta_json == {"make": "Nikon", "model": "Z 8", "width": 60, "height": 40, "size_bytes": size}
    assert job.result["counts"] == {"metadata changed": 1}


def test_what_the_file_does_not_say_and_keys_of_others_stay(studio, picture):
    iceland = studio.project("Iceland")
    known = {"make": "Leica", "rating": 5, "nested": {"a": [1]}, "note": None, "width": 1}
    row = {"date_time_original": "2020-01-01T00:00:00", "meta_json": known}
    photo_id = picture(iceland, "fox", row=row)
    studio.run("metadata", scope="photo_set", items=items_of(photo_id))
    photo = studio.get_photo(photo_id)
    assert photo.date_time_original == "2020-01-01T00:00:00"
    assert photo.meta_json["rating"] == 5
    assert photo.meta_json["nested"] == {"a": [1]}
    assert photo.meta_json["note"] is None
    assert photo.meta_json["make"] == "Leica"
    assert photo.meta_json["width"] == 60


def test_meta_json_that_is_no_object_is_not_overwritten(studio, picture):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox", DateTimeOriginal="2024:05:06 07:08:09")
    with studio.database.begin() as connection:
        connection.execute(text("UPDATE photos SET meta_json = '[1, 2]'"))
    assert studio.run("metadata", scope="photo_set", items=items_of(photo_id)).status == "completed"
    photo = studio.get_photo(photo_id)
    assert photo.meta_json == [1, 2]
    assert photo.date_time_original == "2024-05-06T07:08:09"


def test_only_rows_that_change_are_written(studio, picture, clock):
    iceland = studio.project("Iceland")
    ids = [picture(iceland, name, DateTimeOriginal="2024:05:06 07:08:09") for name in ("fox", "owl")]
    studio.run("metadata", scope="photo_set", items=items_of(*ids))
    before = studio.everything()
    clock.advance(seconds=60)
    job = studio.run("metadata", scope="photo_set", items=items_of(*ids))
    assert job.result["counts"] == {"unchanged": 2}
    assert studio.everything() == before


@pytest.mark.parametrize("is_lost", [False, True], ids=["a third file", "a third file on a bad sector"])
def test_the_date_that_an_edited_jpeg_lost_comes_from_the_other_file(studio, jpeg, monkeypatch, is_lost):
    iceland = studio.project("Iceland")
    tiff = load_vips().Image.black(9, 9).cast("uchar").tiffsave_buffer()
    photo_id = studio.photo(
        iceland,
        "fox",
        "jpg",
        "tif",
        "jpeg",
        contents={"jpeg": jpeg(), "jpg": jpeg(30, 20, DateTimeOriginal="2024:05:06 07:08:09"), "tif": tiff},
    )
    read = studio.runtime.images.read_metadata

    def lost(source):
        if source.name == "fox.tif" and is_lost:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(source))
        return read(source)

    monkeypatch.setattr(studio.runtime.images, "read_metadata", lost)
    assert studio.run("metadata", scope="photo_set", items=items_of(photo_id)).status == "completed"
    photo = studio.get_photo(photo_id)
    assert photo.date_time_original == "2024-05-06T07:08:09"
    assert photo.meta_json["width"] == 60


def test_a_date_of_a_second_file_stays_while_the_disk_cannot_read_that_file(studio, jpeg, monkeypatch):
    iceland = studio.project("Iceland")
    contents = {"jpeg": jpeg(), "jpg": jpeg(30, 20, DateTimeOriginal="2024:05:06 07:08:09")}
    photo_id = studio.photo(iceland, "fox", "jpg", "jpeg", contents=contents)
    studio.run("metadata", scope="photo_set", items=items_of(photo_id))
    (studio.folder(iceland).path / "fox.jpeg").write_bytes(jpeg(40, 20))
    read = studio.runtime.images.read_metadata

    def fail(source):
        if source.name == "fox.jpg":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(source))
        return read(source)

    with monkeypatch.context() as patch:
        patch.setattr(studio.runtime.images, "read_metadata", fail)
        studio.run("metadata", scope="photo_set", items=items_of(photo_id))
    assert studio.get_photo(photo_id).date_time_original == "2024-05-06T07:08:09"
    # The next run reads the second file again, and clears what neither file says now.
    (studio.folder(iceland).path / "fox.jpg").write_bytes(jpeg(30, 20))
    studio.run("metadata", scope="photo_set", items=items_of(photo_id))
    assert studio.get_photo(photo_id).date_time_original is None


@pytest.mark.parametrize("scope", ["project", "global", "photo_set"])
def test_all_photos_of_the_projects_are_read_again(studio, picture, scope):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    ids = {
        project.project_name: picture(project, "fox", DateTimeOriginal="2024:05:06 07:08:09")
        for project in (iceland, norway)
    }
    arguments = {"project_id": iceland.id} if scope == "project" else {}
    if scope == "photo_set":
        arguments["items"] = items_of(ids["Iceland"])
    job = studio.run("regenerate_metadata", scope=scope, **arguments)
    assert job.status == "completed", job.error_message
    read = {name for name, photo_id in ids.items() if studio.get_photo(photo_id).date_time_original is not None}
    assert read == ({"Iceland", "Norway"} if scope == "global" else {"Iceland"})
    before = studio.everything()
    studio.run("regenerate_metadata", scope=scope, **arguments)
    assert studio.everything() == before


def test_a_damaged_image_costs_its_own_photo_alone(studio, picture):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    bad = studio.photo(iceland, "bad", "jpg")
    good = picture(iceland, "good", DateTimeOriginal="2024:05:06 07:08:09")
    other = picture(norway, "other", DateTimeOriginal="2024:05:06 07:08:09")
    job = studio.run("metadata", scope="photo_set", items=items_of(bad, good))
    assert [item.status for item in JobsRepository(studio.database).list_items(job.id)] == ["failed", "done"]
    assert job.status == "failed"
    PhotosRepository(studio.database).update_many([{"id": good, "date_time_original": None}])
    job = studio.run("regenerate_metadata", scope="global")
    assert job.status == "failed"
    assert job.error_message.startswith("1 of 2 projects failed: Iceland: 1 of 2 photos failed")
    for photo_id in (good, other):
        assert studio.get_photo(photo_id).date_time_original == "2024-05-06T07:08:09"


def test_archived_projects_and_missing_folders_are_left_alone(studio, picture):
    old, away = studio.project("Old"), studio.project("Away")
    for project in (old, away):
        picture(project, "fox", DateTimeOriginal="2024:05:06 07:08:09")
    ProjectsRepository(studio.database).archive(old.id)
    studio.folder(away).path.rename(studio.root.parent / "elsewhere")
    before = studio.everything()
    job = studio.run("regenerate_metadata", scope="global")
    assert "does not exist" in job.error_message
    assert studio.everything() == before


def test_what_another_program_writes_while_the_file_is_read_survives(studio, picture, monkeypatch):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox", Make="Leica")
    read = studio.runtime.images.read_metadata

    def slow(source):
        found = read(source)
        PhotosRepository(studio.database).update_many([{"id": photo_id, "meta_json": {"rating": 5, "make": "old"}}])
        return found

    monkeypatch.setattr(studio.runtime.images, "read_metadata", slow)
    assert studio.run("metadata", items=[{"photo_id": photo_id}]).status == "completed"
    meta = studio.get_photo(photo_id).meta_json
    assert (meta["rating"], meta["make"], meta["width"]) == (5, "Leica", 60)
