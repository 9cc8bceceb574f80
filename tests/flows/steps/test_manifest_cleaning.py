"""A row is removed only if the latest listing of the folder has no file of its photo."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.execution.job_run import run_claimed_job
from storage import JobsRepository


@pytest.mark.parametrize("scope", ["project", "photo_set", "global"])
def test_rows_without_a_file_go_with_their_derivatives_and_are_journaled(studio: Any, scope: str) -> None:
    first, second = studio.project("First"), studio.project("Second")
    lost = [
        studio.photo(project, "lost", "xmp", derivatives=True, tagged=("sea", "blue")) for project in (first, second)
    ]
    kept = [studio.photo(project, "kept", "jpg", derivatives=True) for project in (first, second)]
    arguments: dict[str, Any] = {
        "project": {"project_id": first.id},
        "photo_set": {"items": [{"photo_id": photo_id} for photo_id in lost]},
        "global": {"scope": "global"},
    }[scope]
    reached = 1 if scope == "project" else 2

    job = studio.run("manifest_cleaning", **arguments)
    after = studio.everything()
    # Items whose photo was removed no longer name a project.
    assert studio.run("manifest_cleaning", **({"scope": "global"} if scope != "project" else arguments)).status == (
        "completed"
    )

    assert studio.everything() == after
    assert job.result["counts"] == {"rows removed": reached, "derivatives removed": 2 * reached}
    assert [studio.get_photo(photo_id) is None for photo_id in lost] == [True] * reached + [False] * (2 - reached)
    assert None not in [studio.get_photo(photo_id) for photo_id in kept]
    disk = studio.disk()
    assert {"tenant/First/lost.xmp", "tenant/First/.thumb/kept.webp", "tenant/First/.preview/kept.webp"} <= disk.keys()
    assert "tenant/First/.thumb/lost.webp" not in disk
    rows = studio.journal_rows()
    assert [(row["action"], row["photo_id"]) for row in rows] == [
        ("removed_row", lost_id) for lost_id in lost[:reached]
    ]
    assert rows[0]["row_json"]["tags"] == ["blue", "sea"]
    assert rows[0]["row_json"]["filename"] == "lost"


def test_a_file_that_the_row_does_not_know_of_keeps_the_row(studio: Any, tmp_path: Path) -> None:
    project = studio.project("Iceland")
    path = studio.folder(project).path
    (tmp_path / "outside.jpg").write_bytes(b"x")
    ids = [studio.photo(project, name) for name in ("fresh", "caf\u00e9", "upper", "linked", "pipe", "sub/nested")]
    (path / "fresh.jpg").write_bytes(b"x")
    (path / "cafe\u0301.jpg").write_bytes(b"x")
    (path / "UPPER.NEF").write_bytes(b"x")
    (path / "linked.jpg").symlink_to(tmp_path / "outside.jpg")
    os.mkfifo(path / "pipe.jpg")
    before = studio.everything()

    assert studio.run("manifest_cleaning", project_id=project.id).status == "completed"

    assert studio.everything() == before
    assert None not in [studio.get_photo(photo_id) for photo_id in ids]


def test_nothing_is_concluded_from_a_folder_that_is_missing_or_cannot_be_read(
    studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, damaged, good = (studio.project(name) for name in ("Gone", "Damaged", "Good"))
    ids = [studio.photo(project, "lost") for project in (gone, damaged, good)]
    shutil.rmtree(studio.folder(gone).path)
    studio.make_unreadable(damaged, monkeypatch, error=errno.EIO)

    job = studio.run("manifest_cleaning", scope="global")

    assert "1 of 3 projects failed: Damaged" in job.error_message
    assert [studio.get_photo(photo_id) is None for photo_id in ids] == [False, False, True]


def test_the_derivatives_of_a_photo_of_the_same_name_stay(studio: Any) -> None:
    project = studio.project("Iceland")
    twin = studio.photo(project, "twin", "jpg", derivatives=True)
    studio.photo(project, "twin")
    studio.run("manifest_cleaning", project_id=project.id)
    assert studio.get_photo(twin) is not None
    assert "tenant/Iceland/.thumb/twin.webp" in studio.disk()


@pytest.mark.slow_on("postgresql")
def test_a_death_at_any_point_is_repaired(studio: Any, deaths: Any) -> None:
    def prepare(studio: Any) -> int:
        project = studio.project("Iceland")
        studio.photo(project, "kept", "jpg", derivatives=True)
        for name in ("one", "two"):
            studio.photo(project, name, derivatives=True, tagged=(name,))
        return int(studio.enqueue("manifest_cleaning", project_id=project.id))

    deaths.check(prepare, more_than=4)


def test_a_row_goes_only_if_its_file_was_missing_in_an_earlier_run_long_enough_ago(studio: Any, clock: Any) -> None:
    project = studio.project("Iceland")
    photo_id = studio.photo(project, "fox", "jpg", "nef", keep_raw=0)
    studio.photo(project, "owl", "jpg")
    files = [studio.folder(project).path / name for name in ("fox.jpg", "fox.nef")]
    contents = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()

    def run() -> dict[str, Any]:
        studio.run("manifest_check", project_id=project.id)
        return studio.run("manifest_cleaning", project_id=project.id).result

    assert run()["counts"] == {"missing, row kept": 1}
    clock.advance(seconds=7 * DAY - 3600)
    assert run()["counts"] == {"missing, row kept": 1}
    # When the file is back, the photo keeps its flags, and the grace period begins again.
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    assert run() == {}
    photo = studio.get_photo(photo_id)
    assert (photo.jpg_available, photo.raw_available, photo.keep_raw) == (1, 1, 0)
    for file in files:
        file.unlink()
    clock.advance(seconds=2 * DAY)
    assert run()["counts"] == {"missing, row kept": 1}
    clock.advance(seconds=7 * DAY)
    assert run()["counts"] == {"rows removed": 1}
    assert studio.get_photo(photo_id) is None


@pytest.mark.parametrize("runtime", [{"missing_grace_seconds": 0}], indirect=True)
def test_without_grace_it_takes_a_later_run_all_the_same(studio: Any, clock: Any, make_task: Any) -> None:
    project = studio.project("Iceland")
    studio.photo(project, "owl", "jpg")
    photo_id = studio.photo(project, "fox", "jpg")
    (studio.folder(project).path / "fox.jpg").unlink()
    for kept in (True, False):
        steps = [{"type": name, "unit": "projects"} for name in ("manifest_check", "manifest_cleaning")]
        make_task(*steps, project_id=project.id)
        while (job := JobsRepository(studio.database).claim_next("worker")) is not None:
            clock.advance(seconds=1)
            run_claimed_job(job, studio.runtime)
        assert (studio.get_photo(photo_id) is not None) is kept


#: A day in seconds.
DAY = 86_400

STEPS = ("manifest_check", "folder_check", "manifest_cleaning", "derivative_validation")


def test_a_folder_with_neither_manifest_nor_any_known_photo_is_unavailable(studio: Any, tmp_path: Path) -> None:
    disk, here = studio.project("Disk"), studio.project("Here")
    lost = [studio.photo(disk, name, "jpg", derivatives=True) for name in ("fox", "owl")]
    studio.photo(here, "seal", "jpg")
    path = studio.folder(disk).path
    path.rename(tmp_path / "away")
    path.mkdir()
    (path / "README.txt").write_text("mounts here")
    before = [studio.get_photo(photo_id) for photo_id in lost]

    for step in (*STEPS, "folder_discovery"):
        job = studio.run(step, scope="global")
        assert job.status == "failed", step
        assert "Disk" in job.error_message
        assert "unavailable" in job.error_message
    items = [{"photo_id": photo_id} for photo_id in lost]
    for step in ("regenerate_metadata", "generate_derivatives", "upload_postprocess", "metadata"):
        job = studio.run(step, project_id=disk.id)
        assert (job.status, "unavailable" in (job.error_message or "")) == ("failed", True), step
    for step in ("generate_derivatives", "upload_postprocess", "metadata", "image_move_files"):
        job = studio.run(step, project_id=disk.id, items=items)
        assert (job.status, "unavailable" in (job.error_message or "")) == ("failed", True), step

    assert [file.name for file in path.iterdir()] == ["README.txt"]
    assert [studio.get_photo(photo_id) for photo_id in lost] == before
    (path / "README.txt").unlink()
    path.rmdir()
    (tmp_path / "away").rename(path)
    for step in STEPS:
        assert studio.run(step, project_id=disk.id).status == "completed", step
    assert [studio.get_photo(photo_id) for photo_id in lost] == before
