"""The oldest photo keeps its base name; all files of a later photo are renamed together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from storage import PhotosRepository


def name_of(studio: Any, photo_id: int) -> str:
    photo = studio.get_photo(photo_id)
    assert photo.basename == photo.filename
    return str(photo.filename)


@pytest.mark.parametrize("runtime", [{"rename_user_files": "report"}], indirect=True)
def test_nothing_is_renamed_unasked(studio: Any, clock: Any) -> None:
    first, second = studio.project("first"), studio.project("second")
    studio.photo(first, "IMG", "jpg", created_at=clock.advance(seconds=60))
    studio.photo(second, "IMG", "jpg", "xmp", created_at=clock.advance(seconds=60))
    before = studio.everything()
    job = studio.run("duplicate_resolution", scope="global")
    assert (job.status, job.result["counts"]) == ("completed", {"names used by other projects": 1})
    assert studio.everything() == before


def test_later_photos_are_renamed_with_all_their_files(studio: Any, clock: Any) -> None:
    first, second, third = (studio.project(name) for name in ("first", "second", "third"))
    later = studio.photo(first, "IMG", "jpg", created_at=clock.advance(seconds=60))
    middle = studio.photo(
        second, "img", "NEF", "jpg", "jpg.xmp", derivatives=True, created_at=clock.advance(seconds=-30)
    )
    oldest = studio.photo(third, "IMG", "jpg", derivatives=True, created_at=clock.advance(seconds=-30))
    other = studio.photo(second, "other", "jpg")
    contents = sorted(studio.disk().values())
    if not studio.database.is_postgresql:
        with studio.database.begin() as connection:
            # Another program may write times in another form.
            connection.execute(text(f"UPDATE photos SET created_at = datetime(created_at) WHERE id = {later}"))

    job = studio.run("duplicate_resolution", scope="global")
    after = studio.everything()
    again = studio.run("duplicate_resolution", scope="global")

    assert job.result["counts"] == {"renamed": 2}
    assert [name_of(studio, photo_id) for photo_id in (oldest, other)] == ["IMG", "other"]
    assert name_of(studio, later) == "IMG_duplicate1"
    assert name_of(studio, middle) == "img_duplicate2"
    assert sorted(studio.disk()) == [
        "tenant/first/IMG_duplicate1.jpg",
        "tenant/second/.preview/img_duplicate2.webp",
        "tenant/second/.thumb/img_duplicate2.webp",
        "tenant/second/img_duplicate2.NEF",
        "tenant/second/img_duplicate2.jpg",
        "tenant/second/img_duplicate2.jpg.xmp",
        "tenant/second/other.jpg",
        "tenant/third/.preview/IMG.webp",
        "tenant/third/.thumb/IMG.webp",
        "tenant/third/IMG.jpg",
    ]
    assert sorted(studio.disk().values()) == contents
    assert studio.follow_ups() == [("upload_postprocess", 90, photo_id) for photo_id in (later, middle)]
    assert len(studio.journal()) == 4
    rows = studio.journal_rows()
    assert {(row["action"], row["photo_id"], row["row_json"]["filename"]) for row in rows} == {
        ("renamed", later, "IMG"),
        ("renamed", middle, "img"),
    }
    assert again.status == "completed"
    assert studio.everything() == after


@pytest.mark.parametrize("scope", ["project", "photo_set"])
def test_only_photos_in_the_projects_of_the_job_are_renamed(studio: Any, scope: str) -> None:
    projects = [studio.project(name) for name in ("a", "b", "c")]
    ids = [studio.photo(project, "x", "jpg") for project in projects]
    arguments: dict[str, Any] = {
        "project": {"project_id": projects[1].id},
        "photo_set": {"items": [{"photo_id": ids[0]}, {"photo_id": ids[1]}]},
    }[scope]
    assert studio.run("duplicate_resolution", **arguments).status == "completed"
    after = studio.everything()
    assert studio.run("duplicate_resolution", **arguments).status == "completed"
    assert [name_of(studio, photo_id) for photo_id in ids] == ["x", "x_duplicate1", "x"]
    assert studio.everything() == after


def test_other_tenants_and_archived_projects_have_names_of_their_own(studio: Any) -> None:
    (studio.root / "neighbor").mkdir()
    mine, theirs = studio.project("mine"), studio.project("theirs", tenant_id="neighbor")
    archived = studio.project("archived")
    for project in (theirs, archived, mine):
        studio.photo(project, "x", "jpg")
    from storage import ProjectsRepository

    ProjectsRepository(studio.database).archive(archived.id)
    before = studio.everything()
    assert studio.run("duplicate_resolution", scope="global").status == "completed"
    assert studio.everything() == before


def test_a_new_name_is_free_in_the_folder_and_among_all_photos_of_the_tenant(studio: Any) -> None:
    first, second = studio.project("first"), studio.project("second")
    studio.photo(first, "caf\u00e9", "jpg")
    studio.photo(first, "CAF\u00c9_Duplicate1", "jpg")
    later = studio.photo(second, "cafe\u0301", "jpg")
    (studio.folder(second).path / "Caf\u00e9_duplicate2.txt").write_bytes(b"note")
    studio.run("duplicate_resolution", scope="global")
    assert name_of(studio, later) == "cafe\u0301_duplicate3"
    assert "tenant/second/cafe\u0301_duplicate3.jpg" in studio.disk()


def test_companions_are_renamed_with_their_photo_and_other_files_are_not(studio: Any) -> None:
    first, second = studio.project("first"), studio.project("second")
    studio.photo(first, "x", "jpg")
    studio.photo(second, "x", "jpg", "mp4", "jpg.pp3")
    (studio.folder(second).path / "x2.mp4").write_bytes(b"another one's")
    studio.run("duplicate_resolution", scope="global")
    assert studio.disk().keys() == {
        "tenant/first/x.jpg",
        "tenant/second/x_duplicate1.jpg",
        "tenant/second/x_duplicate1.mp4",
        "tenant/second/x_duplicate1.jpg.pp3",
        "tenant/second/x2.mp4",
    }


def test_files_that_are_synced_again_and_again_pile_up_no_copies(studio: Any) -> None:
    first, second = studio.project("first"), studio.project("second")
    studio.photo(first, "x", "jpg")
    renamed = studio.photo(second, "x", "jpg", "NEF")
    studio.run("duplicate_resolution", scope="global")
    assert name_of(studio, renamed) == "x_duplicate1"
    # A synchronization restores the files with the names that they have on the phone.
    again = studio.photo(second, "x", "jpg", "NEF")
    for _ in range(2):
        job = studio.run("duplicate_resolution", scope="global")
        assert name_of(studio, again) == "x"
        assert job.result["examples"] == {"copies not renamed": ["x: has the same contents as second/x_duplicate1"]}


def test_a_copy_of_a_photo_keeps_its_name(studio: Any) -> None:
    first, second = studio.project("first"), studio.project("second")
    same = {"jpg": b"the same"}
    studio.photo(first, "x", "jpg", contents=same)
    copy = studio.photo(second, "x", "jpg", contents=same)
    job = studio.run("duplicate_resolution", scope="global")
    assert name_of(studio, copy) == "x"
    assert job.result["examples"] == {"copies not renamed": ["x: has the same contents as first/x"]}


def test_two_rows_of_the_same_files_are_no_copies_of_each_other(studio: Any) -> None:
    first, second = studio.project("first"), studio.project("second")
    studio.photo(first, "x", "jpg")
    # Another program may insert a second row of one name.
    ids = [studio.photo(second, "x", "jpg") for _ in range(2)]
    assert studio.run("duplicate_resolution", scope="global").result["counts"] == {"renamed": 1}
    assert {name_of(studio, photo_id) for photo_id in ids} == {"x_duplicate1"}
    assert sorted(studio.disk()) == ["tenant/first/x.jpg", "tenant/second/x_duplicate1.jpg"]


def test_a_photo_with_a_file_that_cannot_be_touched_is_left_whole(studio: Any, tmp_path: Path) -> None:
    first, second = studio.project("first"), studio.project("second")
    (tmp_path / "outside.nef").write_bytes(b"x")
    for name in ("linked", "gone", "good"):
        studio.photo(first, name, "jpg")
    linked, gone, good = (
        studio.photo(second, "linked", "jpg"),
        studio.photo(second, "gone"),
        studio.photo(second, "good", "jpg"),
    )
    (studio.folder(second).path / "linked.nef").symlink_to(tmp_path / "outside.nef")

    job = studio.run("duplicate_resolution", scope="global")

    assert [name_of(studio, photo_id) for photo_id in (linked, gone, good)] == ["linked", "gone", "good_duplicate1"]
    assert "tenant/second/linked.jpg" in studio.disk()
    assert job.result["counts"]["renamed"] == 1
    assert "gone: the photo has no file" in job.result["examples"]["skipped"]


def test_a_photo_whose_second_file_cannot_be_renamed_keeps_all_its_names(
    studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.handlers import announced_moves

    first, second = studio.project("first"), studio.project("second")
    for name in ("bad", "good"):
        studio.photo(first, name, "jpg")
    bad, good = (studio.photo(second, name, "NEF", "jpg") for name in ("bad", "good"))
    move = announced_moves.move_without_overwrite

    def failing(source: Path, target: Path, **options: Any) -> None:
        if source.name == "bad.jpg":
            raise OSError(5, "Input/output error", os.fspath(source))
        move(source, target, **options)

    monkeypatch.setattr(announced_moves, "move_without_overwrite", failing)

    job = studio.run("duplicate_resolution", scope="global")

    assert "1 project failed: second" in job.error_message
    assert [name_of(studio, photo_id) for photo_id in (bad, good)] == ["bad", "good_duplicate1"]
    assert {
        "tenant/second/bad.NEF",
        "tenant/second/bad.jpg",
        "tenant/second/good_duplicate1.NEF",
    } <= studio.disk().keys()


@pytest.mark.slow_on("postgresql")
def test_a_death_at_any_point_is_repaired_under_the_same_name(studio: Any, deaths: Any) -> None:
    def prepare(studio: Any) -> int:
        first, second = studio.project("first"), studio.project("second")
        for name in ("x", "y"):
            studio.photo(first, name, "jpg")
            studio.photo(second, name, "NEF", "jpg", "xmp", derivatives=True, tagged=("tag",))
        return int(studio.enqueue("duplicate_resolution", scope="global"))

    deaths.check(prepare, more_than=10, outcome=lambda studio: (studio.outcome(), studio.follow_ups()))


def test_a_whole_project_that_was_copied_is_resolved_by_few_scans(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = studio.project("first"), studio.project("second")
    for project in (first, second):
        rows = []
        for number in range(250):
            (studio.folder(project).path / f"p{number}.jpg").write_bytes(f"{project.id} {number}".encode())
            rows.append({"project_id": project.id, "filename": f"p{number}", "jpg_available": 1})
        PhotosRepository(studio.database).create_many(rows)
    # Without a manifest the folder would be listed once more, to see whether it is the project's.
    studio.write_manifest(first, second)
    scans = 0
    scandir = os.scandir

    def counting(path: Any) -> Any:
        nonlocal scans
        scans += Path(path) == studio.folder(second).path
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)

    job = studio.run("duplicate_resolution", scope="global")

    assert job.result["counts"] == {"renamed": 250}
    # For the files, for free names, and for companions that came later.
    assert scans == 3
    assert len(studio.follow_ups()) == 250
