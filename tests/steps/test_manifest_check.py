"""Manifests and availability follow, whatever names and files lie in a project's folder."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.testing import run_queued_job
from storage import Database, JobsRepository
from storage.clock import format_timestamp
from storage.library import read_manifest
from storage.library.atomic_write import TEMPORARY_PREFIX
from storage.reconciliation import ProjectScan
from storage.temporary_tables import temporary_tables

_E_ACUTE = "caf\u00e9"


def flags(studio: Any, photo_id: int) -> tuple[int, int, int]:
    photo = studio.get_photo(photo_id)
    return (photo.jpg_available, photo.raw_available, photo.other_available)


def without_temporaries(studio: Any) -> dict[str, Any]:
    """The outcome, but for what a death leaves half-written and `trash_maintenance` removes after a day."""
    return {name: value for name, value in studio.outcome().items() if TEMPORARY_PREFIX not in name}


def test_availability_follows_the_disk_and_keep_flags_stay(studio: Any) -> None:
    project = studio.project("Iceland")
    lost = studio.photo(project, "lost", jpg_available=1, raw_available=1, keep_jpg=0)
    found = studio.photo(project, "found", "jpg", "NEF", "tif", jpg_available=0, raw_available=0, other_available=0)
    right = studio.photo(project, "right", "JPEG")
    before = studio.get_photo(right)

    job = studio.run("manifest_check", project_id=project.id)

    assert job.status == "completed"
    assert flags(studio, lost) == (0, 0, 0)
    assert studio.get_photo(lost).keep_jpg == 0
    assert flags(studio, found) == (1, 1, 1)
    assert studio.get_photo(right) == before
    assert job.result["counts"]["updated"] == 2
    assert "lost: no file" in job.result["examples"]["updated"]


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


@pytest.mark.parametrize("keys_in_memory", [0, 50_000])
def test_one_spelling_comes_before_others_of_the_same_name(
    studio: Any, monkeypatch: pytest.MonkeyPatch, keys_in_memory: int
) -> None:
    monkeypatch.setattr("storage.reconciliation._MAX_KEYS_IN_MEMORY", keys_in_memory)
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


def test_a_missing_folder_wipes_nothing_and_a_damaged_one_fails_only_its_project(
    studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, damaged, good = (studio.project(name) for name in ("Gone", "Damaged", "Good"))
    kept = studio.photo(gone, "kept", jpg_available=1)
    unsure = studio.photo(damaged, "unsure", jpg_available=1)
    lost = studio.photo(good, "lost", jpg_available=1)
    for hidden in studio.folder(gone).path.iterdir():
        hidden.rmdir()
    studio.folder(gone).path.rmdir()
    scandir = os.scandir

    def failing(path: Any) -> Any:
        if Path(path) == studio.folder(damaged).path:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)

    job = studio.run("manifest_check", scope="global")

    assert "1 of 3 failed; first Damaged" in job.error_message
    assert (flags(studio, kept)[0], flags(studio, unsure)[0], flags(studio, lost)[0]) == (1, 1, 0)


@pytest.mark.parametrize("missing", ["root", "tenant"])
@pytest.mark.parametrize("type", ["manifest_check", "manifest_cleaning", "orphaned_project_cleanup", "folder_check"])
def test_an_unmounted_library_changes_no_row(studio: Any, tmp_path: Path, missing: str, type: str) -> None:
    project = studio.project("Iceland")
    studio.photo(project, "a", "jpg")
    studio.photo(project, "b")
    (studio.root / "neighbour" / "Project").mkdir(parents=True)
    away = tmp_path / "away"
    (studio.root if missing == "root" else studio.root / "tenant").rename(away)
    before = studio.everything()

    job = studio.run(type, scope="global")

    assert job.status == "queued"
    assert "mount" in job.error_message.lower()
    assert studio.everything() == before


def test_a_second_run_after_a_death_at_any_point_comes_to_the_same_end(studio: Any, deaths: Any) -> None:
    def prepare(studio: Any) -> int:
        project = studio.project("Iceland")
        studio.folder(project).manifest_path.write_text("no: manifest\n")
        for number in range(3):
            studio.photo(project, f"lost {number}", jpg_available=1)
        studio.photo(project, "new", "jpg", "nef", jpg_available=0, raw_available=0)
        job = JobsRepository(studio.database).enqueue(tenant_id="tenant", type="manifest_check", project_id=project.id)
        return int(job.id)

    assert run_queued_job(studio.runtime, prepare(studio)).status == "completed"
    undisturbed = without_temporaries(studio)
    rounds = 0
    for number in deaths.each(prepare):
        assert without_temporaries(studio) == undisturbed, f"after a death at point {number}"
        rounds += 1
    assert rounds > 3


def test_a_photo_that_comes_during_the_scan_keeps_what_its_row_says(
    database: Database, make_project: Callable[..., Any], make_photos: Callable[..., list[int]]
) -> None:
    project = make_project()
    [old] = make_photos(project, 1)
    with database.connect() as connection, temporary_tables(connection):
        staged = ProjectScan(connection)
        staged.begin(project.id)
        make_photos(project, 1)
        staged.settle()
        differing = [change.photo_id for batch in staged.differing_availability() for change in batch]
    assert differing == [old]
