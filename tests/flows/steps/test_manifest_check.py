"""Manifests and the availability of files are correct for any names and files in a project's folder."""

from __future__ import annotations

import errno
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from storage import PhotosRepository
from storage.database.clock import format_timestamp
from storage.library.manifest import read_manifest

_E_ACUTE = "caf\u00e9"


def flags(studio: Any, photo_id: int) -> tuple[int, int, int]:
    photo = studio.get_photo(photo_id)
    return (photo.jpg_available, photo.raw_available, photo.other_available)


def test_availability_follows_the_disk_and_keep_flags_stay(studio: Any) -> None:
    project = studio.project("Iceland")
    lost = studio.photo(project, "lost", jpg_available=1, raw_available=1, keep_jpg=0)
    found = studio.photo(project, "found", "jpg", "NEF", "tif", jpg_available=0, raw_available=0, other_available=0)
    right = studio.photo(project, "right", "JPEG")
    before = studio.get_photo(right)

    job = studio.run("manifest_check", project_id=project.id)

    assert job.status == "completed"
    assert flags(studio, lost) == (0, 0, 0), job.result
    assert studio.get_photo(lost).keep_jpg == 0
    assert flags(studio, found) == (1, 1, 1), job.result
    assert studio.get_photo(right) == before
    assert job.result["counts"]["photos with updated availability"] == 2
    assert "lost: no file" in job.result["examples"]["photos with updated availability"]


def test_a_missing_or_wrong_manifest_is_written_and_keys_of_others_stay(studio: Any) -> None:
    bare, wrong = studio.project("Bare"), studio.project("Wrong")
    studio.folder(wrong).manifest_path.write_text("name: Old\nid: 99\ncreated_at: '2020'\nversion: '1.0'\nmine: 7\n")

    job = studio.run("manifest_check", scope="global")

    assert job.status == "completed"
    for project in (bare, wrong):
        manifest = read_manifest(studio.folder(project))
        assert manifest is not None
        assert (manifest.id, manifest.name, manifest.version) == (project.id, project.project_name, "1.0")
        assert manifest.created_at == format_timestamp(project.created_at)
    assert read_manifest(studio.folder(wrong)).other == {"mine": 7}


@pytest.mark.parametrize("scope", ["project", "photo_set", "global"])
def test_every_scope_reaches_its_projects_and_a_second_run_changes_nothing(studio: Any, scope: str) -> None:
    first, second, other = (studio.project(name) for name in ("First", "Second", "Other"))
    studio.write_manifest(first, second, other)
    ids = [studio.photo(project, "a", raw_available=1) for project in (first, second, other)]
    arguments: dict[str, Any] = {
        "project": {"project_id": first.id},
        "photo_set": {"items": [{"photo_id": ids[0]}, {"photo_id": ids[1]}]},
        "global": {"scope": "global"},
    }[scope]
    reached = {"project": 1, "photo_set": 2, "global": 3}[scope]

    assert studio.run("manifest_check", **arguments).status == "completed"
    after = studio.everything()
    again = studio.run("manifest_check", **arguments)

    assert [flags(studio, photo_id)[1] for photo_id in ids] == [0] * reached + [1] * (3 - reached)
    assert again.status == "completed"
    assert studio.everything() == after


@pytest.mark.parametrize("max_in_memory", [0, 50_000])
def test_one_spelling_comes_before_others_of_the_same_name(
    studio: Any, monkeypatch: pytest.MonkeyPatch, max_in_memory: int
) -> None:
    monkeypatch.setattr("storage.comparison.name_parts.MAX_IN_MEMORY", max_in_memory)
    project = studio.project("Names")
    composed = studio.photo(project, _E_ACUTE, jpg_available=1)
    path = studio.folder(project).path
    (path / f"{unicodedata.normalize('NFD', _E_ACUTE)}.jpg").write_bytes(b"x")
    small = studio.photo(project, "img_1", jpg_available=1)
    (path / "IMG_1.JPG").write_bytes(b"x")
    exact, variant = studio.photo(project, "Both", "jpg"), studio.photo(project, "both", "NEF")
    (path / "BOTH.tif").write_bytes(b"x")

    assert studio.run("manifest_check", project_id=project.id).status == "completed"

    assert flags(studio, composed) == (1, 0, 0)
    assert flags(studio, small) == (1, 0, 0)
    assert flags(studio, exact) == (1, 0, 1)
    assert flags(studio, variant) == (0, 1, 0)


def test_what_cannot_be_worked_with_is_reported_and_its_row_stays(studio: Any, tmp_path: Path) -> None:
    project = studio.project("Odd")
    path = studio.folder(project).path
    (tmp_path / "outside.jpg").write_bytes(b"x")
    linked = studio.photo(project, "linked", jpg_available=1)
    (path / "linked.jpg").symlink_to(tmp_path / "outside.jpg")
    pipe = studio.photo(project, "pipe", raw_available=1)
    os.mkfifo(path / "pipe.nef")
    broken = studio.photo(project, "two\nlines", jpg_available=1)
    (path / "two\nlines.jpg").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(path) + b"/bad\xff.jpg")).write_bytes(b"x")
    nested = studio.photo(project, "sub/photo", jpg_available=1)
    before = studio.everything()

    job = studio.run("manifest_check", project_id=project.id)

    assert job.status == "completed"
    assert [flags(studio, linked)[0], flags(studio, pipe)[1], flags(studio, broken)[0], flags(studio, nested)[0]] == [
        1
    ] * 4
    after = studio.everything()
    del after["tenant/Odd/.project.yaml"]
    assert after == before
    assert job.result["counts"]["skipped"] == 5


@pytest.mark.parametrize("type", ["manifest_check", "folder_check"])
def test_a_file_that_cannot_be_looked_at_is_reported_and_its_row_stays(
    studio: Any, monkeypatch: pytest.MonkeyPatch, type: str
) -> None:
    project = studio.project("Iceland")
    known = studio.photo(project, "known", "jpg", jpg_available=0)
    (studio.folder(project).path / "new.jpg").write_bytes(b"x")
    lstat = os.lstat

    def failing(path: Any, **options: Any) -> os.stat_result:
        if Path(path).suffix == ".jpg":
            raise OSError(5, "Input/output error")
        return lstat(path, **options)

    monkeypatch.setattr(os, "lstat", failing)

    job = studio.run(type, project_id=project.id)

    assert flags(studio, known) == (0, 0, 0)
    assert [photo.id for photo in PhotosRepository(studio.database).list_by_project(project.id)] == [known]
    assert "new.jpg: unreadable" in job.result["examples"]["skipped"]


@pytest.mark.parametrize("type", ["manifest_check", "folder_check"])
def test_an_unchanged_project_costs_one_listing_and_one_query(
    studio: Any, monkeypatch: pytest.MonkeyPatch, type: str
) -> None:
    projects = [studio.project(name) for name in ("Iceland", "Norway")]
    for project in projects:
        for number in range(20):
            studio.photo(project, f"photo {number}", "jpg", "NEF", "xmp")
    studio.write_manifest(*projects)
    assert studio.run(type, scope="global").status == "completed"
    before = studio.everything()
    listed: list[Path] = []
    looked: list[str] = []
    asked: list[str] = []
    scandir, lstat = os.scandir, os.lstat

    @event.listens_for(studio.database.engine, "checkout")
    def trace(connection: Any, *_: Any) -> None:
        if not studio.database.is_postgresql:
            connection.set_trace_callback(asked.append)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda path: listed.append(Path(path)) or scandir(path))
        patch.setattr(os, "lstat", lambda path, **options: looked.append(str(path)) or lstat(path, **options))
        assert studio.run(type, scope="global").status == "completed"

    assert [listed.count(studio.folder(project).path) for project in projects] == [1, 1]
    assert not [path for path in looked if path.endswith((".jpg", ".NEF", ".xmp"))]
    queries = [statement for statement in asked if re.search(r"(FROM|UPDATE|INTO) photos\b", statement)]
    assert len(queries) == (0 if studio.database.is_postgresql else 2)
    assert studio.everything() == before


def test_a_missing_folder_wipes_nothing_and_a_damaged_one_fails_only_its_project(
    studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, damaged, good = (studio.project(name) for name in ("Gone", "Damaged", "Good"))
    studio.write_manifest(good)
    kept = studio.photo(gone, "kept", jpg_available=1)
    unsure = studio.photo(damaged, "unsure", jpg_available=1)
    lost = studio.photo(good, "lost", jpg_available=1)
    shutil.rmtree(studio.folder(gone).path)
    studio.make_unreadable(damaged, monkeypatch, error=errno.EACCES)

    job = studio.run("manifest_check", scope="global")

    assert "1 of 3 projects failed: Damaged" in job.error_message
    assert (flags(studio, kept)[0], flags(studio, unsure)[0], flags(studio, lost)[0]) == (1, 1, 0)


@pytest.mark.parametrize("missing", ["root", "tenant"])
@pytest.mark.parametrize("type", ["manifest_check", "manifest_cleaning", "orphaned_project_cleanup", "folder_check"])
def test_an_unmounted_library_changes_no_row(studio: Any, tmp_path: Path, missing: str, type: str) -> None:
    project = studio.project("Iceland")
    studio.photo(project, "a", "jpg")
    studio.photo(project, "b")
    (studio.root / "neighbor" / "Project").mkdir(parents=True)
    away = tmp_path / "away"
    (studio.root if missing == "root" else studio.root / "tenant").rename(away)
    before = studio.everything()

    job = studio.run(type, scope="global")

    assert job.status == "queued"
    assert "mount" in job.error_message.lower()
    assert studio.everything() == before


@pytest.mark.slow_on("postgresql")
def test_a_second_run_after_a_death_at_any_point_comes_to_the_same_end(studio: Any, deaths: Any) -> None:
    def prepare(studio: Any) -> int:
        project = studio.project("Iceland")
        studio.folder(project).manifest_path.write_text("no: manifest\n")
        for number in range(3):
            studio.photo(project, f"lost {number}", jpg_available=1)
        studio.photo(project, "new", "jpg", "nef", jpg_available=0, raw_available=0)
        return int(studio.enqueue("manifest_check", project_id=project.id))

    deaths.check(prepare, more_than=3)


def test_a_photo_that_comes_during_the_listing_keeps_what_its_row_says(
    studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = studio.project("Iceland")
    studio.write_manifest(project)
    old = studio.photo(project, "old", jpg_available=1)
    late: list[int] = []
    scandir = os.scandir

    @contextmanager
    def scan_then_upload(path: Any) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(path) as entries:
            found = list(entries)
        if Path(path) == studio.folder(project).path:
            late.append(studio.photo(project, "late", "jpg"))
        yield found

    monkeypatch.setattr(os, "scandir", scan_then_upload)

    assert studio.run("manifest_check", project_id=project.id).status == "completed"

    assert (flags(studio, old), flags(studio, late[0])) == ((0, 0, 0), (1, 0, 0))
