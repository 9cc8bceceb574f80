"""The steps that delete projects stop other jobs of these projects, and change only archived projects."""

from __future__ import annotations

import shutil
from unittest.mock import Mock

import pytest
from sqlalchemy import select

from flows.testing import run_queued_job
from storage import JobsRepository, PhotosRepository, ProjectsRepository, TasksRepository
from storage.database.tables import photos, projects, tags
from storage.errors import UnknownProject
from storage.history.journal import FileAction, FileChange, write_journal
from storage.library import removal
from storage.library.manifest import Manifest, write_manifest
from storage.queue.claims import Claimant, claim_by_id
from storage.queue.project_claims import claim_projects

_STEPS = ("project_stop_processes", "project_delete_files", "project_cleanup_db")


def _claim(studio, job):
    with studio.database.begin() as connection:
        return claim_by_id(connection, Claimant(worker_id="elsewhere", now=studio.database.clock()), job.id)


@pytest.fixture
def deletion(studio, make_task):
    """Start a deletion task, and return a function that runs its current step."""

    def start(project):
        task = make_task(*({"type": name, "unit": "projects"} for name in _STEPS), project_id=project.id)

        def run_step():
            tasks = TasksRepository(studio.database)
            [job] = tasks.unfinished_jobs(tasks.get(task.id), limit=10)
            return run_queued_job(studio.runtime, job.id)

        return task, run_step

    return start


def test_a_deletion_leaves_nothing_of_the_project_and_everything_of_the_others(studio, deletion):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    studio.photo(iceland, "fox", "jpg", derivatives=True, tagged=("animal",))
    kept = studio.photo(norway, "elk", "jpg", tagged=("animal",))
    task, run_step = deletion(iceland)
    jobs = [run_step() for _ in _STEPS]
    assert [job.status for job in jobs] == ["completed"] * 3
    assert set(studio.disk()) == {"tenant/Norway/elk.jpg"}
    assert not studio.folder(iceland).path.exists()
    assert ProjectsRepository(studio.database).get_by_id(iceland.id) is None
    assert studio.get_photo(kept) is not None
    with studio.database.connect() as connection:
        assert connection.execute(select(photos.c.id)).scalars().all() == [kept]
        assert connection.execute(select(tags.c.project_id)).scalars().all() == [norway.id]
    assert [(action, source) for action, source, _ in studio.journal()] == [
        ("changed_row", "tenant/Iceland"),
        ("removed", "tenant/Iceland"),
        ("removed_row", "tenant/Iceland"),
    ]
    ended = TasksRepository(studio.database).get(task.id)
    assert (ended.status, ended.project_id) == ("completed", None)


def test_stopping_cancels_what_waits_and_runs_for_the_project_but_not_its_own_task(studio, deletion):
    iceland, norway = studio.project("Iceland"), studio.project("Norway")
    jobs = JobsRepository(studio.database)
    queued = jobs.enqueue(tenant_id="tenant", type="manifest_check", project_id=iceland.id)
    running = _claim(studio, jobs.enqueue(tenant_id="tenant", type="folder_check", project_id=iceland.id))
    other = jobs.enqueue(tenant_id="tenant", type="manifest_check", project_id=norway.id)
    task, run_step = deletion(iceland)
    job = run_step()
    assert job.status == "completed"
    assert jobs.get_by_id(queued.id).status == "canceled"
    assert jobs.get_by_id(running.id).status == "canceled"
    assert jobs.get_by_id(other.id).status == "queued"
    assert TasksRepository(studio.database).get(task.id).status == "running"
    assert ProjectsRepository(studio.database).get_by_id(iceland.id).is_archived
    assert job.result["counts"] == {"archived": 1, "canceled": 2}


def test_stopping_does_not_wait_for_a_job_that_holds_the_project_to_end_by_itself(studio):
    iceland = studio.project("Iceland")
    jobs = JobsRepository(studio.database)
    holding = _claim(studio, jobs.enqueue(tenant_id="tenant", type="folder_check", project_id=iceland.id))
    assert claim_projects(studio.database, [iceland.id], job_id=holding.id, claim_token=holding.claim_token)
    assert studio.run("project_stop_processes", project_id=iceland.id).status == "completed"
    assert jobs.get_by_id(holding.id).status == "canceled"


def test_stopping_twice_changes_nothing_more(studio, clock):
    iceland = studio.project("Iceland")
    assert studio.run("project_stop_processes", project_id=iceland.id).status == "completed"
    before = studio.everything()
    clock.advance(seconds=60)
    late = JobsRepository(studio.database).enqueue(tenant_id="tenant", type="folder_check", project_id=iceland.id)
    assert studio.run("project_stop_processes", project_id=iceland.id).status == "completed"
    assert studio.everything() == before
    assert JobsRepository(studio.database).get_by_id(late.id).status == "canceled"


@pytest.mark.parametrize("scope", ["global", "photo_set"])
@pytest.mark.parametrize("type", _STEPS)
def test_a_job_that_names_no_project_deletes_nothing(studio, type, scope):
    studio.photo(studio.project("Iceland"), "fox", "jpg")
    owl = studio.photo(studio.project("Norway", archived=True), "owl", "jpg")
    before = studio.everything()
    job = studio.run(type, scope=scope, items=[{"photo_id": owl}] if scope == "photo_set" else None)
    assert job.status == "failed"
    assert "names no project" in job.error_message
    assert studio.everything() == before


@pytest.mark.parametrize("type", ["project_delete_files", "project_cleanup_db"])
def test_an_active_project_is_never_deleted(studio, type):
    iceland = studio.project("Iceland")
    studio.photo(iceland, "fox", "jpg")
    before = studio.everything()
    job = studio.run(type, project_id=iceland.id)
    assert job.status == "failed"
    assert "is active" in job.error_message
    assert studio.everything() == before


@pytest.mark.parametrize("type", [*_STEPS[1:], "project_scavenge"])
def test_archived_projects_of_other_tenants_are_never_deleted(studio, type):
    theirs = studio.project("Theirs", archived=True)
    studio.photo(theirs, "fox", "jpg")
    queued = JobsRepository(studio.database).enqueue(tenant_id="tenant", type=type, project_id=theirs.id)
    studio.give_away(theirs, "other")
    before = studio.everything()
    assert run_queued_job(studio.runtime, queued.id).status == "completed"
    if type == "project_scavenge":
        assert studio.run(type, scope="global").status == "completed"
    with pytest.raises(UnknownProject):
        studio.run(type, project_id=theirs.id)
    assert studio.everything() == before


def test_each_step_twice_changes_nothing_more(studio, clock):
    iceland = studio.project("Iceland", archived=True)
    studio.photo(iceland, "fox", "jpg")
    jobs = JobsRepository(studio.database)
    for step in (*_STEPS[1:], "project_scavenge"):
        target = {"scope": "global"} if step == "project_scavenge" else {"project_id": iceland.id}
        once, twice = (jobs.enqueue(tenant_id="tenant", type=step, **target) for _ in range(2))
        assert run_queued_job(studio.runtime, once.id).status == "completed"
        before = studio.everything()
        clock.advance(seconds=60)
        assert run_queued_job(studio.runtime, twice.id).status == "completed"
        assert studio.everything() == before


def test_files_are_not_taken_for_deleted_while_the_library_is_not_mounted(studio):
    iceland = studio.project("Iceland", archived=True)
    studio.photo(iceland, "fox", "jpg")
    away = studio.root.parent / "unmounted"
    studio.root.rename(away)
    studio.root.mkdir()
    for step in ("project_delete_files", "project_scavenge"):
        job = studio.run(step, project_id=iceland.id)
        assert job.status == "queued"
        assert "missing or empty" in job.error_message
    assert (away / "tenant" / "Iceland" / "fox.jpg").exists()


def test_scavenging_removes_the_folders_of_archived_projects_alone(studio):
    archived, active = studio.project("Old", archived=True), studio.project("New")
    for project in (archived, active):
        studio.photo(project, "fox", "jpg")
    (studio.root / "tenant" / "Unknown").mkdir()
    (studio.root / "tenant" / "Unknown" / "owl.jpg").write_bytes(b"owl")
    job = studio.run("project_scavenge", scope="global")
    assert job.status == "completed"
    assert set(studio.disk()) == {"tenant/New/fox.jpg", "tenant/Unknown/owl.jpg"}
    assert job.result["examples"]["folders removed"] == ["tenant/Old"]


def test_scavenging_leaves_a_folder_that_belongs_to_another_project_by_its_manifest(studio, clock):
    archived = studio.project("Old", archived=True)
    studio.photo(archived, "fox", "jpg")
    manifest = Manifest(name="Old", id=archived.id + 7, created_at="2025-01-01T00:00:00.000Z")
    write_manifest(studio.folder(archived), manifest, at=clock())
    job = studio.run("project_scavenge", scope="global")
    assert "tenant/Old/fox.jpg" in studio.disk()
    assert job.result["counts"] == {"kept": 1}


def test_scavenging_leaves_a_folder_that_was_away_when_its_project_was_archived(studio, clock):
    project = studio.project("Old")
    studio.photo(project, "fox", "jpg")
    with studio.database.begin() as connection:
        archived = ProjectsRepository(connection).archive(project.id)
        change = FileChange(action=FileAction.ARCHIVED_AS_GONE, source="tenant/Old", project_id=project.id)
        write_journal(connection, [change], tenant_id="tenant", task_id=None, job_id=None, now=clock())
    assert archived is not None
    assert studio.run("project_scavenge", scope="global").result["counts"] == {"kept": 1}
    assert "tenant/Old/fox.jpg" in studio.disk()
    # A user makes the project active again, and then deletes it permanently.
    clock.advance(seconds=3600)
    ProjectsRepository(studio.database).restore(project.id)
    ProjectsRepository(studio.database).archive(project.id)
    studio.run("project_scavenge", scope="global")
    assert studio.disk() == {}


@pytest.mark.parametrize("name", ["owl", "fox"])
@pytest.mark.parametrize("removed_by", ["a user", "photojobs"])
def test_scavenging_leaves_a_new_folder_with_the_name_of_an_archived_project(studio, clock, removed_by, name):
    project = studio.project("Old")
    studio.photo(project, "fox", "jpg")
    studio.run("verify_originals", scope="global")
    ProjectsRepository(studio.database).archive(project.id)
    clock.advance(seconds=60)
    if removed_by == "photojobs":
        studio.run("project_scavenge", scope="global")
        assert studio.disk() == {}
    else:
        shutil.rmtree(studio.folder(project).path)
    studio.folder(project).path.mkdir()
    (studio.folder(project).path / f"{name}.jpg").write_bytes(b"a new photo")
    clock.advance(seconds=7 * 86_400)

    job = studio.run("project_scavenge", scope="global")

    assert studio.disk() == {f"tenant/Old/{name}.jpg": b"a new photo"}
    assert "another folder of this name" in job.result["examples"]["kept"][0]
    # A user deletes the old project, so that the new folder can become a project.
    studio.run("project_delete_files", project_id=project.id)
    studio.run("project_cleanup_db", project_id=project.id)
    studio.run("folder_discovery", scope="global")
    assert studio.disk()[f"tenant/Old/{name}.jpg"] == b"a new photo"
    assert [one.project_name for one in ProjectsRepository(studio.database).list()] == ["Old"]


@pytest.mark.parametrize("type", ["project_delete_files", "project_scavenge"])
def test_a_deletion_that_failed_half_way_does_not_remove_a_folder_that_a_user_has_created_since(
    studio, monkeypatch, type
):
    project = studio.project("Old")
    studio.photo(project, "fox", "jpg")
    studio.run("verify_originals", scope="global")
    ProjectsRepository(studio.database).archive(project.id)
    with monkeypatch.context() as patch:
        patch.setattr(removal, "remove_tree", Mock(side_effect=OSError(5, "Input/output error")))
        job = studio.run(type, project_id=project.id)
    assert job.status == "queued"
    studio.folder(project).path.mkdir()
    (studio.folder(project).path / "owl.jpg").write_bytes(b"a new photo")

    assert run_queued_job(studio.runtime, job.id).status == "completed"

    assert studio.disk() == {"tenant/Old/owl.jpg": b"a new photo"}
    assert [path.name for path in (studio.root / "tenant").iterdir()] == ["Old"]


def test_one_project_that_cannot_be_removed_does_not_stop_the_others(studio):
    first, second = studio.project("A", archived=True), studio.project("B", archived=True)
    for project in (first, second):
        studio.photo(project, "fox", "jpg")
    outside = studio.root.parent / "outside"
    studio.folder(first).path.rename(outside)
    (studio.root / "tenant" / "A").symlink_to(outside)
    job = studio.run("project_scavenge", scope="global")
    assert "1 of 2 projects failed" in job.error_message
    assert (outside / "fox.jpg").exists()
    assert not (studio.root / "tenant" / "B").exists()


@pytest.mark.slow_on("postgresql")
def test_a_death_at_any_point_of_the_removal_is_repaired_by_the_next_run(studio, deaths):
    def prepare(studio):
        iceland = studio.project("Iceland", archived=True)
        studio.photo(iceland, "fox", "jpg", "NEF", derivatives=True)
        return studio.enqueue("project_delete_files", project_id=iceland.id)

    deaths.check(prepare)


def test_the_rows_of_a_project_go_in_one_transaction(studio, monkeypatch):
    iceland = studio.project("Iceland", archived=True)
    studio.photo(iceland, "fox", "jpg", tagged=("animal",))
    before = studio.everything()
    remove = ProjectsRepository.remove

    def removed_and_failed(self, id):
        remove(self, id)
        raise OSError("the database went away")

    monkeypatch.setattr(ProjectsRepository, "remove", removed_and_failed)
    assert studio.run("project_cleanup_db", project_id=iceland.id).status == "queued"
    assert studio.everything() == before
    assert len(PhotosRepository(studio.database).list_by_project(iceland.id)) == 1
    with studio.database.connect() as connection:
        assert connection.execute(select(projects.c.id)).scalars().all() == [iceland.id]
