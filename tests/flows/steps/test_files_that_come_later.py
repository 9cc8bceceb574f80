"""A file that is added after a user set the keep flags is never removed because of these flags."""

from __future__ import annotations


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
