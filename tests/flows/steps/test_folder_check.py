"""Images without a row get one; other files stay, unless a setting says otherwise."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from storage import PhotosRepository
from storage.database.tables import photos


def put(studio: Any, project: Any, *names: str) -> None:
    for name in names:
        (studio.folder(project).path / name).write_bytes(name.encode())


def names(studio: Any, project: Any) -> list[str]:
    return sorted(photo.filename for photo in PhotosRepository(studio.database).list_by_project(project.id))


def trash_unaccepted(studio: Any, **others: Any) -> None:
    studio.runtime.settings = studio.runtime.settings.model_copy(update={"unaccepted_files": "trash", **others})


@pytest.mark.parametrize("scope", ["project", "photo_set", "global"])
def test_new_files_get_a_row_and_go_to_post_processing(studio: Any, scope: str) -> None:
    projects = [studio.project(name) for name in ("one", "two", "three")]
    old = [studio.photo(project, "old", "jpg") for project in projects]
    for project in projects:
        put(studio, project, "new.JPG", "new.NEF", "new.xmp", "raw.cr2", "scan.TIFF", "old.NEF", "lonely.xmp")
    arguments: dict[str, Any] = {
        "project": {"project_id": projects[0].id},
        "photo_set": {"items": [{"photo_id": photo_id} for photo_id in old[:2]]},
        "global": {"scope": "global"},
    }[scope]
    reached = {"project": 1, "photo_set": 2, "global": 3}[scope]

    job = studio.run("folder_check", **arguments)
    after, asked = studio.everything(), studio.follow_ups()
    again = studio.run("folder_check", **arguments)

    assert job.result["counts"]["added"] == 3 * reached
    found = {photo.filename: photo for photo in PhotosRepository(studio.database).list_by_project(projects[0].id)}
    assert {
        name: (
            photo.basename,
            photo.ext,
            (photo.jpg_available, photo.raw_available, photo.other_available),
            (photo.keep_jpg, photo.keep_raw),
            photo.created_at,
        )
        for name, photo in found.items()
        if name != "old"
    } == {
        "new": ("new", "jpg", (1, 1, 0), (1, 1), studio.database.clock()),
        "raw": ("raw", "cr2", (0, 1, 0), (0, 1), studio.database.clock()),
        "scan": ("scan", "tiff", (0, 0, 1), (0, 0), studio.database.clock()),
    }
    assert [names(studio, project) == ["old"] for project in projects] == [False] * reached + [True] * (3 - reached)
    with studio.database.connect() as connection:
        added = list(connection.execute(select(photos.c.id).where(photos.c.filename != "old").order_by(photos.c.id)))
    assert asked == [("upload_postprocess", 90, row.id) for row in added]
    assert again.status == "completed"
    assert studio.everything() == after
    assert studio.follow_ups() == asked


def test_spellings_of_one_name_are_one_photo(studio: Any) -> None:
    project = studio.project("Iceland")
    known = studio.photo(project, "caf\u00e9", "jpg")
    put(studio, project, f"{unicodedata.normalize('NFD', 'café')}.nef", "IMG_1.JPG", "img_1.nef", "Img_1.xmp")

    assert studio.run("folder_check", project_id=project.id).status == "completed"

    added = [photo for photo in PhotosRepository(studio.database).list_by_project(project.id) if photo.id != known]
    assert [(photo.filename, photo.jpg_available, photo.raw_available) for photo in added] == [("IMG_1", 1, 1)]


def test_what_is_no_photo_is_reported_and_stays(studio: Any, tmp_path: Path) -> None:
    project = studio.project("Iceland")
    (tmp_path / "outside.jpg").write_bytes(b"x")
    put(studio, project, "film.mp4", "note.txt", ".hidden.jpg", "two\nlines.jpg", "no extension")
    path = studio.folder(project).path
    (path / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    (path / "folder.jpg").mkdir()
    os.mkfifo(path / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(path) + b"/bad\xff.jpg")).write_bytes(b"x")
    before = studio.everything()

    job = studio.run("folder_check", project_id=project.id)

    assert studio.everything() == before
    # The folders .thumb, .preview and .trash, and the file, are hidden, so they are not reported.
    assert job.result["counts"] == {"kept": 3, "skipped": 5}
    assert any(r"'two\nlines.jpg': name with control characters" in text for text in job.result["examples"]["skipped"])


def test_files_of_no_accepted_kind_are_trashed_where_so_set_but_for_unfinished_transfers(studio: Any) -> None:
    trash_unaccepted(studio)
    project = studio.project("Iceland")
    studio.photo(project, "a", "jpg", "xmp")
    put(studio, project, "film.mp4", "b.jpg.part", "c.crdownload", "d.jpg.!ut", ".hidden", "lonely.xmp")

    job = studio.run("folder_check", project_id=project.id)
    after = studio.everything()
    studio.run("folder_check", project_id=project.id)

    assert studio.everything() == after
    assert job.result["counts"] == {"trashed": 1, "kept": 3}
    assert {name for name in studio.disk() if "/.trash/" in name} == {"tenant/Iceland/.trash/film.mp4"}
    assert studio.journal() == [("trashed", "tenant/Iceland/film.mp4", "tenant/Iceland/.trash/film.mp4")]
    assert {f"tenant/Iceland/{name}" for name in ("a.jpg", "a.xmp", "b.jpg.part", ".hidden", "lonely.xmp")} <= (
        studio.disk().keys()
    )


def test_a_file_of_no_accepted_kind_that_may_still_be_written_waits_for_a_later_run(studio: Any) -> None:
    trash_unaccepted(studio, settle_seconds=3600)
    iceland = studio.project("Iceland")
    put(studio, iceland, "fox.MOV")
    job = studio.run("folder_check", project_id=iceland.id)
    assert job.result["examples"]["kept"] == [
        "fox.MOV: a program may still be writing it; a later run moves it to .trash"
    ]
    os.utime(studio.folder(iceland).path / "fox.MOV", (0, 0))
    assert studio.run("folder_check", project_id=iceland.id).result["counts"] == {"trashed": 1}


def test_a_missing_folder_is_skipped_and_a_symlink_in_its_place_fails_only_its_project(
    studio: Any, tmp_path: Path
) -> None:
    gone, linked, good = (studio.project(name) for name in ("gone", "linked", "good"))
    for project in (gone, linked):
        path = studio.folder(project).path
        path.rename(tmp_path / project.project_name)
    path.symlink_to(tmp_path / "linked")
    (tmp_path / "linked" / "outside.jpg").write_bytes(b"x")
    put(studio, good, "new.jpg")

    job = studio.run("folder_check", scope="global")

    assert "1 of 3 projects failed: linked" in job.error_message
    assert [names(studio, project) for project in (gone, linked, good)] == [[], [], ["new"]]


@pytest.mark.slow_on("postgresql")
def test_a_death_at_any_point_is_repaired_and_what_was_moved_is_journaled(studio: Any, deaths: Any) -> None:
    trash_unaccepted(studio)

    def prepare(studio: Any) -> int:
        project = studio.project("Iceland")
        put(studio, project, "new.jpg", "film.mp4", "note.txt")
        return int(studio.enqueue("folder_check", project_id=project.id))

    deaths.check(prepare, more_than=4, outcome=lambda studio: (studio.outcome(), studio.follow_ups()))
