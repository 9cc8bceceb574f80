"""The steps generate_derivatives, upload_postprocess and derivative_validation, on real images."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading

import pytest
from blake3 import blake3
from sqlalchemy import select, update

from flows.execution.job_run import run_claimed_job
from flows.handlers import item_outcomes, job_progress
from flows.imaging import fingerprint
from flows.imaging.errors import DecoderCrashed
from flows.imaging.pixels.vips import load_vips
from flows.process.runtime import Runtime
from flows.steps.images import photo_processing
from flows.testing import run_queued_job
from storage import JobsRepository, PhotosRepository, ProjectsRepository
from storage.database.tables import job_items, jobs, photo_derivatives, photo_originals
from storage.photos.originals import OriginalsRepository
from tests.flows.conftest import items_of
from tests.waiting import wait_until


def _generate(studio, *photo_ids, tenant_id="tenant", **payload):
    return studio.run(
        "generate_derivatives",
        scope="photo_set",
        items=items_of(*photo_ids),
        payload=payload or None,
        tenant_id=tenant_id,
    )


def _statuses(studio, photo_id):
    photo = studio.get_photo(photo_id)
    return photo.thumbnail_status, photo.preview_status


def _paths(studio, project, name):
    folder = studio.folder(project)
    return folder.thumbnail(name), folder.preview_image(name)


def _size(path):
    image = load_vips().Image.new_from_file(str(path))
    return image.width, image.height


def _reported(job):
    # On a slow machine, the report also lists photos that took long.
    return {part: found for part, found in job.result.items() if part != "slowest"}


def _backdate(path, *, seconds=3600):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - seconds * 10**9))


@pytest.fixture
def picture(studio, jpeg):
    """A photo with a real JPEG, which was changed an hour ago."""

    def make(project, name, **exif):
        photo_id = studio.photo(project, name, "jpg", contents={"jpg": jpeg(**exif)})
        _backdate(studio.folder(project).path / f"{name}.jpg")
        return photo_id

    return make


def test_each_photo_gets_an_upright_thumbnail_and_preview(studio, picture):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox", Orientation=6)
    job = _generate(studio, photo_id)
    assert job.status == "completed", job.error_message
    assert [_size(path) for path in _paths(studio, iceland, "fox")] == [(40, 60), (40, 60)]
    assert _statuses(studio, photo_id) == ("generated", "generated")
    with studio.database.connect() as connection:
        rows = connection.execute(select(photo_derivatives).order_by(photo_derivatives.c.kind)).mappings().all()
    assert [row["kind"] for row in rows] == ["preview", "thumbnail"]
    assert {(row["source_name"], row["width"], row["height"]) for row in rows} == {("fox.jpg", 40, 60)}
    [original] = OriginalsRepository(studio.database).get_many([photo_id])[photo_id].values()
    assert {row["source_hash"] for row in rows} == {original.content_hash}
    assert (original.name, original.kind) == ("fox.jpg", "jpg")
    assert job.result["counts"] == {"thumbnails made": 1, "previews made": 1}


def test_the_second_run_changes_nothing(studio, picture, clock):
    iceland = studio.project("Iceland")
    ids = [picture(iceland, name) for name in ("fox", "owl")]
    _generate(studio, *ids)
    before = studio.everything()
    times = [path.stat().st_mtime_ns for name in ("fox", "owl") for path in _paths(studio, iceland, name)]
    clock.advance(seconds=60)
    job = _generate(studio, *ids)
    assert job.result["counts"] == {"unchanged": 2}
    assert studio.everything() == before
    assert times == [path.stat().st_mtime_ns for name in ("fox", "owl") for path in _paths(studio, iceland, name)]


@pytest.mark.parametrize("scope", ["project", "global"])
@pytest.mark.parametrize("type", ["generate_derivatives", "upload_postprocess", "metadata"])
def test_a_job_that_names_no_photos_works_on_all_of_its_projects(studio, picture, type, scope):
    projects = [studio.project(name) for name in ("Iceland", "Norway")]
    archived = studio.project("Old", archived=True)
    ids = [picture(project, "fox", Make="Nikon") for project in (*projects, archived)]
    damaged = studio.photo(projects[0], "owl", "jpg", contents={"jpg": b"\xff\xd8\xffno picture"})
    target = {"project_id": projects[0].id} if scope == "project" else {"scope": "global"}
    job = studio.run(type, **target)
    assert "owl" in job.error_message
    reached = 1 if scope == "project" else 2
    changed = [studio.get_photo(photo_id) for photo_id in ids]
    was_reached = [bool(photo.meta_json) or photo.thumbnail_status == "generated" for photo in changed]
    assert was_reached == [True] * reached + [False] * (3 - reached)
    assert studio.get_photo(damaged).thumbnail_status == (None if type == "metadata" else "failed")


def test_force_makes_all_again(studio, picture):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox")
    _generate(studio, photo_id)
    for path in _paths(studio, iceland, "fox"):
        path.write_bytes(b"something else")
    assert _generate(studio, photo_id).result["counts"] == {"unchanged": 1}
    assert _generate(studio, photo_id, force=True).result["counts"] == {"thumbnails made": 1, "previews made": 1}
    assert _size(_paths(studio, iceland, "fox")[0]) == (60, 40)


@pytest.mark.parametrize("damage", ["missing", "empty", "failed before"])
def test_only_what_is_missing_or_failed_is_made_again(studio, picture, damage):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox")
    _generate(studio, photo_id)
    thumbnail, preview = _paths(studio, iceland, "fox")
    kept = thumbnail.stat().st_mtime_ns
    if damage == "missing":
        preview.unlink()
    elif damage == "empty":
        # Replaced, as the thumbnail of a small picture is the same file.
        preview.unlink()
        preview.write_bytes(b"")
    else:
        PhotosRepository(studio.database).update_many([{"id": photo_id, "preview_status": "failed"}])
    assert _generate(studio, photo_id).result["counts"] == {"previews made": 1}
    assert _size(preview) == (60, 40)
    assert thumbnail.stat().st_mtime_ns == kept
    assert _statuses(studio, photo_id) == ("generated", "generated")


def test_another_time_with_the_same_contents_is_no_change_and_other_contents_are(studio, picture, jpeg):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox")
    _generate(studio, photo_id)
    original = studio.folder(iceland).path / "fox.jpg"
    os.utime(original)
    assert _generate(studio, photo_id).result["counts"] == {"unchanged": 1}
    # The new time is stored, so that the contents need not be read again.
    known = OriginalsRepository(studio.database).get_many([photo_id])[photo_id]["fox.jpg"]
    assert (known.mtime_ns, known.ctime_ns) == (original.stat().st_mtime_ns, original.stat().st_ctime_ns)
    original.write_bytes(jpeg(30, 30))
    assert _generate(studio, photo_id).result["counts"] == {"thumbnails made": 1, "previews made": 1}
    assert _size(_paths(studio, iceland, "fox")[0]) == (30, 30)


def test_derivatives_of_other_programs_are_believed_unless_older_than_the_original(studio, picture):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox")
    for path in _paths(studio, iceland, "fox"):
        path.write_bytes(b"made elsewhere")
    PhotosRepository(studio.database).update_many(
        [{"id": photo_id, "thumbnail_status": "generated", "preview_status": "generated"}]
    )
    assert _generate(studio, photo_id).result["counts"] == {"unchanged": 1}
    os.utime(studio.folder(iceland).path / "fox.jpg")
    for path in _paths(studio, iceland, "fox"):
        _backdate(path)
    assert _generate(studio, photo_id).result["counts"] == {"thumbnails made": 1, "previews made": 1}


def test_the_jpeg_comes_before_other_files_and_those_before_the_raw(studio, jpeg):
    iceland = studio.project("Iceland")
    png = load_vips().Image.black(20, 10).cast("uchar").pngsave_buffer()
    ids = [
        studio.photo(iceland, "all", "jpg", "png", "NEF", contents={"jpg": jpeg(), "png": png, "NEF": b"junk"}),
        studio.photo(iceland, "two", "png", "NEF", contents={"png": png, "NEF": b"junk"}),
    ]
    assert _generate(studio, *ids).status == "completed"
    assert _size(_paths(studio, iceland, "all")[0]) == (60, 40)
    assert _size(_paths(studio, iceland, "two")[0]) == (20, 10)


def test_a_raw_file_without_the_raw_extra_is_not_supported_and_no_failure(studio, monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "NEF")
    job = _generate(studio, photo_id)
    assert job.status == "completed", job.error_message
    assert _statuses(studio, photo_id) == ("not_supported", "not_supported")
    assert JobsRepository(studio.database).list_items(job.id)[0].status == "done"
    assert job.result["counts"] == {"not supported": 1}
    before = studio.everything()
    _generate(studio, photo_id)
    assert studio.everything() == before


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_a_damaged_image_fails_its_own_item_for_good_with_the_reason(studio, picture, jpeg, damage):
    iceland = studio.project("Iceland")
    good = [picture(iceland, name) for name in ("a", "z")]
    content = {"truncated": jpeg(2000, 1500)[:2000], "garbage": b"\xff\xd8 no picture", "empty": b""}[damage]
    bad = studio.photo(iceland, "m", "jpg", contents={"jpg": content})
    job = _generate(studio, good[0], bad, good[1])
    assert job.status == "failed"
    assert job.error_message.startswith("1 of 3 photos failed: m.jpg: ")
    items = JobsRepository(studio.database).list_items(job.id)
    assert [item.status for item in items] == ["done", "failed", "done"]
    assert items[1].error_type == "UnusableImage"
    assert _statuses(studio, bad) == ("failed", "failed")
    assert not any(path.exists() for path in _paths(studio, iceland, "m"))
    for photo_id in good:
        assert _statuses(studio, photo_id) == ("generated", "generated")
    before = studio.everything()
    _generate(studio, bad)
    assert studio.everything() == before


def test_a_crashing_decoder_fails_its_item_alone(studio, picture, monkeypatch):
    iceland = studio.project("Iceland")
    ids = [picture(iceland, name) for name in ("fox", "owl")]
    make = studio.runtime.images.make_derivatives

    def crashing(source, **options):
        if source.name == "fox.jpg":
            raise DecoderCrashed("fox.jpg: the process that decoded it died")
        return make(source, **options)

    monkeypatch.setattr(studio.runtime.images, "make_derivatives", crashing)
    job = _generate(studio, *ids)
    assert job.status == "failed"
    assert _statuses(studio, ids[0]) == ("failed", "failed")
    assert _statuses(studio, ids[1]) == ("generated", "generated")


def test_a_failing_disk_says_nothing_about_the_photo_and_is_tried_again(studio, picture, monkeypatch):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox")

    def failing(source, **options):
        raise OSError("the disk is full")

    monkeypatch.setattr(studio.runtime.images, "make_derivatives", failing)
    job = _generate(studio, photo_id)
    assert job.status == "queued"
    assert _statuses(studio, photo_id) == (None, None)
    monkeypatch.undo()
    JobsRepository(studio.database).requeue(job.id)
    assert run_queued_job(studio.runtime, job.id).status == "completed"


def test_photos_without_files_are_skipped_and_nothing_is_concluded_from_a_missing_folder(studio, picture):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    empty = studio.photo(iceland, "gone", thumbnail_status="generated")
    away = picture(norway, "fox")
    studio.folder(norway).path.rename(studio.root.parent / "away")
    before = studio.everything()
    job = _generate(studio, empty, away)
    assert [item.status for item in JobsRepository(studio.database).list_items(job.id)] == ["skipped", "pending"]
    assert job.status == "queued"
    assert studio.everything() == before


@pytest.mark.parametrize("name", ["x" * 251, "é" * 125 + "x"], ids=["ascii", "accents"])
def test_a_name_that_leaves_no_room_for_a_derivatives_extension_is_shortened(studio, picture, name):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, name)
    _generate(studio, photo_id, picture(iceland, "x" * 250))
    thumbnail, preview = _paths(studio, iceland, name)
    assert len(thumbnail.name.encode()) <= 255
    assert _size(thumbnail) == _size(preview) == (60, 40)
    assert _statuses(studio, photo_id) == ("generated", "generated")
    assert _reported(studio.run("derivative_validation", project_id=iceland.id)) == {}
    thumbnail.unlink()
    studio.run("derivative_validation", project_id=iceland.id)
    assert _statuses(studio, photo_id) == ("missing", "generated")


def test_a_photo_that_is_moved_while_it_is_decoded_keeps_what_its_new_place_says(studio, picture, monkeypatch):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    photo_id = picture(iceland, "fox")
    make = studio.runtime.images.make_derivatives

    def slow(source, **options):
        made = make(source, **options)
        PhotosRepository(studio.database).update_many([{"id": photo_id, "project_id": norway.id}])
        return made

    monkeypatch.setattr(studio.runtime.images, "make_derivatives", slow)
    job = _generate(studio, photo_id)
    assert JobsRepository(studio.database).list_items(job.id)[0].status == "skipped"
    assert _statuses(studio, photo_id) == (None, None)
    with studio.database.connect() as connection:
        assert connection.execute(select(photo_derivatives)).all() == []


def test_one_job_decodes_in_several_threads_and_writes_in_batches(studio, picture, monkeypatch):
    monkeypatch.setattr(photo_processing, "BATCH_SIZE", 3)
    monkeypatch.setattr(photo_processing, "available_cores", lambda: 2)
    iceland = studio.project("Iceland")
    ids = [picture(iceland, f"fox{number}") for number in range(8)]
    make = studio.runtime.images.make_derivatives
    both = threading.Barrier(2)

    def together(source, **options):
        # The barrier passes only if two threads wait here at the same time.
        both.wait(timeout=30)
        return make(source, **options)

    monkeypatch.setattr(studio.runtime.images, "make_derivatives", together)
    assert _generate(studio, *ids).status == "completed"
    assert {_statuses(studio, photo_id) for photo_id in ids} == {("generated", "generated")}


def test_finished_photos_are_written_while_another_one_takes_long(studio, picture, monkeypatch):
    monkeypatch.setattr(photo_processing, "WRITE_SECONDS", 0.01)
    for module in (item_outcomes, job_progress):
        monkeypatch.setattr(module, "PROGRESS_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(photo_processing, "available_cores", lambda: 2)
    iceland = studio.project("Iceland")
    slow, *others = [picture(iceland, f"fox{number}") for number in range(3)]
    make = studio.runtime.images.make_derivatives

    def written():
        with studio.database.connect() as connection:
            return connection.execute(select(jobs.c.progress_done)).scalar() == len(others)

    def others_first(source, **options):
        if source.stem == "fox0":
            wait_until(written, what="the photos that are finished are written")
        return make(source, **options)

    monkeypatch.setattr(studio.runtime.images, "make_derivatives", others_first)

    assert _generate(studio, slow, *others).status == "completed"


def test_what_an_earlier_attempt_did_counts_in_the_report(studio, picture, monkeypatch):
    monkeypatch.setattr(photo_processing, "BATCH_SIZE", 1)
    monkeypatch.setattr(photo_processing, "available_cores", lambda: 1)
    # Only one photo is processed at a time, so the fourth photo is not begun.
    monkeypatch.setattr(photo_processing, "THREADS_PER_PROCESS", 1)
    monkeypatch.setattr(photo_processing, "WINDOW_PER_THREAD", 1)
    monkeypatch.setattr(item_outcomes, "KEPT_REPORT_SECONDS", 0.0)
    iceland = studio.project("Iceland")
    ids = [picture(iceland, f"fox{number}") for number in range(6)]
    stopping, make = threading.Event(), studio.runtime.images.make_derivatives

    def stop_at_the_third(source, **options):
        if source.stem == "fox2":
            stopping.set()
        return make(source, **options)

    monkeypatch.setattr(studio.runtime.images, "make_derivatives", stop_at_the_third)
    job_id = studio.enqueue("generate_derivatives", *ids, scope="photo_set")
    claimed = JobsRepository(studio.database).claim_next("w1")
    handed_back = run_claimed_job(claimed, studio.runtime, stopping=stopping)
    assert handed_back.status == "queued"
    done = handed_back.result["counts"]["thumbnails made"]
    assert 0 < done < len(ids)

    ended = run_queued_job(studio.runtime, job_id)

    assert ended.status == "completed"
    assert ended.result["counts"]["thumbnails made"] == len(ids)
    assert ended.result["projects"]["Iceland"]["previews made"] == len(ids)


def test_isolated_processes_do_the_same(studio, picture, database):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox")
    bad = studio.photo(iceland, "bad", "jpg")
    settings = studio.runtime.settings.model_copy(update={"image_isolation": True})
    isolated = Runtime(database, settings=settings)
    try:
        studio.runtime = isolated
        job = _generate(studio, photo_id, bad)
        assert job.error_message.startswith("1 of 2 photos failed")
        assert _statuses(studio, photo_id) == ("generated", "generated")
        assert _statuses(studio, bad) == ("failed", "failed")
    finally:
        isolated.close()


@pytest.mark.slow_on("postgresql")
def test_a_death_at_any_point_is_repaired_by_the_next_run(studio, picture, deaths):
    def prepare(studio):
        iceland = studio.project("Iceland")
        ids = [picture(iceland, name) for name in ("fox", "owl")]
        return studio.enqueue("upload_postprocess", *ids)

    deaths.check(prepare)


def test_postprocessing_makes_derivatives_reads_metadata_and_aligns_keep_flags(studio, jpeg):
    iceland = studio.project("Iceland")
    content = jpeg(DateTimeOriginal="2024:05:06 07:08:09", Make="Nikon", Model="Z 8")
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": content}, jpg_available=0, keep_raw=1)
    job = studio.run("upload_postprocess", scope="photo_set", items=items_of(photo_id))
    assert job.status == "completed", job.error_message
    photo = studio.get_photo(photo_id)
    assert photo.date_time_original == "2024-05-06T07:08:09"
    assert photo.meta_json == {
        "make": "Nikon",
        "model": "Z 8",
        "width": 60,
        "height": 40,
        "size_bytes": len(content),
    }
    assert (photo.jpg_available, photo.keep_jpg, photo.keep_raw) == (1, 1, 0)
    assert _statuses(studio, photo_id) == ("generated", "generated")
    before = studio.everything()
    studio.run("upload_postprocess", scope="photo_set", items=items_of(photo_id))
    assert studio.everything() == before


def test_postprocessing_keeps_pending_deletions_and_keeps_what_has_come(studio, picture):
    iceland = studio.project("Iceland")
    doomed = picture(iceland, "fox")
    joined = picture(iceland, "owl")
    PhotosRepository(studio.database).update_many([{"id": doomed, "keep_jpg": 0, "keep_raw": 0}])
    PhotosRepository(studio.database).update_many([{"id": joined, "keep_raw": 0}])
    (studio.folder(iceland).path / "owl.NEF").write_bytes(b"came later")
    studio.run("upload_postprocess", scope="photo_set", items=items_of(doomed, joined))
    assert studio.get_photo(doomed).keep_jpg == 0
    photo = studio.get_photo(joined)
    assert (photo.raw_available, photo.keep_raw, photo.keep_jpg) == (1, 1, 1)


@pytest.mark.parametrize("step", ["manifest_check", "upload_postprocess"])
def test_a_file_that_comes_back_keeps_the_mark_of_the_user(studio, picture, step):
    iceland = studio.project("Iceland")
    photo_id, _ = picture(iceland, "fox"), picture(iceland, "owl")
    file = studio.folder(iceland).path / "fox.jpg"
    studio.run("upload_postprocess", scope="photo_set", items=items_of(photo_id))
    PhotosRepository(studio.database).update_many([{"id": photo_id, "keep_jpg": 0}])
    away = file.rename(studio.root.parent / "away.jpg")
    studio.run("manifest_check", project_id=iceland.id)
    assert studio.get_photo(photo_id).jpg_available == 0
    away.rename(file)
    items = {"scope": "photo_set", "items": items_of(photo_id)} if step == "upload_postprocess" else {}
    studio.run(step, **(items or {"project_id": iceland.id}))
    photo = studio.get_photo(photo_id)
    assert (photo.jpg_available, photo.keep_jpg) == (1, 0)


def test_validation_finds_what_is_missing_empty_or_outdated_and_asks_for_it(studio, picture):
    iceland = studio.project("Iceland")
    names = ("fine", "missing", "empty", "outdated", "copied", "new")
    ids = {name: picture(iceland, name) for name in names}
    _generate(studio, *(ids[name] for name in names if name != "new"))
    thumbnails = {name: _paths(studio, iceland, name)[0] for name in names}
    thumbnails["missing"].unlink()
    thumbnails["empty"].unlink()
    thumbnails["empty"].write_bytes(b"")
    for name in ("outdated", "copied"):
        original = studio.folder(iceland).path / f"{name}.jpg"
        if name == "outdated":
            original.write_bytes(original.read_bytes() + b" ")
        for path in _paths(studio, iceland, name):
            _backdate(path, seconds=7200)
    failed = studio.photo(iceland, "failed", "jpg", thumbnail_status="failed", preview_status="failed")
    rowless = studio.photo(iceland, "fileless")
    job = studio.run("derivative_validation", project_id=iceland.id)
    assert job.status == "completed", job.error_message
    assert {name: _statuses(studio, photo_id) for name, photo_id in ids.items()} == {
        "fine": ("generated", "generated"),
        "missing": ("missing", "generated"),
        "empty": ("missing", "generated"),
        "outdated": ("missing", "missing"),
        # The thumbnail is older than the original, but it is known to be made from these contents.
        "copied": ("generated", "generated"),
        "new": (None, None),
    }
    follow_up, reading = JobsRepository(studio.database).list_by_tenant("tenant", status="queued")
    assert (follow_up.type, follow_up.priority) == ("generate_derivatives", 85)
    asked = {item.photo_id for item in JobsRepository(studio.database).list_items(follow_up.id)}
    # A failed photo is tried again if it is not known which contents failed.
    assert asked == {ids[name] for name in ("missing", "empty", "outdated", "new")} | {failed}
    assert rowless not in asked
    assert job.result["counts"]["photos with derivatives requested"] == 5
    assert reading.type == "metadata"
    assert [item.photo_id for item in JobsRepository(studio.database).list_items(reading.id)] == [ids["outdated"]]
    assert run_queued_job(studio.runtime, follow_up.id).status == "failed"
    assert run_queued_job(studio.runtime, reading.id).status == "completed"
    assert _statuses(studio, failed) == ("failed", "failed")
    before = studio.everything()
    again = studio.run("derivative_validation", project_id=iceland.id)
    assert _reported(again) == {}
    assert studio.everything() == before


@pytest.mark.parametrize("way", ["swapped", "restored with its old size and time", "edited with its old time"])
def test_what_was_made_follows_its_original_whatever_its_time_says(studio, jpeg, way):
    iceland = studio.project("Iceland")
    ids = [
        studio.photo(iceland, "fox", "jpg", contents={"jpg": jpeg(60, 40, Make="Nikon")}),
        studio.photo(iceland, "owl", "jpg", contents={"jpg": jpeg(30, 50, Orientation=6)}),
    ]
    studio.run("upload_postprocess", project_id=iceland.id, items=[{"photo_id": photo_id} for photo_id in ids])
    folder = studio.folder(iceland).path
    fox, owl = folder / "fox.jpg", folder / "owl.jpg"
    old = fox.stat()
    if way == "swapped":
        fox.rename(folder / "x")
        owl.rename(fox)
        (folder / "x").rename(owl)
        expected = (50, 30)
    else:
        longer = 0 if "size" in way else 5
        content = jpeg(20, 25)
        fox.write_bytes(content + b" " * (old.st_size - len(content) + longer))
        os.utime(fox, ns=(old.st_mtime_ns, old.st_mtime_ns))
        expected = (20, 25)
    job = studio.run("derivative_validation", project_id=iceland.id)
    assert job.status == "completed", job.error_message
    for follow_up in JobsRepository(studio.database).list_by_tenant("tenant", status="queued"):
        assert run_queued_job(studio.runtime, follow_up.id).status == "completed"
    assert [_size(path) for path in _paths(studio, iceland, "fox")] == [expected, expected]
    photo = studio.get_photo(ids[0])
    # The file contains the picture turned by 90 degrees.
    stored = (30, 50) if way == "swapped" else expected
    assert (photo.meta_json["width"], photo.meta_json["height"]) == stored
    assert "make" not in photo.meta_json
    assert (photo.orientation or 1) == (6 if way == "swapped" else 1)
    assert _reported(studio.run("derivative_validation", project_id=iceland.id)) == {}


@pytest.mark.parametrize("shown", ["fox", "FOX", "Fox"])
def test_a_file_whose_name_differs_in_spelling_from_its_photo_is_an_original_of_the_photo(studio, jpeg, shown):
    iceland = studio.project("Iceland")
    studio.photo(iceland, "a", "jpg", contents={"jpg": jpeg()})
    photo_id = studio.photo(iceland, "FOX", "tif", contents={"tif": jpeg(30, 50)}, jpg_available=1)
    path = studio.folder(iceland).path / f"{shown}.jpg"
    path.write_bytes(jpeg(60, 40))
    (studio.folder(iceland).path / "Fo\u0308x.jpg").write_bytes(jpeg(11, 12))
    assert studio.run("upload_postprocess", project_id=iceland.id).status == "completed"
    assert studio.run("derivative_validation", project_id=iceland.id).result == {}
    path.write_bytes(jpeg(20, 25))
    for names in ("photos with derivatives requested", "metadata to be read again"):
        job = studio.run("derivative_validation", project_id=iceland.id)
        assert job.result["counts"][names] == 1
    for follow_up in JobsRepository(studio.database).list_by_tenant("tenant", status="queued"):
        assert run_queued_job(studio.runtime, follow_up.id).status == "completed"
    assert [_size(made) for made in _paths(studio, iceland, "FOX")] == [(20, 25), (20, 25)]
    assert studio.get_photo(photo_id).meta_json["width"] == 20
    assert studio.run("derivative_validation", project_id=iceland.id).result == {}


def test_what_could_not_be_read_while_it_was_copied_is_made_by_a_later_run(studio, jpeg):
    iceland = studio.project("Iceland")
    studio.runtime.settings = studio.runtime.settings.model_copy(update={"settle_seconds": 3600})
    whole = jpeg(60, 40)
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": whole[:100]}, thumbnail_status="pending")
    job = studio.run("upload_postprocess", project_id=iceland.id, items=[{"photo_id": photo_id}])
    assert job.status == "completed", job.error_message
    message = JobsRepository(studio.database).list_items(job.id)[0].message
    assert message.startswith("fox.jpg: ")
    assert message.endswith(". The file may still be incomplete, so a later run tries again.")
    (studio.folder(iceland).path / "fox.jpg").write_bytes(whole)
    studio.run("derivative_validation", project_id=iceland.id)
    for follow_up in JobsRepository(studio.database).list_by_tenant("tenant", status="queued"):
        assert run_queued_job(studio.runtime, follow_up.id).status == "completed"
    assert _statuses(studio, photo_id) == ("generated", "generated")
    assert studio.get_photo(photo_id).meta_json["width"] == 60


def test_what_failed_is_tried_again_once_its_file_differs_and_not_before(studio, jpeg):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": b"no picture"})
    job = studio.run("upload_postprocess", project_id=iceland.id, items=[{"photo_id": photo_id}])
    assert (job.status, _statuses(studio, photo_id)) == ("failed", ("failed", "failed"))
    assert _reported(studio.run("derivative_validation", project_id=iceland.id)) == {}
    (studio.folder(iceland).path / "fox.jpg").write_bytes(jpeg())
    assert (
        studio.run("derivative_validation", project_id=iceland.id).result["counts"]["photos with derivatives requested"]
        == 1
    )


def test_validation_asks_once_within_a_task_however_often_it_is_repeated(studio, picture, make_task):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox")
    task = make_task({"type": "derivative_validation", "unit": "projects"}, project_id=iceland.id)
    jobs = JobsRepository(studio.database)
    [job] = jobs.list_by_project(iceland.id)
    run_queued_job(studio.runtime, job.id)
    jobs.requeue(job.id)
    run_queued_job(studio.runtime, job.id)
    statement = select(job_items.c.photo_id).where(job_items.c.job_id != job.id)
    with studio.database.connect() as connection:
        assert connection.execute(statement).scalars().all() == [photo_id]
    assert task.id is not None


def test_validation_marks_nothing_where_a_folder_or_the_library_is_missing(studio, picture):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    _generate(studio, picture(iceland, "fox"), picture(norway, "owl"))
    studio.folder(iceland).path.rename(studio.root.parent / "away")
    before = studio.everything()
    job = studio.run("derivative_validation", scope="global")
    assert job.result["counts"] == {"skipped": 1}
    assert studio.everything() == before
    studio.root.rename(studio.root.parent / "unmounted")
    studio.root.mkdir()
    assert studio.run("derivative_validation", scope="global").status == "queued"


def test_validation_leaves_archived_and_foreign_projects_alone(studio, picture):
    old, theirs = studio.project("Old"), studio.project("Theirs", tenant_id="other")
    for project in (old, theirs):
        _generate(studio, picture(project, f"fox of {project.project_name}"), tenant_id=project.tenant_id)
        PhotosRepository(studio.database).update_many(
            [
                {"id": photo.id, "thumbnail_status": "generated"}
                for photo in PhotosRepository(studio.database).list_by_project(project.id)
            ]
        )
    ProjectsRepository(studio.database).archive(old.id)
    before = studio.everything()
    studio.run("derivative_validation", scope="global")
    assert studio.everything() == before


def test_every_original_of_a_photo_is_hashed_and_read_once_for_it(studio, jpeg, monkeypatch):
    iceland = studio.project("Iceland")
    contents = {"jpg": jpeg(), "nef": b"a raw file", "tif": b"a scan"}
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": contents["jpg"]})
    for extension in ("nef", "tif"):
        (studio.folder(iceland).path / f"fox.{extension}").write_bytes(contents[extension])
    read: list[str] = []
    blocks = fingerprint.blocks
    monkeypatch.setattr(fingerprint, "blocks", lambda file: read.append(file.name) or blocks(file))
    for _ in range(2):
        _generate(studio, photo_id)
        known = OriginalsRepository(studio.database).get_many([photo_id])[photo_id]
        assert {name: original.content_hash for name, original in known.items()} == {
            f"fox.{extension}": f"blake3:{blake3(data).hexdigest()}" for extension, data in contents.items()
        }
    assert len(read) == len(contents)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "fox.nef: the file is empty"), (b"lost", "fox.nef: Input/output error")]
)
def test_a_file_beside_the_shown_one_that_cannot_be_read_is_named_and_costs_nothing_else(
    studio, jpeg, monkeypatch, content, reason
):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": jpeg()})
    (studio.folder(iceland).path / "fox.nef").write_bytes(content)
    blocks = fingerprint.blocks

    def failing(file):
        if os.fstat(file.fileno()).st_size == len(b"lost"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return blocks(file)

    monkeypatch.setattr(fingerprint, "blocks", failing)
    job = _generate(studio, photo_id)
    assert job.status == "completed"
    assert _statuses(studio, photo_id) == ("generated", "generated")
    assert job.result["counts"]["originals not hashed"] == 1
    assert reason in str(job.result["examples"])


def test_what_was_hashed_by_an_earlier_version_still_shows_its_original(studio, picture, clock):
    iceland = studio.project("Iceland")
    photo_id = picture(iceland, "fox")
    _generate(studio, photo_id)
    path = studio.folder(iceland).path / "fox.jpg"
    old = "blake2b-128:" + hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    with studio.database.begin() as connection:
        connection.execute(update(photo_originals).values(content_hash=old))
        connection.execute(update(photo_derivatives).values(source_hash=old))
    _backdate(path, seconds=7200)
    assert studio.run("derivative_validation", project_id=iceland.id).result.get("counts", {}) == {}
    assert _generate(studio, photo_id).result["counts"] == {"unchanged": 1}
    path.write_bytes(path.read_bytes() + b"edited")
    assert _generate(studio, photo_id).result["counts"] == {"thumbnails made": 1, "previews made": 1}
