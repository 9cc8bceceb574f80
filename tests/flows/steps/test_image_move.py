"""The step image_move_files: photos arrive whole, with rows and tags, and overwrite nothing."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from flows import StepContext
from flows.testing import run_queued_job
from storage import JobsRepository, PhotosRepository, ProjectsRepository, TasksRepository
from storage.errors import UnknownPhoto, UnknownProject
from storage.history.move_intents import pending_intents
from storage.library import transfer
from storage.library.errors import NotEnoughSpace
from tests.flows.conftest import items_of


def _move(studio, destination, *photo_ids):
    return studio.run("image_move_files", scope="photo_set", project_id=destination.id, items=items_of(*photo_ids))


@pytest.fixture
def move_task(studio, make_task):
    """Run the move as the step of a task, and return its flags."""

    def run(destination, *photo_ids):
        step = {"type": "image_move_files", "unit": "items"}
        task = make_task(step, photo_ids=photo_ids, project_id=destination.id, scope="photo_set")
        [job] = TasksRepository(studio.database).list_jobs(task.id)
        assert run_queued_job(studio.runtime, job.id).status == "completed"
        return TasksRepository(studio.database).get(task.id).flags_json

    return run


def test_a_photo_moves_with_all_its_files_its_derivatives_its_row_and_its_tags(studio):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(
        iceland, "fox", "jpg", "NEF", "png", "xmp", "jpg.xmp", derivatives=True, tagged=("animal", "arctic")
    )
    studio.photo(norway, "elk", "jpg", tagged=("animal",))
    before = {name.replace("Iceland", "Norway", 1) for name in studio.disk() if "fox" in name}
    job = _move(studio, norway, photo_id)
    assert job.status == "completed", job.error_message
    assert {name for name in studio.disk() if "fox" in name} == before
    assert studio.get_photo(photo_id).project_id == norway.id
    assert studio.get_photo(photo_id).thumbnail_status == "generated"
    assert studio.tags_of(photo_id) == [(norway.id, "animal"), (norway.id, "arctic")]
    assert {action for action, _, _ in studio.journal()} == {"moved"}
    assert {source for _, source, _ in studio.journal()} == {
        f"tenant/Iceland/fox.{end}" for end in ("jpg", "NEF", "png", "xmp", "jpg.xmp")
    }
    assert job.result["counts"] == {"moved": 1, "files moved": 5}


@pytest.mark.parametrize("taken", ["fox.jpg", "FOX.JPG", "fox.txt", "fox.xmp"])
def test_a_name_taken_on_disk_gets_a_number_and_nothing_is_overwritten(studio, taken):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg", "xmp", derivatives=True)
    (studio.folder(norway).path / taken).write_bytes(b"theirs")
    _move(studio, norway, photo_id)
    disk = studio.disk()
    assert disk[f"tenant/Norway/{taken}"] == b"theirs"
    assert disk["tenant/Norway/fox_duplicate1.jpg"] == b"Iceland/fox.jpg"
    assert {"tenant/Norway/fox_duplicate1.xmp", "tenant/Norway/.thumb/fox_duplicate1.webp"} < set(disk)
    photo = studio.get_photo(photo_id)
    assert (photo.filename, photo.basename) == ("fox_duplicate1", "fox_duplicate1")


def test_a_name_taken_by_a_row_alone_gets_a_number(studio):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    studio.photo(norway, "Fox")
    studio.photo(norway, "fox_duplicate1")
    for name in ("fox_DUPLICATE2.nef", "fox_duplicate4.jpg", "fox_duplicate5.jpg.xmp"):
        (studio.folder(norway).path / name).touch()
    first, second = (studio.photo(project, "fox", "jpg") for project in (iceland, studio.project("Chile")))
    _move(studio, norway, first, second)
    assert [studio.get_photo(one).filename for one in (first, second)] == ["fox_duplicate3", "fox_duplicate6"]


def test_a_long_name_gets_a_number_and_still_has_room_for_derivatives(studio):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    name = "ö" * 122
    studio.photo(norway, name, "jpeg")
    photo_id = studio.photo(iceland, name, "jpeg")
    assert _move(studio, norway, photo_id).result["counts"]["moved"] == 1
    assert studio.get_photo(photo_id).filename == "ö" * 117 + "_duplicate1"


def test_photos_of_one_name_from_two_projects_do_not_meet(studio):
    iceland, norway, sweden = (studio.project(name) for name in ("Iceland", "Norway", "Sweden"))
    first, second = studio.photo(iceland, "fox", "jpg"), studio.photo(sweden, "fox", "jpg")
    _move(studio, norway, first, second)
    assert {studio.get_photo(first).filename, studio.get_photo(second).filename} == {"fox", "fox_duplicate1"}
    assert sorted(content for name, content in studio.disk().items() if "Norway" in name) == [
        b"Iceland/fox.jpg",
        b"Sweden/fox.jpg",
    ]


def test_a_stray_thumbnail_in_the_destination_is_not_taken_for_the_photos_own(studio):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg", derivatives=True)
    studio.folder(norway).thumbnail("fox").write_bytes(b"of another fox")
    _move(studio, norway, photo_id)
    assert studio.disk()["tenant/Norway/.thumb/fox.webp"] == b"thumb of fox"


def test_a_photo_without_a_thumbnail_gets_no_stray_one(studio):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg")
    studio.folder(norway).thumbnail("fox").write_bytes(b"of another fox, gone since")
    _move(studio, norway, photo_id)
    assert not studio.folder(norway).thumbnail("fox").exists()
    assert studio.get_photo(photo_id).thumbnail_status != "generated"


def test_the_flag_says_whether_any_derivative_is_missing(studio, move_task):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    complete = studio.photo(iceland, "fox", "jpg", derivatives=True)
    raw = studio.photo(iceland, "owl", "NEF", thumbnail_status="not_supported", preview_status="not_supported")
    lacking = studio.photo(iceland, "elk", "jpg", derivatives=True)
    studio.folder(iceland).preview_image("elk").unlink()
    assert move_task(norway, complete, raw) == {"need_generate_derivatives": False}
    assert move_task(norway, lacking) == {"need_generate_derivatives": True}
    assert studio.get_photo(lacking).preview_status == "missing"
    assert studio.get_photo(lacking).thumbnail_status == "generated"
    # Likewise for photos that have arrived before.
    assert move_task(norway, complete, raw) == {"need_generate_derivatives": False}
    assert move_task(norway, complete, lacking) == {"need_generate_derivatives": True}


def test_moving_twice_changes_nothing_more(studio, clock):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    ids = [studio.photo(iceland, name, "jpg", "NEF", derivatives=True) for name in ("fox", "owl")]
    _move(studio, norway, *ids)
    before = studio.everything()
    clock.advance(seconds=60)
    again = _move(studio, norway, *ids)
    assert again.status == "completed"
    assert again.result["counts"] == {"photos already there": 2}
    assert [item.status for item in JobsRepository(studio.database).list_items(again.id)] == ["done", "done"]
    assert studio.everything() == before


@pytest.mark.parametrize("unusable", ["archived", "unknown", "another tenant's", "without its folder", "none"])
def test_an_unusable_destination_fails_at_once_and_changes_nothing(studio, unusable):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg")
    studio.photo(norway, "elk", "jpg")
    project_id = norway.id
    if unusable == "archived":
        ProjectsRepository(studio.database).archive(norway.id)
    elif unusable == "without its folder":
        studio.folder(norway).path.rename(studio.root.parent / "away")
    elif unusable == "none":
        project_id = None
    elif unusable == "unknown":
        empty = studio.project("Empty")
        project_id = empty.id
    job_id = studio.enqueue("image_move_files", photo_id, scope="photo_set", project_id=project_id)
    if unusable == "unknown":
        ProjectsRepository(studio.database).remove(project_id)
    elif unusable == "another tenant's":
        studio.give_away(norway, "other")
    before = studio.everything()
    job = run_queued_job(studio.runtime, job_id)
    assert job.status == "failed"
    assert studio.everything() == before


def test_a_new_project_without_a_folder_gets_one(studio):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg")
    made = ProjectsRepository(studio.database).create(project_name="New", project_folder="New", tenant_id="tenant")
    assert _move(studio, made, photo_id).status == "completed"
    assert "tenant/New/fox.jpg" in studio.disk()


@pytest.mark.parametrize("batch_size", [1, 100])
def test_a_destination_that_is_renamed_during_the_move_is_not_made_anew(studio, monkeypatch, batch_size):
    monkeypatch.setattr("flows.steps.moving.image_move.BATCH_SIZE", batch_size)
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    studio.write_manifest(norway)
    ids = [studio.photo(iceland, name, "jpg", "xmp", derivatives=True) for name in ("fox", "owl", "yak")]
    place, renamed = transfer._place, studio.root / "tenant" / "Norway 2024"

    def rename_after_the_first_photo(source, target, status):
        place(source, target, status)
        if target.parent.name == ".preview":
            studio.folder(norway).path.rename(renamed)

    monkeypatch.setattr(transfer, "_place", rename_after_the_first_photo)
    job = _move(studio, norway, *ids)
    assert job.status in ("failed", "queued")
    assert str(studio.folder(norway).path) in job.error_message
    assert not studio.folder(norway).exists()
    assert {file.name for file in renamed.glob("[!.]*")} == {"fox.jpg", "fox.xmp"}
    assert [studio.get_photo(photo_id).project_id for photo_id in ids] == [norway.id, iceland.id, iceland.id]
    with studio.database.connect() as connection:
        assert pending_intents(connection, [iceland.id, norway.id]) == []
    # The way out that the message names.
    assert studio.run("folder_discovery").status == "completed"
    monkeypatch.undo()
    assert _move(studio, norway, *ids).status == "completed"
    assert {file.name for file in renamed.glob("*.jpg")} == {"fox.jpg", "owl.jpg", "yak.jpg"}


def test_an_empty_destination_that_was_renamed_is_not_made_anew(studio):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg")
    studio.write_manifest(norway)
    studio.folder(norway).path.rename(studio.root / "tenant" / "Norway 2024")
    before = studio.everything()
    job = _move(studio, norway, photo_id)
    assert (job.status, "folder_discovery" in job.error_message) == ("failed", True)
    assert studio.everything() == before


def test_a_photo_that_cannot_move_whole_stays_whole(studio, monkeypatch):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    bad, good = studio.photo(iceland, "fox", "jpg", "NEF", "xmp"), studio.photo(iceland, "owl", "jpg")
    place = transfer._place

    def full(source, target, status):
        if target.name == "fox.xmp" and "Norway" in str(target):
            raise NotEnoughSpace("the disk is full")
        place(source, target, status)

    monkeypatch.setattr(transfer, "_place", full)
    job = _move(studio, norway, bad, good)
    assert job.status == "queued"
    assert {name for name in studio.disk() if "fox" in name} == {
        f"tenant/Iceland/fox.{end}" for end in ("jpg", "NEF", "xmp")
    }
    assert studio.get_photo(bad).project_id == iceland.id
    assert studio.get_photo(good).project_id == norway.id
    monkeypatch.undo()
    JobsRepository(studio.database).requeue(job.id)
    assert run_queued_job(studio.runtime, job.id).status == "completed"
    assert studio.get_photo(bad).filename == "fox"


def test_a_move_that_was_taken_back_is_on_the_disk_before_its_intents_go(studio, monkeypatch):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    bad = studio.photo(iceland, "fox", "jpg", "xmp")
    place, fsync_folder, synced = transfer._place, transfer.fsync_folder, []

    def full(source, target, status):
        if target.name == "fox.xmp":
            raise NotEnoughSpace("the disk is full")
        synced.clear()
        place(source, target, status)

    def fsync(folder):
        with studio.database.connect() as connection:
            assert pending_intents(connection, [iceland.id])
        synced.append(folder)
        fsync_folder(folder)

    monkeypatch.setattr(transfer, "_place", full)
    monkeypatch.setattr(transfer, "fsync_folder", fsync)
    _move(studio, norway, bad)
    assert {studio.folder(iceland).path, studio.folder(norway).path} <= set(synced)
    with studio.database.connect() as connection:
        assert pending_intents(connection, [iceland.id]) == []


def test_a_move_that_stopped_half_way_goes_on_there(studio, monkeypatch):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    (studio.folder(norway).path / "fox.png").write_bytes(b"theirs")
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", "xmp", derivatives=True)
    place = transfer._place
    is_failing = []

    def failing(source, target, status):
        if target.suffix == ".xmp" or is_failing:
            is_failing.append(True)
            raise OSError("the disk fails")
        place(source, target, status)

    monkeypatch.setattr(transfer, "_place", failing)
    job = _move(studio, norway, photo_id)
    assert "tries again" in job.error_message
    monkeypatch.undo()
    JobsRepository(studio.database).requeue(job.id)
    assert run_queued_job(studio.runtime, job.id).status == "completed"
    assert {name for name in studio.disk() if "fox_duplicate1" in name} == {
        f"tenant/Norway/{name}"
        for name in (
            "fox_duplicate1.jpg",
            "fox_duplicate1.NEF",
            "fox_duplicate1.xmp",
            ".thumb/fox_duplicate1.webp",
            ".preview/fox_duplicate1.webp",
        )
    }
    assert len(studio.journal()) == 3
    with studio.database.connect() as connection:
        assert pending_intents(connection, [iceland.id, norway.id]) == []


def test_a_photo_whose_files_belong_to_a_second_row_too_stays_with_them(studio):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    ids = [studio.photo(iceland, "fox", "jpg", "xmp") for _ in range(2)]
    before = studio.everything()
    for items in (items_of(ids[0]), items_of(*ids)):
        job = studio.run("image_move_files", scope="photo_set", project_id=norway.id, items=items)
        assert "several photos of the project have the name fox, so they have the same files" in job.error_message
        assert studio.everything() == before


def test_a_photo_without_any_file_is_skipped(studio):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox")
    job = _move(studio, norway, photo_id)
    assert JobsRepository(studio.database).list_items(job.id)[0].status == "skipped"
    assert studio.get_photo(photo_id).project_id == iceland.id


def test_photos_of_a_project_that_is_archived_while_their_move_waits_are_skipped(studio, monkeypatch):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg")
    hold = StepContext.exclusively

    @contextmanager
    def hold_after_another_program(ctx, project_ids):
        ProjectsRepository(studio.database).archive(iceland.id)
        with hold(ctx, project_ids):
            yield

    monkeypatch.setattr(StepContext, "exclusively", hold_after_another_program)
    job = _move(studio, norway, photo_id)
    assert job.status == "completed"
    [item] = JobsRepository(studio.database).list_items(job.id)
    assert (item.status, "archived" in item.message) == ("skipped", True)
    assert studio.get_photo(photo_id).project_id == iceland.id


def test_a_photo_of_another_tenant_does_not_move(studio):
    theirs, norway = studio.project("Theirs"), studio.project("Norway")
    photo_id = studio.photo(theirs, "fox", "jpg")
    job_id = studio.enqueue("image_move_files", photo_id, scope="photo_set", project_id=norway.id)
    studio.give_away(theirs, "other")
    before = studio.everything()
    assert run_queued_job(studio.runtime, job_id).status == "failed"
    assert studio.everything() == before


def test_a_move_of_or_to_what_is_another_tenants_is_refused(studio):
    theirs, norway = studio.project("Theirs", tenant_id="other"), studio.project("Norway")
    photo_id, own = studio.photo(theirs, "fox", "jpg"), studio.photo(norway, "elk", "jpg")
    before = studio.everything()
    with pytest.raises(UnknownPhoto):
        _move(studio, norway, photo_id)
    with pytest.raises(UnknownProject):
        _move(studio, theirs, own)
    assert studio.everything() == before
    assert JobsRepository(studio.database).list_by_tenant("tenant") == []


def test_many_photos_move_in_batches(studio, monkeypatch):
    monkeypatch.setattr("flows.steps.moving.image_move.BATCH_SIZE", 3)
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    ids = [studio.photo(iceland, f"fox{number}", "jpg") for number in range(8)]
    studio.photo(norway, "fox4", "jpg")
    assert _move(studio, norway, *ids).status == "completed"
    rows = PhotosRepository(studio.database).list_by_project(norway.id)
    assert len(rows) == 9
    assert {row.filename for row in rows if row.id in ids} == {
        *(f"fox{number}" for number in range(8) if number != 4),
        "fox4_duplicate1",
    }


@pytest.mark.slow_on("postgresql")
def test_a_death_at_any_point_is_repaired_by_the_next_run(studio, deaths):
    def prepare(studio):
        iceland, norway = studio.project("Iceland"), studio.project("Norway")
        studio.photo(norway, "fox", "jpg", tagged=("animal",))
        ids = [
            studio.photo(iceland, "fox", "jpg", "NEF", "xmp", derivatives=True, tagged=("animal", "arctic")),
            studio.photo(iceland, "owl", "jpg", "NEF", derivatives=True),
        ]
        return studio.enqueue("image_move_files", *ids, project_id=norway.id, scope="photo_set")

    deaths.check(prepare, more_than=12)
