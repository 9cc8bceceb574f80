"""Steps that change files of a project run one after the other; steps that only read do not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flows.handlers import project_claim
from flows.steps.targets import target_projects
from storage.photos.project_labels import project_label
from task_definitions.step_types import BUILTIN_STEP_TYPES

#: How long a test waits for an event that should happen soon, in seconds; the machine may be busy.
PATIENCE_SECONDS = 60

#: Steps that work on archived projects.
_OF_ARCHIVES = {step_type.name for step_type in BUILTIN_STEP_TYPES.values() if step_type.takes_archived}


def test_steps_that_change_a_projects_files_take_turns_and_others_wait_for_nobody(
    studio: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    studio.photo(iceland, "fox", "jpg")
    is_at_work, may_go_on, has_to_wait = threading.Event(), threading.Event(), threading.Event()
    list_names, claim_projects = target_projects.list_names, project_claim.claim_projects

    def list_slowly(folder: Any) -> Iterator[Any]:
        if folder.project_folder == "Iceland" and not is_at_work.is_set():
            is_at_work.set()
            assert may_go_on.wait(PATIENCE_SECONDS)
        return list_names(folder)

    def claim(*arguments: Any, **options: Any) -> bool:
        is_held = claim_projects(*arguments, **options)
        if not is_held:
            has_to_wait.set()
        return is_held

    monkeypatch.setattr(target_projects, "list_names", list_slowly)
    monkeypatch.setattr(project_claim, "claim_projects", claim)
    monkeypatch.setattr(project_claim, "LOGGED_AFTER_SECONDS", 0)
    with ThreadPoolExecutor(2) as threads:
        try:
            first = threads.submit(studio.run, "folder_check", project_id=iceland.id)
            assert is_at_work.wait(PATIENCE_SECONDS)
            second = threads.submit(studio.run, "manifest_check", scope="global")
            assert has_to_wait.wait(PATIENCE_SECONDS)

            reading = studio.run("derivative_validation", project_id=iceland.id)
            elsewhere = studio.run("folder_check", project_id=norway.id)

            assert (reading.status, elsewhere.status) == ("completed", "completed")
            assert not first.done()
            assert not second.done()
            assert not studio.folder(iceland).manifest_path.exists()
        finally:
            may_go_on.set()
        assert (first.result().status, second.result().status) == ("completed", "completed")
    assert studio.folder(iceland).manifest_path.exists()
    [wait] = [record.getMessage() for record in caplog.records if record.name == "photojobs.waiting"]
    assert wait.startswith(
        f"manifest_check waits, because job {first.result().id} uses project {project_label(iceland)}."
    )
    assert f"`photojobs jobs cancel {first.result().id}` cancels it" in wait


def test_no_step_but_those_of_archives_touches_an_archived_project(studio: Any, jpeg: Callable[..., bytes]) -> None:
    archived = studio.project("Old name", archived=True)
    active = studio.project("Active")
    assert studio.run("manifest_check", project_id=active.id).status == "completed"
    of_deletion = ["project_cleanup_db", "project_delete_files", "project_scavenge", "project_stop_processes"]
    assert sorted(_OF_ARCHIVES) == of_deletion
    picture = {"jpg": jpeg(DateTimeOriginal="2024:05:06 07:08:09")}
    ids = [
        studio.photo(archived, "fox", "jpg", contents=picture, keep_jpg=0),
        studio.photo(archived, "lost", jpg_available=1),
        studio.photo(archived, "empty"),
        studio.photo(archived, "made", "jpg", contents=picture, thumbnail_status="generated", raw_available=1),
    ]
    (studio.folder(archived).path / "new.jpg").write_bytes(picture["jpg"])
    items = [{"photo_id": photo_id} for photo_id in ids]
    before = studio.everything()

    for step in sorted(BUILTIN_STEP_TYPES.keys() - _OF_ARCHIVES):
        targets: list[dict[str, Any]] = [{"project_id": archived.id}, {"items": items}]
        if BUILTIN_STEP_TYPES[step].unit == "library":
            targets = [{"scope": "global"}]
        elif step == "image_move_files":
            targets = [{"project_id": active.id, "items": items}]
        for target in targets:
            job = studio.run(step, **target)
            assert job.status in ("completed", "failed"), f"{step}, {target}: {job.error_message}"
            assert studio.everything() == before, f"{step}, {target}"
