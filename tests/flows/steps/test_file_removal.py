"""The step file_removal moves unwanted files to the trash, writes the journal, and changes nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from flows.steps.moving import file_removal
from flows.steps.targets import photo_files
from flows.steps.targets.photo_files import FileLeftAlone, PhotoFiles
from flows.testing import run_queued_job
from storage import JobsRepository, ProjectsRepository
from storage.database.tables import file_journal, photos
from storage.errors import UnknownPhoto
from storage.library.naming.kinds import FileKind
from storage.library.scan import ScannedFile
from tests.flows.conftest import items_of


def test_only_the_files_that_are_not_to_be_kept_go_to_the_trash(studio):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", "xmp", keep_raw=0, derivatives=True)
    job = studio.run("file_removal", scope="photo_set", items=items_of(photo_id))
    assert job.status == "completed"
    disk = studio.disk()
    assert disk["tenant/Iceland/.trash/fox.NEF"] == b"Iceland/fox.NEF"
    assert {"tenant/Iceland/fox.jpg", "tenant/Iceland/fox.xmp", "tenant/Iceland/.thumb/fox.webp"} < set(disk)
    photo = studio.get_photo(photo_id)
    assert (photo.jpg_available, photo.raw_available, photo.thumbnail_status) == (1, 0, "generated")
    assert job.result["counts"] == {"trashed": 1}


def test_a_photo_of_which_nothing_is_kept_goes_with_its_sidecars_derivatives_and_row(studio):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(
        iceland, "fox", "jpg", "NEF", "xmp", "jpg.xmp", keep_jpg=0, keep_raw=0, derivatives=True, tagged=("animal",)
    )
    studio.run("file_removal", scope="photo_set", items=items_of(photo_id))
    assert set(studio.disk()) == {f"tenant/Iceland/.trash/fox.{end}" for end in ("jpg", "NEF", "xmp", "jpg.xmp")}
    assert studio.get_photo(photo_id) is None
    with studio.database.connect() as connection:
        entries = connection.execute(select(file_journal)).mappings().all()
    assert [entry["action"] for entry in entries] == ["trashed"] * 4 + ["removed_row"]
    for entry in entries:
        assert entry["row_json"]["filename"] == "fox"
        assert entry["row_json"]["tags"] == ["animal"]
        assert entry["job_id"] is not None


def test_a_file_that_a_second_row_of_the_same_name_keeps_stays(studio):
    iceland = studio.project("Iceland")
    files = ("jpg", "NEF", "xmp")
    kept = studio.photo(iceland, "fox", *files, keep_raw=0, derivatives=True, tagged=("animal",))
    unwanted = studio.photo(iceland, "fox", *files, keep_jpg=0, keep_raw=0, derivatives=True)
    undecided = studio.photo(iceland, "fox", *files, keep_jpg=0, derivatives=True)

    job = studio.run("file_removal", scope="photo_set", items=items_of(kept, unwanted, undecided))

    # The first row keeps the JPEG, and the third one the RAW file, so both files stay.
    assert f"2 of 3 photos failed; the first: fox: photo {undecided} has the same files and keeps" in job.error_message
    names = ("fox.jpg", "fox.NEF", "fox.xmp", ".thumb/fox.webp", ".preview/fox.webp")
    left = {f"tenant/Iceland/{name}" for name in names}
    assert set(studio.disk()) == left
    assert [studio.get_photo(one) is not None for one in (kept, unwanted, undecided)] == [True, False, True]

    with studio.database.begin() as connection:
        connection.execute(photos.update().where(photos.c.id == undecided).values(keep_jpg=1, keep_raw=0))
    studio.run("file_removal", scope="photo_set", items=items_of(kept, undecided))
    assert set(studio.disk()) == left - {"tenant/Iceland/fox.NEF"} | {"tenant/Iceland/.trash/fox.NEF"}


def test_a_removed_jpeg_takes_its_derivatives_along_while_the_raw_stays(studio):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", keep_jpg=0, derivatives=True)
    studio.run("file_removal", scope="photo_set", items=items_of(photo_id))
    assert set(studio.disk()) == {"tenant/Iceland/.trash/fox.jpg", "tenant/Iceland/fox.NEF"}
    photo = studio.get_photo(photo_id)
    assert (photo.jpg_available, photo.thumbnail_status, photo.preview_status) == (0, "missing", "missing")


def test_a_photo_whose_derivatives_cannot_be_removed_still_has_its_file_in_the_journal(studio, monkeypatch):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", keep_jpg=0, derivatives=True)

    def failing(path):
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(photo_files, "remove_derivative", failing)
        job = studio.run("file_removal", scope="photo_set", items=items_of(photo_id))
    assert job.status == "queued"
    JobsRepository(studio.database).requeue(job.id)
    assert run_queued_job(studio.runtime, job.id).status == "completed"
    assert set(studio.disk()) == {"tenant/Iceland/.trash/fox.jpg", "tenant/Iceland/fox.NEF"}
    assert studio.journal() == [("trashed", "tenant/Iceland/fox.jpg", "tenant/Iceland/.trash/fox.jpg")]


def test_a_file_that_came_after_the_decision_is_not_removed(studio):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", keep_raw=0)
    (studio.folder(iceland).path / "fox.NEF").write_bytes(b"new")
    studio.run("file_removal", scope="photo_set", items=items_of(photo_id))
    assert "tenant/Iceland/fox.NEF" in studio.disk()


def test_a_keep_flag_that_is_not_0_keeps_the_file(studio):
    # SQLite stores a text in a column of numbers if another program writes one.
    flag = 2 if studio.database.is_postgresql else ""
    photo_id = studio.photo(studio.project("Iceland"), "fox", "jpg", "NEF", keep_jpg=flag)
    assert studio.run("file_removal", scope="photo_set", items=items_of(photo_id)).result["counts"] == {"unchanged": 1}
    assert {"tenant/Iceland/fox.jpg", "tenant/Iceland/fox.NEF"} <= set(studio.disk())


def test_other_files_have_no_flag_and_stay(studio):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", "png", keep_jpg=0, keep_raw=0)
    studio.run("file_removal", scope="photo_set", items=items_of(photo_id))
    assert "tenant/Iceland/fox.png" in studio.disk()
    assert studio.get_photo(photo_id).other_available == 1


@pytest.mark.parametrize("scope", ["project", "global"])
def test_without_items_the_pending_deletions_of_the_projects_are_removed(studio, scope):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    studio.photo(iceland, "fox", "jpg", keep_jpg=0)
    studio.photo(norway, "elk", "jpg", keep_jpg=0)
    studio.photo(norway, "lynx", "jpg")
    job = studio.run("file_removal", scope=scope, project_id=iceland.id if scope == "project" else None)
    assert job.status == "completed", job.error_message
    gone = {"tenant/Iceland/fox.jpg"} | ({"tenant/Norway/elk.jpg"} if scope == "global" else set())
    everything = {"tenant/Iceland/fox.jpg", "tenant/Norway/elk.jpg", "tenant/Norway/lynx.jpg"}
    assert everything - set(studio.disk()) == gone


def test_a_task_whose_photos_are_all_gone_does_not_remove_other_pending_deletions(studio, make_task):
    from flows.testing import run_queued_job

    iceland = studio.project("Iceland")
    studio.photo(iceland, "fox", "jpg", keep_jpg=0)
    step = {"type": "file_removal", "unit": "items"}
    task = make_task(step, photo_ids=[], project_id=iceland.id)
    [job_id] = [job.id for job in JobsRepository(studio.database).list_by_tenant("tenant") if job.task_id == task.id]
    assert run_queued_job(studio.runtime, job_id).status == "completed"
    assert "tenant/Iceland/fox.jpg" in studio.disk()


def test_running_it_twice_changes_nothing_more(studio, clock):
    iceland = studio.project("Iceland")
    ids = [
        studio.photo(iceland, "fox", "jpg", "NEF", keep_jpg=0, derivatives=True),
        studio.photo(iceland, "owl", "jpg", keep_jpg=0),
        studio.photo(iceland, "elk", "jpg", "NEF"),
    ]
    studio.run("file_removal", scope="photo_set", items=items_of(*ids))
    before = studio.everything()
    clock.advance(seconds=60)
    second = studio.run("file_removal", scope="photo_set", items=items_of(ids[0], ids[2]))
    assert second.status == "completed"
    assert studio.everything() == before
    assert studio.run("file_removal", scope="project", project_id=iceland.id).status == "completed"
    assert studio.everything() == before


def test_nothing_is_concluded_from_a_missing_folder_or_library(studio):
    iceland = studio.project("Iceland")
    studio.project("Norway")
    photo_id = studio.photo(iceland, "fox", "jpg", keep_jpg=0)
    before = studio.get_photo(photo_id)
    away = studio.root.parent / "away"
    studio.folder(iceland).path.rename(away)
    job = studio.run("file_removal", scope="photo_set", items=items_of(photo_id))
    assert job.status == "queued"
    assert "does not exist" in job.error_message
    assert studio.get_photo(photo_id) == before
    studio.root.rename(studio.root.parent / "unmounted")
    studio.root.mkdir()
    job = studio.run("file_removal", scope="photo_set", items=items_of(photo_id))
    assert "missing or empty" in job.error_message
    assert studio.get_photo(photo_id) == before


@pytest.mark.parametrize("by", ["items", "project"])
def test_a_photo_of_a_project_whose_disk_is_away_keeps_its_row_with_its_tags(studio, by):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", "xmp", keep_jpg=0, tagged=("animal",), derivatives=True)
    before = studio.everything()
    folder, away = studio.folder(iceland).path, studio.root.parent / "away"
    # This is the empty mount point of a disk that is not mounted.
    folder.rename(away)
    folder.mkdir()
    arguments = {"items": items_of(photo_id)} if by == "items" else {"project_id": iceland.id}
    job = studio.run("file_removal", scope="photo_set" if by == "items" else "project", **arguments)
    assert (job.status, "is unavailable" in job.error_message) == ("failed", True)
    assert not list(folder.iterdir())
    folder.rmdir()
    away.rename(folder)
    assert studio.everything() == before
    assert studio.run("file_removal", project_id=iceland.id).result["counts"]["rows removed"] == 1


def test_the_row_of_a_photo_that_was_removed_by_hand_goes(studio):
    iceland = studio.project("Iceland")
    photo_id = studio.photo(iceland, "fox", "jpg", keep_jpg=0)
    studio.photo(iceland, "owl", "jpg")
    (studio.folder(iceland).path / "fox.jpg").unlink()
    assert studio.run("file_removal", project_id=iceland.id).result["counts"]["rows removed"] == 1
    assert studio.get_photo(photo_id) is None


def test_each_missing_file_counts_if_the_row_stays(studio):
    iceland = studio.project("Iceland")
    studio.photo(iceland, "fox", "jpg", "NEF", "tif", keep_jpg=0, keep_raw=0)
    for name in ("fox.jpg", "fox.NEF"):
        (studio.folder(iceland).path / name).unlink()
    counts = studio.run("file_removal", project_id=iceland.id).result["counts"]
    assert counts["files to remove already missing"] == 2


def test_the_last_rows_go_too_if_an_earlier_batch_has_emptied_the_folder(studio, monkeypatch):
    iceland = studio.project("Iceland")
    studio.photo(iceland, "fox", "jpg", keep_jpg=0)
    for name in ("owl", "ram"):
        studio.photo(iceland, name, "jpg", keep_jpg=0)
        (studio.folder(iceland).path / f"{name}.jpg").unlink()
    checks = []
    check = file_removal.check_project
    monkeypatch.setattr(file_removal, "check_project", lambda *given: (checks.append(given), check(*given)))
    monkeypatch.setattr(file_removal, "BATCH_SIZE", 1)
    job = studio.run("file_removal", project_id=iceland.id)
    assert (job.status, job.result["counts"]["rows removed"]) == ("completed", 3)
    assert len(checks) == 1


def test_a_photo_that_a_user_keeps_after_all_while_others_are_removed_stays(studio, monkeypatch):
    iceland = studio.project("Iceland")
    ids = [studio.photo(iceland, name, "jpg", keep_jpg=0) for name in ("fox", "owl", "ram")]
    monkeypatch.setattr(file_removal, "BATCH_SIZE", 1)
    remove = file_removal.trash_place

    def decide_again(*given, **options):
        with studio.database.begin() as connection:
            connection.execute(photos.update().where(photos.c.id == ids[1]).values(keep_jpg=1))
            connection.execute(photos.update().where(photos.c.id == ids[2]).values(filename="Ram"))
        monkeypatch.setattr(file_removal, "trash_place", remove)
        return remove(*given, **options)

    monkeypatch.setattr(file_removal, "trash_place", decide_again)
    job = studio.run("file_removal", scope="photo_set", items=items_of(*ids))

    assert set(studio.disk()) == {"tenant/Iceland/.trash/fox.jpg", "tenant/Iceland/owl.jpg", "tenant/Iceland/ram.jpg"}
    assert job.result["counts"] == {"trashed": 1, "rows removed": 1, "unchanged": 1, "skipped": 1}


def test_a_symlink_fails_its_own_photo_alone(studio):
    iceland = studio.project("Iceland")
    bad = studio.photo(iceland, "fox", "jpg", keep_jpg=0)
    good = studio.photo(iceland, "owl", "jpg", keep_jpg=0)
    path = studio.folder(iceland).path / "fox.jpg"
    secret = studio.root.parent / "secret.jpg"
    path.rename(secret)
    path.symlink_to(secret)
    job = studio.run("file_removal", scope="photo_set", items=items_of(bad, good))
    assert job.status == "failed"
    assert "1 of 2 photos failed" in job.error_message
    assert path.is_symlink()
    assert secret.exists()
    assert studio.get_photo(bad) is not None
    assert studio.get_photo(good) is None
    assert [item.status for item in JobsRepository(studio.database).list_items(job.id)] == ["failed", "done"]


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        ("symlink", "Replace it with a regular file"),
        ("unreadable", "Check its permissions and its disk"),
        ("name with control characters", "Rename it"),
    ],
)
def test_the_advice_about_a_file_that_stays_fits_its_problem(problem, advice):
    file = ScannedFile(
        name="fox.jpg",
        base_name="fox",
        extension="jpg",
        kind=FileKind.JPG,
        size_bytes=0,
        mtime_ns=0,
        problem=problem,
    )
    with pytest.raises(FileLeftAlone, match=f"fox.jpg: {problem}. {advice}"):
        PhotoFiles(untouchable=[file]).sources()


def test_photos_that_become_archived_or_foreign_while_their_job_waits_are_left_alone(studio):
    archived, foreign = studio.project("Old"), studio.project("Theirs")
    ids = [studio.photo(project, "fox", "jpg", keep_jpg=0) for project in (archived, foreign)]
    jobs = JobsRepository(studio.database)
    queued = jobs.enqueue_with_items(tenant_id="tenant", type="file_removal", scope="photo_set", items=items_of(*ids))
    ProjectsRepository(studio.database).archive(archived.id)
    studio.give_away(foreign, "other")
    before = studio.everything()
    run_queued_job(studio.runtime, queued.id)
    assert [item.status for item in jobs.list_items(queued.id)] == ["skipped", "failed"]
    assert studio.everything() == before


def test_a_job_for_a_photo_of_another_tenant_is_refused(studio):
    photo_id = studio.photo(studio.project("Theirs", tenant_id="other"), "fox", "jpg", keep_jpg=0)
    before = studio.everything()
    with pytest.raises(UnknownPhoto):
        studio.run("file_removal", scope="photo_set", items=items_of(photo_id))
    assert studio.everything() == before
    assert JobsRepository(studio.database).list_by_tenant("tenant") == []


@pytest.mark.slow_on("postgresql")
def test_a_death_at_any_point_is_repaired_by_the_next_run(studio, deaths):
    def prepare(studio):
        iceland = studio.project("Iceland")
        ids = [
            studio.photo(iceland, "fox", "jpg", "dng", "NEF", "xmp", keep_jpg=0, keep_raw=0, derivatives=True),
            studio.photo(iceland, "owl", "jpg", "NEF", keep_jpg=0, derivatives=True, tagged=("bird",)),
        ]
        return studio.enqueue("file_removal", *ids)

    deaths.check(prepare, more_than=8)


@pytest.mark.parametrize("other", ["JPG", "jpeg"])
def test_several_pictures_of_one_name_are_not_trashed_unseen(studio: Any, other: str) -> None:
    project = studio.project("Iceland")
    crowded = studio.photo(project, "IMG_7", "jpg", other, "NEF", keep_jpg=0)
    alone = studio.photo(project, "IMG_8", "jpg", "NEF", keep_jpg=0)
    job = studio.run("file_removal", scope="project", project_id=project.id)
    assert f"IMG_7.{other}" in job.error_message
    assert {"tenant/Iceland/IMG_7.jpg", f"tenant/Iceland/IMG_7.{other}"} < studio.disk().keys()
    assert studio.get_photo(crowded).jpg_available == 1
    assert studio.get_photo(alone).jpg_available == 0
    check = studio.run("folder_check", scope="project", project_id=project.id)
    assert check.result["examples"]["names of several pictures"] == ["IMG_7"]


def test_a_raw_file_and_its_conversion_are_one_picture(studio: Any) -> None:
    project = studio.project("Iceland")
    photo_id = studio.photo(project, "IMG_7", "jpg", "CR2", "dng", keep_raw=0)
    assert studio.run("file_removal", scope="project", project_id=project.id).status == "completed"
    assert studio.get_photo(photo_id).raw_available == 0
