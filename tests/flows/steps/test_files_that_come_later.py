"""A file that is added after a user set the keep flags is never removed because of these flags."""

from __future__ import annotations

from flows.steps.images import photo_processing
from flows.steps.targets.photo_files import find_files
from storage import PhotosRepository
from tests.flows.conftest import items_of


def test_a_raw_file_that_joins_its_jpeg_survives_every_commit(studio, jpeg):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": jpeg()})
    studio.run("upload_postprocess", scope="photo_set", items=[{"photo_id": photo_id}])
    assert studio.get_photo(photo_id).keep_raw == 0
    (studio.folder(iceland).path / "fox.NEF").write_bytes(b"copied from the other card")
    for type_ in ("manifest_check", "folder_check", "file_removal", "manifest_cleaning"):
        assert studio.run(type_, project_id=iceland.id).status == "completed"
    assert "tenant/Iceland/fox.NEF" in studio.disk()
    photo = studio.get_photo(photo_id)
    assert (photo.raw_available, photo.keep_raw) == (1, 1)


def test_a_file_that_somebody_took_back_out_of_the_trash_is_kept(studio):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", keep_jpg=0)
    studio.run("file_removal", project_id=iceland.id)
    [trashed] = (studio.folder(iceland).trash).iterdir()
    trashed.rename(studio.folder(iceland).path / "fox.jpg")
    for type_ in ("manifest_check", "file_removal"):
        assert studio.run(type_, project_id=iceland.id).status == "completed"
    assert "tenant/Iceland/fox.jpg" in studio.disk()
    assert studio.get_photo(photo_id).keep_jpg == 1


def test_a_decision_against_a_file_that_is_there_stays_through_the_checks(studio):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", keep_raw=0, jpg_available=0)
    studio.run("manifest_check", project_id=iceland.id)
    photo = studio.get_photo(photo_id)
    assert (photo.jpg_available, photo.keep_jpg, photo.keep_raw) == (1, 1, 0)


def test_a_file_that_was_missing_during_post_processing_is_kept_when_it_is_back(studio, jpeg):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", contents={"jpg": jpeg()})
    studio.run("upload_postprocess", project_id=iceland.id)
    raw = studio.folder(iceland).path / "fox.NEF"
    elsewhere = raw.rename(studio.root / "fox.NEF")
    for type_ in ("manifest_check", "upload_postprocess"):
        studio.run(type_, project_id=iceland.id)
    elsewhere.rename(raw)
    for type_ in ("manifest_check", "file_removal"):
        assert studio.run(type_, project_id=iceland.id).status == "completed"
    photo = studio.get_photo(photo_id)
    assert (photo.raw_available, photo.keep_raw) == (1, 1)
    assert "tenant/Iceland/fox.NEF" in studio.disk()


def test_a_raw_file_that_replaces_a_missing_jpeg_is_kept(studio):
    iceland = studio.project("Iceland")
    studio.photo(iceland, "owl", "jpg")
    jpeg, raw = (studio.folder(iceland).path / name for name in ("fox.jpg", "fox.NEF"))
    jpeg.write_bytes(b"from the first card")
    studio.run("folder_check", project_id=iceland.id)
    jpeg.unlink()
    studio.run("manifest_check", project_id=iceland.id)
    raw.write_bytes(b"from the other card")
    for type_ in ("manifest_check", "file_removal"):
        assert studio.run(type_, project_id=iceland.id).status == "completed"
    assert "tenant/Iceland/fox.NEF" in studio.disk()


def test_a_file_that_comes_during_post_processing_is_kept(studio, jpeg, monkeypatch):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": jpeg()})

    def find_files_just_before(*arguments):
        found = find_files(*arguments)
        (studio.folder(iceland).path / "fox.NEF").write_bytes(b"copied from the other card")
        assert studio.run("manifest_check", project_id=iceland.id).status == "completed"
        return found

    monkeypatch.setattr(photo_processing, "find_files", find_files_just_before)
    assert studio.run("upload_postprocess", scope="photo_set", items=items_of(photo_id)).status == "completed"
    photo = studio.get_photo(photo_id)
    assert (photo.raw_available, photo.keep_raw) == (1, 1)


def test_the_row_of_a_photo_whose_kept_file_is_missing_for_a_while_stays(studio, jpeg):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", contents={"jpg": jpeg()}, tagged=("animal",))
    studio.run("upload_postprocess", project_id=iceland.id)
    (studio.folder(iceland).path / "fox.NEF").rename(studio.root / "fox.NEF")
    studio.run("manifest_check", project_id=iceland.id)
    PhotosRepository(studio.database).update_many([{"id": photo_id, "keep_jpg": 0}])
    for type_ in ("file_removal", "manifest_check", "manifest_cleaning"):
        assert studio.run(type_, project_id=iceland.id).status == "completed"
    assert studio.get_photo(photo_id) is not None
    (studio.root / "fox.NEF").rename(studio.folder(iceland).path / "fox.NEF")
    studio.run("manifest_check", project_id=iceland.id)
    photo = studio.get_photo(photo_id)
    assert (photo.jpg_available, photo.raw_available, photo.keep_raw) == (0, 1, 1)
