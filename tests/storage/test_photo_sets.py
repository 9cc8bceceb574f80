"""The photos and projects of a job by its scope, and the allowed sizes of jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from storage import MAX_ITEMS_PER_JOB, Database, Job, JobsRepository, Project, ProjectsRepository
from storage.database.tables import projects
from storage.errors import InvalidValue, UnknownProject
from storage.library.errors import UnsafePath
from storage.photo_sets import (
    chunk_photo_ids,
    get_project_path,
    group_items_by_project,
    iterate_job_targets,
    resolve_job_targets,
    validate_payload_size,
)


def _ids(targets: Any) -> list[int]:
    return [target.photo.id for target in targets]


def _with_items(jobs: JobsRepository, items: list[dict[str, Any]], **more: Any) -> Job:
    job = jobs.enqueue_with_items(tenant_id="tenant", type="x", items=items, **more)
    assert isinstance(job, Job)
    return job


@pytest.fixture
def two_projects(make_project: Any, make_photos: Any) -> tuple[Project, list[int], Project, list[int]]:
    iceland, norway = make_project("iceland"), make_project("norway")
    return iceland, make_photos(iceland, 3), norway, make_photos(norway, 2)


def test_a_project_job_has_its_projects_photos_or_only_its_items(
    database: Database, jobs: JobsRepository, two_projects: Any
) -> None:
    iceland, of_iceland, _norway, of_norway = two_projects
    whole = jobs.enqueue(tenant_id="tenant", type="x", project_id=iceland.id)
    targets = resolve_job_targets(whole, database)
    assert _ids(targets) == of_iceland
    assert {target.project for target in targets} == {iceland}
    assert {target.item for target in targets} == {None}
    part = _with_items(
        jobs,
        [{"photo_id": of_iceland[2]}, {"photo_id": of_norway[0]}, {"photo_id": of_iceland[0]}],
        project_id=iceland.id,
    )
    targets = resolve_job_targets(part, database)
    assert _ids(targets) == [of_iceland[2], of_iceland[0]]
    assert [target.item for target in targets] == [jobs.list_items(part.id)[0], jobs.list_items(part.id)[2]]


def test_a_photo_set_has_the_photos_of_its_items_across_projects(
    database: Database, jobs: JobsRepository, two_projects: Any
) -> None:
    iceland, of_iceland, norway, of_norway = two_projects
    job = _with_items(jobs, [{"photo_id": of_norway[1]}, {"photo_id": of_iceland[0]}])
    targets = resolve_job_targets(job, database)
    assert [(target.photo.id, target.project) for target in targets] == [
        (of_norway[1], norway),
        (of_iceland[0], iceland),
    ]
    assert resolve_job_targets(jobs.enqueue(tenant_id="tenant", type="x"), database) == []


def test_a_global_job_has_the_photos_of_all_active_projects_of_its_tenant(
    database: Database, jobs: JobsRepository, two_projects: Any, make_project: Any, make_photos: Any
) -> None:
    _, of_iceland, _, of_norway = two_projects
    make_photos(make_project(tenant_id="other"), 2)
    make_photos(make_project(archived=True), 2)
    job = jobs.enqueue(tenant_id="tenant", type="x", scope="global")
    assert _ids(resolve_job_targets(job, database)) == of_iceland + of_norway
    assert _ids(iterate_job_targets(job, database, batch_size=2)) == of_iceland + of_norway


def test_archived_projects_lost_photos_and_other_tenants_are_left_out(
    database: Database, jobs: JobsRepository, two_projects: Any, make_project: Any, make_photos: Any
) -> None:
    iceland, of_iceland, norway, of_norway = two_projects
    given_away = make_project()
    (foreign,) = make_photos(given_away, 1)
    job = _with_items(jobs, [{"photo_id": photo_id} for photo_id in (*of_iceland, *of_norway, foreign)])
    archived = jobs.enqueue(tenant_id="tenant", type="x", project_id=norway.id)
    gone = jobs.enqueue(tenant_id="tenant", type="x", project_id=iceland.id)
    _give_away(database, given_away.id)
    ProjectsRepository(database).archive(norway.id)
    assert _ids(resolve_job_targets(job, database)) == of_iceland
    assert resolve_job_targets(archived, database) == []
    ProjectsRepository(database).remove(iceland.id)
    assert resolve_job_targets(job, database) == []
    removed = jobs.get_by_id(gone.id)
    assert removed is not None
    assert resolve_job_targets(removed, database) == []


def test_an_item_without_photo_id_is_found_by_its_name_in_the_jobs_project(
    database: Database, jobs: JobsRepository, two_projects: Any, make_photos: Any
) -> None:
    iceland, _, norway, _ = two_projects
    (same_name,) = make_photos(norway, 1, filename="sunset")
    (sunset,) = make_photos(iceland, 1, filename="sunset")
    job = _with_items(jobs, [{"filename": "sunset"}, {"filename": "nothing"}], project_id=iceland.id)
    assert _ids(resolve_job_targets(job, database)) == [sunset]
    across = _with_items(jobs, [{"filename": "sunset"}])
    assert resolve_job_targets(across, database) == []
    assert same_name != sunset


def test_projects_from_before_tenants_belong_to_the_default_tenant(
    database: Database, jobs: JobsRepository, make_project: Any, make_photos: Any
) -> None:
    old = make_project(tenant_id=None)
    photo_ids = make_photos(old, 2)
    job = jobs.enqueue(tenant_id="user_0", type="x", scope="global")
    assert _ids(resolve_job_targets(job, database)) == photo_ids
    with pytest.raises(UnknownProject, match="does not exist for tenant tenant"):
        jobs.enqueue(tenant_id="tenant", type="x", project_id=old.id)
    of_project = jobs.enqueue(tenant_id="user_0", type="x", project_id=old.id)
    _give_away(database, old.id)
    assert resolve_job_targets(of_project, database) == []


def _give_away(database: Database, project_id: int) -> None:
    with database.begin() as connection:
        connection.execute(update(projects).where(projects.c.id == project_id).values(tenant_id="other"))


def test_items_are_grouped_by_project_and_the_groups_unpack(
    database: Database, jobs: JobsRepository, two_projects: Any
) -> None:
    iceland, of_iceland, norway, of_norway = two_projects
    job = _with_items(
        jobs, [{"photo_id": photo_id} for photo_id in (of_norway[1], of_iceland[2], of_iceland[0], of_norway[1])]
    )
    groups = group_items_by_project(jobs.list_items(job.id), database)
    assert len(groups) == 2
    unpacked = [(project, [photo.id for photo in photos]) for project, photos in groups]
    assert unpacked == [(iceland, [of_iceland[2], of_iceland[0]]), (norway, [of_norway[1]])]
    assert [group.project for group in groups] == [iceland, norway]
    assert group_items_by_project([], database) == []


def test_an_archived_project_is_a_group_that_its_caller_can_see(
    database: Database, jobs: JobsRepository, two_projects: Any
) -> None:
    iceland, of_iceland, *_ = two_projects
    job = _with_items(jobs, [{"photo_id": of_iceland[0]}])
    ProjectsRepository(database).archive(iceland.id)
    (group,) = group_items_by_project(jobs.list_items(job.id), database)
    assert group.project.is_archived


def test_many_items_are_read_in_batches_by_few_statements(
    database: Database, jobs: JobsRepository, make_project: Any, make_photos: Any
) -> None:
    photo_ids = make_photos(make_project(), 250)
    job = _with_items(jobs, [{"photo_id": photo_id} for photo_id in photo_ids])
    assert _ids(iterate_job_targets(job, database, batch_size=100)) == photo_ids


def test_targets_are_read_inside_a_callers_transaction(database: Database, make_project: Any, make_photos: Any) -> None:
    photo_ids = make_photos(make_project(), 2)
    with database.begin() as connection:
        job = JobsRepository(connection).enqueue(tenant_id="tenant", type="x", scope="global")
        assert _ids(resolve_job_targets(job, connection)) == photo_ids


def test_without_a_database_that_of_the_settings_is_used(
    sqlite_database: Database, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.database.configured_database import configured_database

    monkeypatch.setenv("PHOTOJOBS_DATABASE_URL", sqlite_url)
    jobs = JobsRepository(sqlite_database)
    job = _with_items(jobs, [{"filename": "a"}])
    assert resolve_job_targets(job) == []
    assert group_items_by_project(jobs.list_items(job.id)) == []
    former = configured_database()
    assert configured_database() is former
    sqlite_database.close()
    JobsRepository(former).enqueue(tenant_id="tenant", type="x")
    monkeypatch.setenv("PHOTOJOBS_DATABASE_URL", f"{sqlite_url}-other")
    assert configured_database() is not former
    assert former.path is not None
    # SQLite removes its log when the last connection is closed.
    assert not former.path.with_name(f"{former.path.name}-wal").exists()


@pytest.mark.parametrize(
    ("count", "size", "lengths"),
    [(0, 2000, []), (2000, 2000, [2000]), (4001, 2000, [2000, 2000, 1]), (5, 2, [2, 2, 1])],
)
def test_photo_ids_are_cut_into_chunks_in_their_order(count: int, size: int, lengths: list[int]) -> None:
    chunks = chunk_photo_ids(iter(range(count)), size)
    assert [len(chunk) for chunk in chunks] == lengths
    assert [photo_id for chunk in chunks for photo_id in chunk] == list(range(count))


def test_a_chunk_is_as_large_as_a_job_may_be_unless_it_is_said() -> None:
    assert [len(chunk) for chunk in chunk_photo_ids(range(2001))] == [MAX_ITEMS_PER_JOB, 1]


@pytest.mark.parametrize("size", [0, -1, MAX_ITEMS_PER_JOB + 1, 2.5, True])
def test_a_chunk_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(InvalidValue, match="size"):
        chunk_photo_ids([1], size)


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (None, 0),
        ({}, 0),
        ({"reason": "x"}, 0),
        ({"items": [{}] * 2000}, 2000),
        ({"photo_ids": [1] * 2001, "items": [1]}, 2001),
        ([1] * 3, 3),
        ((1,) * 2001, 2001),
    ],
)
def test_a_payload_is_measured_by_its_longest_list(payload: Any, count: int) -> None:
    result = validate_payload_size(payload)
    assert (result.valid, result.count) == (count <= 2000, count)
    assert (result.message is None) == result.valid


def test_a_payload_that_is_too_long_is_told_with_both_numbers() -> None:
    result = validate_payload_size({"photo_ids": [1, 2, 3]}, 2)
    assert not result.valid
    assert result.message is not None
    assert "photo_ids: 3" in result.message
    assert " 2 " in result.message


def test_a_projects_path_is_absolute_and_lies_under_its_tenant(
    make_project: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project("iceland")
    assert get_project_path(project, tmp_path) == tmp_path / "tenant" / "iceland"
    assert get_project_path(make_project("old", tenant_id=None), tmp_path) == tmp_path / "user_0" / "old"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTOJOBS_LIBRARY_ROOT", "photos")
    assert get_project_path(project) == tmp_path / "photos" / "tenant" / "iceland"


def test_a_project_whose_folder_would_lead_out_of_the_library_has_no_path(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    # Another program may have written such a row.
    project = replace(make_project(), project_folder="../outside")
    with pytest.raises(UnsafePath):
        get_project_path(project, tmp_path)
