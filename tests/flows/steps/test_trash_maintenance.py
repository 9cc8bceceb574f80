"""Only files whose time in the trash has passed are removed, and the journal names their photos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flows.steps.moving import trash_maintenance
from storage.library import atomic_write
from storage.library.atomic_write import temporary_path
from storage.library.trash import move_to_trash

_DAY = 24 * 3600


def put_into_trash(studio: Any, project: Any, *names: str) -> None:
    for name in names:
        path = studio.folder(project).path / name
        path.write_bytes(name.encode())
        move_to_trash(studio.folder(project), path, at=studio.database.clock())


@pytest.mark.parametrize("scope", ["project", "photo_set", "global"])
def test_what_is_past_its_time_goes_and_all_else_stays(studio: Any, clock: Any, scope: str) -> None:
    first, second = studio.project("First"), studio.project("Second")
    ids = [studio.photo(project, "kept", "jpg") for project in (first, second)]
    for project in (first, second):
        put_into_trash(studio, project, "old.jpg", "o" * 240 + ".jpg")
    clock.advance(seconds=2)
    put_into_trash(studio, first, "young.jpg")
    clock.advance(seconds=_DAY - 1)
    arguments: dict[str, Any] = {
        "project": {"project_id": first.id},
        "photo_set": {"items": [{"photo_id": photo_id} for photo_id in ids]},
        "global": {"scope": "global"},
    }[scope]

    job = studio.run("trash_maintenance", **arguments)
    after = studio.everything()

    left = {name for name in studio.disk() if "/.trash/" in name}
    untouched = {name for name in left if name.startswith("tenant/Second/")}
    assert job.result["counts"]["removed"] == (2 if scope == "project" else 4)
    assert left - untouched == {"tenant/First/.trash/young.jpg"}
    assert len(untouched) == (2 if scope == "project" else 0)
    assert {"tenant/First/kept.jpg", "tenant/Second/kept.jpg"} <= studio.disk().keys()
    assert studio.run("trash_maintenance", **arguments).status == "completed"
    assert studio.everything() == after


def test_a_removal_is_journaled_with_its_photo_where_that_is_known(studio: Any, clock: Any) -> None:
    project = studio.project("Iceland")
    long_name = "w" * 245
    ids = [studio.photo(project, name, "jpg", "NEF", keep_jpg=0) for name in ("fox", long_name)]
    assert studio.run("file_removal", items=[{"photo_id": photo_id} for photo_id in ids]).status == "completed"
    put_into_trash(studio, project, "unknown.jpg")
    clock.advance(seconds=_DAY + 1)

    assert studio.run("trash_maintenance", project_id=project.id).status == "completed"

    rows = studio.journal_rows()
    trashed = {row["target"]: (row["photo_id"], row["size_bytes"]) for row in rows if row["action"] == "trashed"}
    removed = {row["source"]: (row["photo_id"], row["size_bytes"]) for row in rows if row["action"] == "removed"}
    assert {photo_id for photo_id, _ in trashed.values()} == set(ids)
    assert trashed.items() <= removed.items()
    assert set(removed) - set(trashed) == {name for name in removed if name.endswith("_unknown.jpg")}
    assert all(size_bytes for _, size_bytes in removed.values())


def test_a_symlink_in_the_trash_goes_without_what_it_leads_to(studio: Any, clock: Any, tmp_path: Path) -> None:
    project = studio.project("Iceland")
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"the only copy")
    link = studio.folder(project).trash / "20200101T000000.000Z_000000000000_link.jpg"
    link.symlink_to(outside)

    assert studio.run("trash_maintenance", project_id=project.id).status == "completed"

    assert not os.path.lexists(link)
    assert outside.read_bytes() == b"the only copy"


def test_an_entry_that_cannot_be_removed_fails_its_project_alone(
    studio: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = studio.project("Stuck"), studio.project("Free")
    put_into_trash(studio, stuck, "stuck.jpg", "other.jpg")
    put_into_trash(studio, free, "gone.jpg")
    clock.advance(seconds=_DAY + 1)
    purge = trash_maintenance.purge

    def failing(entry: Any) -> None:
        if entry.original_name == "stuck.jpg":
            raise PermissionError(13, "Permission denied")
        purge(entry)

    monkeypatch.setattr(trash_maintenance, "purge", failing)

    job = studio.run("trash_maintenance", scope="global")

    assert "1 of 2 projects failed: Stuck" in job.error_message
    assert [name for name in studio.disk() if "/.trash/" in name] == ["tenant/Stuck/.trash/stuck.jpg"]


def test_unfinished_files_of_crashed_processes_go_from_each_folder_that_gets_files(
    studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = studio.project("Iceland")
    folders = ("", ".thumb/", ".preview/", "NKSC_PARAM/", "CaptureOne/Settings166/")
    for folder in folders:
        path = temporary_path(studio.folder(project).path / f"{folder}fox")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a part")
    assert studio.run("trash_maintenance", project_id=project.id).result == {}
    monkeypatch.setattr(atomic_write, "STALE_TEMPORARY_SECONDS", -1)
    job = studio.run("trash_maintenance", project_id=project.id)
    assert job.result["counts"] == {"unfinished files removed": len(folders)}
    assert not any("photojobs-tmp" in name for name in studio.disk())


def test_the_time_to_live_is_a_setting(studio: Any, clock: Any) -> None:
    studio.runtime.settings = studio.runtime.settings.model_copy(update={"trash_ttl_seconds": 60})
    project = studio.project("Iceland")
    put_into_trash(studio, project, "a.jpg")
    clock.advance(seconds=61)
    studio.run("trash_maintenance", project_id=project.id)
    assert not any("/.trash/" in name for name in studio.disk())


@pytest.mark.slow_on("postgresql")
def test_a_removal_cut_short_is_journaled_by_the_next_run(studio: Any, deaths: Any, clock: Any) -> None:
    def prepare(studio: Any) -> int:
        project = studio.project("Iceland")
        ids = [studio.photo(project, name, "jpg", "NEF", keep_jpg=0) for name in ("fox", "owl")]
        studio.run("file_removal", items=[{"photo_id": photo_id} for photo_id in ids])
        clock.advance(seconds=_DAY + 1)
        return int(studio.enqueue("trash_maintenance", project_id=project.id))

    deaths.check(prepare, more_than=3, outcome=without_moments)


def without_moments(studio: Any) -> dict[str, Any]:
    """Return the outcome; files in the trash have their original names."""
    found: dict[str, Any] = studio.outcome()
    found["journal"] = sorted(
        (action, source.rpartition("_")[2] if "/.trash/" in source else source, target)
        for action, source, target in ((a, s, t or "") for a, s, t in found["journal"])
    )
    return found
