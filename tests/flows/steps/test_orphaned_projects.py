"""A project is given up only when its folder is gone beyond doubt, and its rows go only on a later run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.steps.following.arrivals import Arrivals
from flows.testing import run_queued_job
from storage import JobsRepository, ProjectsRepository
from storage.library.manifest import Manifest, write_manifest

GRACE_SECONDS = 7 * 24 * 3600


def status(studio: Any, project: Any) -> str | None:
    found = ProjectsRepository(studio.database).get_by_id(project.id)
    return "removed" if found is None else found.status


def remove_folder(studio: Any, project: Any) -> None:
    shutil.rmtree(studio.folder(project).path)


def give_manifest(studio: Any, project: Any) -> None:
    manifest = Manifest(name=project.project_name, id=project.id, created_at="2025-10-01T12:00:00.000Z")
    write_manifest(studio.folder(project), manifest, at=studio.database.clock())


@pytest.mark.parametrize("scope", ["project", "photo_set", "global"])
def test_the_first_run_archives_a_later_one_removes_the_rows_and_the_next_does_nothing(
    studio: Any, clock: Any, scope: str
) -> None:
    gone, there = studio.project("Gone"), studio.project("There")
    lost, kept = studio.photo(gone, "lost", "jpg", tagged=("sea",)), studio.photo(there, "kept", "jpg")
    remove_folder(studio, gone)
    arguments: dict[str, Any] = {
        "project": {"project_id": gone.id},
        "photo_set": {"items": [{"photo_id": lost}, {"photo_id": kept}]},
        "global": {"scope": "global"},
    }[scope]

    assert studio.run("orphaned_project_cleanup", **arguments).result["counts"]["archived"] == 1
    assert (status(studio, gone), status(studio, there)) == ("canceled", None)
    assert studio.get_photo(lost) is not None

    clock.advance(seconds=GRACE_SECONDS)
    assert studio.run("orphaned_project_cleanup", **arguments).result["counts"]["projects removed"] == 1
    assert (status(studio, gone), status(studio, there)) == ("removed", None)
    assert studio.get_photo(lost) is None
    assert studio.get_photo(kept) is not None

    rows = studio.journal_rows()
    assert [row["action"] for row in rows] == ["archived_as_gone", "removed_row", "removed_row"]
    assert rows[1]["row_json"]["tags"] == ["sea"]
    assert rows[2]["row_json"]["project_name"] == "Gone"

    after = studio.everything()
    studio.run("orphaned_project_cleanup", scope="global")
    assert studio.everything() == after


def test_a_disk_that_comes_back_within_the_grace_has_cost_nothing(studio: Any, clock: Any) -> None:
    away, _ = studio.project("Away"), studio.project("There")
    photo_id = studio.photo(away, "fox", "jpg", tagged=("animal",))
    place = studio.folder(away).path
    place.rename(studio.root.parent / "unplugged")
    for _ in range(3):
        studio.run("folder_discovery", scope="global")
        job = studio.run("orphaned_project_cleanup", scope="global")
        clock.advance(seconds=GRACE_SECONDS / 4)
    assert job.result["examples"]["kept"] == [
        f"Away: its folder has been missing for less than {GRACE_SECONDS} s (missing_grace_seconds)"
    ]
    (studio.root.parent / "unplugged").rename(place)

    studio.run("folder_discovery", scope="global")

    assert status(studio, away) is None
    assert studio.tags_of(photo_id) == [(away.id, "animal")]


def test_a_repetition_of_the_run_that_archived_is_no_later_run(studio: Any) -> None:
    gone, _ = studio.project("Gone"), studio.project("There")
    remove_folder(studio, gone)
    job = studio.run("orphaned_project_cleanup", scope="global")
    JobsRepository(studio.database).requeue(job.id)

    again = run_queued_job(studio.runtime, job.id)

    assert again.status == "completed"
    assert status(studio, gone) == "canceled"


def test_what_a_person_archived_is_never_removed(studio: Any, clock: Any) -> None:
    with_folder, without_folder = (studio.project(name, archived=True) for name in ("With", "Without"))
    again, _ = studio.project("Again"), studio.project("There")
    remove_folder(studio, without_folder)
    remove_folder(studio, again)
    studio.run("orphaned_project_cleanup", scope="global")
    clock.advance(seconds=GRACE_SECONDS)
    ProjectsRepository(studio.database).restore(again.id)
    ProjectsRepository(studio.database).archive(again.id)
    before = studio.everything()

    for _ in range(2):
        clock.advance(seconds=GRACE_SECONDS)
        assert studio.run("orphaned_project_cleanup", scope="global").status == "completed"

    assert studio.everything() == before
    assert [status(studio, project) for project in (with_folder, without_folder, again)] == ["canceled"] * 3


def test_what_a_person_archived_stays_archived_after_the_clock_was_set_back(studio: Any, clock: Any) -> None:
    project = studio.project("Gone")
    photo_id = studio.photo(project, "lost", "jpg")
    studio.photo(studio.project("There"), "kept", "jpg")
    folder, elsewhere = studio.folder(project).path, studio.root / "elsewhere"
    folder.rename(elsewhere)
    assert studio.run("orphaned_project_cleanup", scope="global").result["counts"]["archived"] == 1
    elsewhere.rename(folder)
    assert studio.run("folder_discovery", scope="global").result["counts"]["projects reactivated"] == 1

    clock.advance(seconds=-3600)
    ProjectsRepository(studio.database).archive(project.id)
    assert studio.run("folder_discovery", scope="global").status == "completed"
    assert status(studio, project) == "canceled"
    folder.rename(elsewhere)
    clock.advance(seconds=2 * GRACE_SECONDS)
    assert studio.run("orphaned_project_cleanup", scope="global").status == "completed"
    assert studio.get_photo(photo_id) is not None


def test_a_folder_that_was_renamed_is_not_gone(studio: Any, clock: Any) -> None:
    renamed, _ = studio.project("Renamed"), studio.project("There")
    give_manifest(studio, renamed)
    studio.folder(renamed).path.rename(studio.root / "tenant" / "Another name")
    before = studio.everything()

    job = studio.run("orphaned_project_cleanup", scope="global")

    assert job.status == "completed"
    assert "renamed to Another name" in job.result["examples"]["kept"][0]
    assert studio.everything() == before


def test_a_folder_that_was_moved_into_another_project_keeps_its_rows(studio: Any, clock: Any) -> None:
    inner, outer = studio.project("Gone"), studio.project("There")
    photo_id = studio.photo(inner, "lost", "jpg", tagged=("sea",))
    studio.photo(outer, "kept", "jpg")
    give_manifest(studio, inner)
    folder = studio.folder(inner).path
    folder.rename(studio.folder(outer).path / "moved")
    for _ in range(3):
        job = studio.run("orphaned_project_cleanup", scope="global")
        clock.advance(seconds=GRACE_SECONDS)
    assert "There/moved" in job.result["examples"]["kept"][0]
    assert status(studio, inner) == "canceled"

    (studio.folder(outer).path / "moved").rename(folder)
    assert studio.run("folder_discovery", scope="global").status == "completed"
    assert status(studio, inner) is None
    assert studio.tags_of(photo_id) == [(inner.id, "sea")]


def test_a_folder_that_came_back_keeps_the_rows(studio: Any, clock: Any) -> None:
    project, _ = studio.project("Away"), studio.project("There")
    photo_id = studio.photo(project, "a", "jpg")
    away = studio.root / "away"
    studio.folder(project).path.rename(away)
    studio.run("orphaned_project_cleanup", scope="global")
    away.rename(studio.folder(project).path)
    clock.advance(seconds=GRACE_SECONDS)

    job = studio.run("orphaned_project_cleanup", scope="global")

    assert "its folder is back" in job.result["examples"]["kept"][0]
    assert studio.get_photo(photo_id) is not None


@pytest.mark.parametrize("stand_in", ["symlink", "file", "unreadable neighbor"])
def test_a_folder_that_cannot_be_looked_at_is_not_gone(
    studio: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: str
) -> None:
    project, _ = studio.project("Doubtful"), studio.project("There")
    path = studio.folder(project).path
    if stand_in == "unreadable neighbor":
        path.rename(studio.root / "tenant" / "Locked")
        _lock(monkeypatch, studio.root / "tenant" / "Locked")
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere") if stand_in == "symlink" else path.write_bytes(b"x")

    job = studio.run("orphaned_project_cleanup", scope="global")

    assert "1 of 2 projects failed: Doubtful" in job.error_message
    assert status(studio, project) is None


def _lock(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    lstat: Callable[[Path], Any] = Path.lstat

    def refusing(self: Path) -> Any:
        if self.parent == folder:
            raise PermissionError(13, "Permission denied", str(self))
        return lstat(self)

    monkeypatch.setattr(Path, "lstat", refusing)


def test_a_tenant_whose_projects_are_all_gone_at_once_looks_unmounted(studio: Any) -> None:
    projects = [studio.project(name) for name in ("A", "B")]
    (studio.root / "neighbor" / "Project").mkdir(parents=True)
    for project in projects:
        remove_folder(studio, project)

    job = studio.run("orphaned_project_cleanup", scope="global")

    assert "Mount its disk" in job.error_message
    assert [status(studio, project) for project in projects] == [None, None]


def test_the_last_project_of_a_tenant_may_go(studio: Any) -> None:
    project = studio.project("Only")
    remove_folder(studio, project)
    assert studio.run("orphaned_project_cleanup", scope="global").status == "completed"
    assert status(studio, project) == "canceled"


@pytest.mark.slow_on("postgresql")
def test_a_project_of_many_photos_is_removed_wherever_a_run_was_cut_short(
    studio: Any, deaths: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.steps.projects.orphaned_projects.BATCH_SIZE", 2)

    def prepare(studio: Any) -> int:
        gone, _ = studio.project("Gone"), studio.project("There")
        for number in range(5):
            studio.photo(gone, f"photo {number}")
        remove_folder(studio, gone)
        studio.run("orphaned_project_cleanup", scope="global")
        clock.advance(seconds=GRACE_SECONDS)
        return int(studio.enqueue("orphaned_project_cleanup", scope="global"))

    deaths.check(prepare, more_than=4)


@pytest.mark.parametrize("unplugged", [".", "tenant"])
def test_a_disk_that_is_unplugged_during_the_run_costs_nothing(
    studio: Any, clock: Any, monkeypatch: pytest.MonkeyPatch, unplugged: str
) -> None:
    back, *others = (studio.project(name) for name in ("Back", "One", "Two"))
    photo_id = studio.photo(back, "fox", "jpg", tagged=("animal",))
    away = studio.folder(back).path.rename(studio.root.parent / "away")
    studio.run("orphaned_project_cleanup", scope="global")
    clock.advance(seconds=GRACE_SECONDS)
    away.rename(studio.folder(back).path)

    def unplug(self: Arrivals) -> None:
        mount = studio.root / unplugged
        mount.resolve().rename(studio.root.parent / "unplugged")
        mount.resolve().mkdir()

    monkeypatch.setattr(Arrivals, "look_everywhere", unplug)
    job = studio.run("orphaned_project_cleanup", scope="global")

    assert "is missing or empty" in job.error_message
    assert studio.get_photo(photo_id) is not None
    assert [status(studio, project) for project in others] == [None, None]
