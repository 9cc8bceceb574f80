"""A bad project, file or time is reported by name, and everything else is processed."""

from __future__ import annotations

import os
from typing import Any

import pytest

from storage import PhotosRepository, TasksRepository
from task_definitions import load_definitions


def run_task(studio: Any, name: str) -> dict[str, str]:
    """Run a built-in definition, and return how the jobs of each type ended."""
    task = studio.run_task(load_definitions()[name])
    return {job.type: job.status for job in TasksRepository(studio.database).list_jobs(task.id)}


def test_a_project_that_became_a_symlink_stops_no_step_of_the_upkeep(studio: Any) -> None:
    linked, other = studio.project("linked"), studio.project("other")
    photo_id = studio.photo(linked, "fox", "jpg")
    elsewhere = studio.root.parent / "elsewhere"
    studio.folder(linked).path.rename(elsewhere)
    (studio.root / "tenant" / "linked").symlink_to(elsewhere)
    (studio.folder(other).path / "owl.jpg").write_bytes(b"owl")
    ended = run_task(studio, "maintenance_global")
    assert set(ended.values()) <= {"completed", "failed"}, "no step waits for a repetition that cannot help"
    assert [photo.filename for photo in PhotosRepository(studio.database).list_by_project(other.id)] == ["owl"]
    assert studio.get_photo(photo_id) is not None
    [job] = [job for job in TasksRepository(studio.database).list_jobs("task") if job.type == "folder_check"]
    assert "linked" in job.error_message


@pytest.mark.parametrize("seconds", [10_413_792_000, -10_413_792_000])
def test_a_time_that_no_database_can_hold_costs_nothing(studio: Any, jpeg: Any, seconds: int) -> None:
    project = studio.project("Iceland")
    pictures = {"jpg": jpeg()}
    ids = [studio.photo(project, name, "jpg", contents=pictures) for name in ("fox", "owl", "elk")]
    try:
        os.utime(studio.folder(project).path / "owl.jpg", (seconds, seconds))
    except OSError:
        pytest.skip("this file system cannot hold the time")
    job = studio.run("upload_postprocess", scope="photo_set", items=[{"photo_id": photo_id} for photo_id in ids])
    assert job.status == "completed", job.error_message
    assert {studio.get_photo(photo_id).thumbnail_status for photo_id in ids} == {"generated"}
    again = studio.run("derivative_validation", scope="global")
    assert again.status == "completed", again.error_message
    assert {studio.get_photo(photo_id).thumbnail_status for photo_id in ids} == {"generated"}


@pytest.mark.parametrize("type", ["file_removal", "upload_postprocess", "metadata", "image_move_files"])
def test_a_photo_that_a_set_names_twice_is_worked_on_once_and_both_items_end(studio: Any, jpeg: Any, type: str) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", keep_raw=0, contents={"jpg": jpeg(), "NEF": b"raw"})
    items = [{"photo_id": photo_id}] * 2
    arguments = {"project_id": norway.id} if type == "image_move_files" else {}
    job = studio.run(type, scope="photo_set", items=items, **arguments)
    assert job.status == "completed", job.error_message
    assert (job.progress_done, job.progress_total) == (2, 2)
    assert not {"failed", "skipped"} & job.result["counts"].keys()
