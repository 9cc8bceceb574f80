"""Both databases refuse the same values of callers, and store all other values with the same meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage import Database, JobsRepository, LanesRepository, ProjectsRepository, TasksRepository
from storage.errors import InvalidValue
from storage.queue.bulk import JobFilter, cancel_jobs

#: Python refuses to write so large a number as text.
HUGE = pytest.param(10**5000, id="huge")
NO_LIMITS = [-1, 1e22, 1.5, "ten", None, True, 2**63, HUGE]


@pytest.mark.parametrize("priority", [-1, 101, 2**31, 1e22, "high", True, HUGE])
def test_a_priority_is_a_whole_number_from_0_to_100(jobs: JobsRepository, priority: Any) -> None:
    with pytest.raises(InvalidValue, match="priority"):
        jobs.enqueue(tenant_id="t", type="x", priority=priority)
    assert jobs.list_by_tenant("t") == []


@pytest.mark.parametrize("bound", [-(2**31) - 1, 2**31, 1.5, "high", True, HUGE])
def test_a_bound_of_a_claim_is_a_whole_number_of_32_bits(jobs: JobsRepository, bound: Any) -> None:
    jobs.enqueue(tenant_id="t", type="x")
    for name in ("min_priority", "max_priority"):
        with pytest.raises(InvalidValue, match=f"^{name}"):
            jobs.claim_next("worker", **{name: bound})
    assert [job.status for job in jobs.list_by_tenant("t")] == ["queued"]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e12, "60", HUGE])
def test_an_impossible_age_is_refused(database: Database, jobs: JobsRepository, seconds: Any) -> None:
    jobs.enqueue(tenant_id="t", type="x")
    jobs.claim_next("worker")
    with pytest.raises(InvalidValue, match="older_than_seconds"):
        cancel_jobs(database, JobFilter(older_than_seconds=seconds))
    with pytest.raises(InvalidValue, match="stale_seconds"):
        jobs.requeue_stale_running(seconds)
    assert [job.status for job in jobs.list_by_tenant("t")] == ["running"]


@pytest.mark.parametrize("limit", NO_LIMITS)
def test_a_limit_is_a_whole_number_from_0(database: Database, jobs: JobsRepository, limit: Any) -> None:
    for call in (
        lambda: jobs.list_by_tenant("t", limit=limit),
        lambda: jobs.list_by_project(1, limit=limit),
        lambda: jobs.list_ready(limit=limit),
        lambda: TasksRepository(database).list_newest(limit=limit),
    ):
        with pytest.raises(InvalidValue, match="limit"):
            call()


def test_no_slots_are_no_limit_for_a_new_lane_as_for_a_changed_one(database: Database) -> None:
    lanes = LanesRepository(database)
    for lane in lanes.list():
        _remove(database, lane.name)
    assert lanes.add("all", min_priority=0, max_priority=100, slots=0).slots is None
    assert lanes.change("all", slots=3).slots == 3
    assert lanes.change("all", slots=0).slots is None


def _remove(database: Database, name: str) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM lanes WHERE name = '{name}'")


@pytest.mark.parametrize(
    "values",
    [
        {"slots": -3},
        {"slots": 1.5},
        {"slots": 2**31},
        {"min_priority": "0"},
        {"max_priority": 2**31},
        {"min_priority": -(2**31) - 1},
    ],
)
def test_a_lane_with_an_impossible_number_is_refused(database: Database, values: dict[str, Any]) -> None:
    lanes = LanesRepository(database)
    for lane in lanes.list():
        _remove(database, lane.name)
    with pytest.raises(InvalidValue):
        lanes.add("odd", **{"min_priority": 0, "max_priority": 100} | values)
    assert lanes.list() == []


@pytest.mark.parametrize("folder", ["../../etc", "a/b", "..", ".hidden", "", "a\nb", "x" * 300, "\ud800", "a\\b"])
def test_a_project_whose_folder_cannot_be_one_is_refused(database: Database, folder: str) -> None:
    projects = ProjectsRepository(database)
    with pytest.raises(InvalidValue, match="project_folder"):
        projects.create(project_name="a", project_folder=folder)
    project = projects.create(project_name="a", project_folder="a")
    with pytest.raises(InvalidValue, match="project_folder"):
        projects.rename(project.id, project_folder=folder)
    assert [project.project_folder for project in projects.list()] == ["a"]


def test_a_payload_is_cleared_by_none(jobs: JobsRepository) -> None:
    job = jobs.enqueue(tenant_id="t", type="x", payload={"a": 1})
    cleared = jobs.update_payload(job.id, None)
    assert cleared is not None
    assert (cleared.payload_json, cleared.payload) == (None, {})


def test_progress_follows_the_items_of_a_job_unless_it_was_set(jobs: JobsRepository) -> None:
    job = jobs.enqueue_with_items(tenant_id="t", type="x", items=[{"filename": name} for name in "abcd"])
    assert not isinstance(job, list)
    first, second, third, fourth = jobs.list_items(job.id)

    def done() -> int | None:
        found = jobs.get_by_id(job.id)
        assert found is not None
        return found.progress_done

    jobs.update_item_status(first.id, status="done")
    jobs.update_item_status(second.id, status="running")
    assert done() == 1
    jobs.update_item_status(second.id, status="failed", message="no")
    jobs.update_item_status(first.id, status="pending")
    assert done() == 1
    jobs.update_progress(job.id, done=40)
    jobs.update_item_status(third.id, status="skipped")
    jobs.update_item_status(fourth.id, status="done")
    assert done() == 40


@pytest.mark.parametrize("name", ["a?b.db", "e%41f.db", "a#b.db", "a b+c.db", "ä&x=1.db"])
def test_a_path_names_the_file_of_that_very_name(tmp_path: Path, name: str) -> None:
    for given in (tmp_path / name, str(tmp_path / name)):
        database = Database(given)
        database.migrate()
        assert JobsRepository(database).enqueue(tenant_id="t", type="x").id
        assert database.path == tmp_path / name
        database.close()
    assert {path.name for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm"))} == {name}
