"""The history of a task is read from rows with known moments, and has a limited size for any number of jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from sqlalchemy import select, text

from storage import Database, JobsRepository, Project, Task, TasksRepository
from storage.database.tables import jobs as jobs_table
from storage.database.tables import tasks as tasks_table
from storage.history.journal import FileAction, FileChange, write_journal
from storage.queue.new_tasks import NewTask
from storage.reports import task_history
from storage.reports.library_figures import LibraryFigures, keep_figures, read_figures, take_figures
from storage.reports.queue_overview import latest_failures
from storage.reports.task_history import (
    changed_photos,
    failure_reasons,
    file_changes,
    job_spans,
    slowest,
    step_times,
)
from storage.reports.task_summary import summarize_task
from task_definitions import Scope

MakeTask = Callable[..., Task]


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project("Alps")


@pytest.fixture
def run_task(
    database: Database, jobs: JobsRepository, make_task: MakeTask, make_photos: Any, project: Project, clock: Any
) -> Callable[..., Task]:
    """A function that runs a task with a job for each photo; each waits 1 s longer than the last, and runs 10 s."""

    def run(photos: int, *, fail: int = 0, **result: Any) -> Task:
        photo_ids = make_photos(project, photos)
        task = make_task({"unit": "items", "chunk_size": 1, "priority": 95, "type": "metadata"}, photo_ids=photo_ids)
        for number in range(photos):
            clock.advance(seconds=1)
            job = jobs.claim_next(f"worker-{number % 2}")
            assert job is not None
            clock.advance(seconds=10)
            (item,) = jobs.list_items(job.id)
            if number < fail:
                jobs.update_item_status(item.id, status="failed", message=f"{item.filename}.jpg: it is empty")
                jobs.fail(job.id, "1 photo failed: IMG_1: it is empty")
            else:
                jobs.update_progress(job.id, done=1)
                jobs.complete(job.id, claim_token=job.claim_token, result=result or None)
        return TasksRepository(database).get(task.id)

    return run


def test_jobs_are_told_one_by_one_and_together_where_there_are_too_many(
    database: Database, run_task: Callable[..., Task], clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = run_task(6, fail=1)

    with database.connect() as connection:
        single = job_spans(connection, task, now=clock())
        monkeypatch.setattr(task_history, "MAX_SINGLE_JOBS", 5)
        monkeypatch.setattr(task_history, "BUCKETS", 1)
        together = job_spans(connection, task, now=clock())

    assert [(span.jobs, span.worker_id, span.status) for span in single] == [
        (1, f"worker-{number % 2}", "failed" if number == 0 else "completed") for number in range(6)
    ]
    assert {(span.finished_at - span.started_at).total_seconds() for span in single if span.finished_at} == {10}
    assert sorted((span.worker_id, span.status, span.jobs) for span in together) == [
        ("worker-0", "completed", 2),
        ("worker-0", "failed", 1),
        ("worker-1", "completed", 3),
    ]
    assert max(span.finished_at for span in together if span.finished_at) == task.finished_at


def test_times_are_those_of_the_jobs(database: Database, run_task: Callable[..., Task], clock: Any) -> None:
    task = run_task(5, fail=2)

    with database.connect() as connection:
        (times,) = step_times(connection, task.id)
        assert sum(span.items for span in job_spans(connection, task, now=clock())) == 5

    assert times.jobs == 5
    assert (times.run_median, times.run_p95, times.run_longest) == pytest.approx((10, 10, 10), abs=0.01)
    assert (times.wait_median, times.wait_longest) == pytest.approx((23, 45), abs=0.01)


def test_reasons_are_counted_and_those_of_items_stand_for_their_jobs(
    database: Database, jobs: JobsRepository, run_task: Callable[..., Task]
) -> None:
    task = run_task(4, fail=3)
    lone = jobs.list_by_tenant("tenant", status="completed")[0]
    with database.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET status = 'failed', error_message = 'worker lost' WHERE id = :id"), {"id": lone.id}
        )
        found = failure_reasons(connection, task.id)

    assert [(reason.reason, reason.count, reason.is_of_items) for reason in found] == [
        ("….jpg: it is empty", 3, True),
        ("worker lost", 1, False),
    ]
    assert found[0].first is not None


def test_a_short_name_of_a_photo_garbles_no_reason(database: Database, run_task: Callable[..., Task]) -> None:
    task = run_task(4, fail=4)
    with database.begin() as connection:
        items = connection.execute(text("SELECT id FROM job_items ORDER BY id")).scalars().all()
        for item_id, name in zip(items, ("1", "2", "0", ""), strict=True):
            values = {"id": item_id, "name": name, "message": f"{name}.jpg: it takes 120 s"}
            connection.execute(text("UPDATE job_items SET filename = :name, message = :message WHERE id = :id"), values)
        found = failure_reasons(connection, task.id)
    assert [(reason.reason, reason.count) for reason in found] == [
        ("….jpg: it takes 120 s", 3),
        (".jpg: it takes 120 s", 1),
    ]


def test_what_was_slow_comes_first_over_all_jobs(database: Database, run_task: Callable[..., Task]) -> None:
    task = run_task(3, slowest=[{"name": "'<odd>'", "seconds": 2.5}, {"name": "b", "seconds": 9}])

    with database.connect() as connection:
        found = slowest(connection, task.id, limit=4)

    assert [(slow.name, slow.seconds) for slow in found] == [("b", 9), ("b", 9), ("b", 9), ("'<odd>'", 2.5)]


def test_a_result_of_another_shape_is_passed_over(database: Database, run_task: Callable[..., Task]) -> None:
    task = run_task(9)
    names = [{"name": "a", "seconds": "b"}, {"name": "b"}, "c", {"name": "d", "seconds": 2}]
    results: list[Any] = [
        {"slowest": "nothing", "counts": 3, "examples": [], "projects": "Alps", "left": ["a"], "errors": None},
        {"slowest": names, "counts": {"made": "b"}, "examples": {"made": 3}, "projects": {"Alps": 3}},
        {"counts": {"made": 2}, "examples": {"made": ["a", 3]}, "projects": {"Alps": {"made": 2, "b": []}}},
        {"counts": {"made": 1}, "left": {"a": "b", "c": 3}},
        [1],
    ]
    table = jobs_table.update()
    with database.begin() as connection:
        for job, result in zip(TasksRepository(connection).list_jobs(task.id), results, strict=False):
            connection.execute(table.where(jobs_table.c.id == job.id).values(result_json=result))
        # Another program may add jobs to a task without the columns that it does not know.
        connection.execute(table.where(jobs_table.c.id == job.id).values(step_index=None))
        assert [(slow.name, slow.seconds) for slow in slowest(connection, task.id, limit=1)] == [("d", 2)]
        (step,) = summarize_task(connection, task.id).steps
        (times,) = step_times(connection, task.id)
        assert {span.step_index for span in job_spans(connection, task, now=database.clock())} == {0}

    assert (step.step_index, step.jobs, times.jobs) == (0, {"completed": 9}, 9)
    assert (step.counts, step.examples) == ({"made": 3}, {"made": ["a"]})
    assert (step.projects, step.left) == ({"Alps": {"made": 2}}, {"a": "b"})
    first = min(TasksRepository(database).list_jobs(task.id), key=lambda job: job.id)
    assert first.result == results[0]
    assert first.report == {"counts": {}, "examples": {}, "projects": {}, "left": {}, "errors": {}}


def test_times_that_are_no_times_are_passed_over(
    database: Database,
    jobs: JobsRepository,
    tasks: TasksRepository,
    make_definition: Any,
    clock: Any,
    unreadable_time: str,
) -> None:
    new = NewTask(id="task", tenant_id="t", definition=make_definition("library"), scope=Scope.GLOBAL)
    (first,) = tasks.start_with_jobs(new).job_ids
    for _ in range(3):
        jobs.fail(jobs.enqueue(tenant_id="t", type="x").id, "no")
    jobs.fail(first, "no")
    jobs.enqueue(tenant_id="t", type="x")
    with database.begin() as connection:
        times = {"time": unreadable_time}
        cast = "CAST(:time AS timestamptz)" if database.is_postgresql else ":time"
        started = f"UPDATE jobs SET task_id = 'task', started_at = {cast} WHERE status = 'failed'"
        ended = f"UPDATE jobs SET created_at = {cast}, finished_at = {cast} WHERE type = 'x'"
        connection.execute(text(started), times)
        connection.execute(text(ended), times)
        assert step_times(connection, "task") == []
        assert job_spans(connection, tasks.get("task"), now=clock()) == []
        assert summarize_task(connection, "task").jobs == {"failed": 4}
        failures = latest_failures(connection, limit=5)
    assert [(failure.count, failure.last_at) for failure in failures] == [(1, clock()), (3, None)]


def test_changes_of_files_are_summed_up_by_what_was_done(
    database: Database, run_task: Callable[..., Task], project: Project, clock: Any
) -> None:
    task = run_task(1)
    changes = [FileChange(action=FileAction.TRASHED, source=f"a/{n}.jpg", target=None, size_bytes=5) for n in range(9)]
    changes.append(FileChange(action=FileAction.MOVED, source="a/x.jpg", target="b/x.jpg", size_bytes=None))
    with database.begin() as connection:
        write_journal(connection, changes, tenant_id="tenant", task_id=task.id, job_id=None, now=clock())
        moved, trashed = file_changes(connection, task.id, examples=2)

    assert (moved.action, moved.files, moved.size_bytes, moved.first) == ("moved", 1, 0, ("a/x.jpg → b/x.jpg",))
    assert (trashed.files, trashed.size_bytes, trashed.first) == (9, 45, ("a/0.jpg", "a/1.jpg"))


def test_photos_that_changed_meanwhile_are_counted_and_the_first_named(
    database: Database, make_photos: Any, make_project: Any, run_task: Callable[..., Task], clock: Any
) -> None:
    old = make_photos(make_project(), 2)
    make_photos(make_project(tenant_id="stranger"), 1)
    clock.advance(seconds=60)
    task = run_task(5)
    clock.advance(seconds=60)

    with database.connect() as connection:
        found, total = changed_photos(connection, task, limit=3, now=clock())

    assert total == 5
    assert len(found) == 3
    assert {photo.project_name for photo in found} == {"Alps"}
    assert all(photo.is_new and not photo.is_moved for photo in found)
    assert not {photo.id for photo in found} & set(old)


def test_figures_count_what_lies_in_the_projects_of_the_task(
    database: Database, make_project: Any, make_photos: Any, make_task: MakeTask
) -> None:
    first, second = make_project(), make_project()
    make_project(archived=True)
    make_photos(first, 2, thumbnail_status="generated", preview_status="generated", raw_available=1, keep_raw=0)
    make_photos(second, 3, thumbnail_status="failed", preview_status="not_supported")
    make_photos(make_project(tenant_id="stranger"), 7)
    everywhere = make_task("projects", scope="global")
    in_one = make_task("projects", scope="project", project_id=second.id)

    with database.connect() as connection:
        all_of_tenant, of_second = take_figures(connection, everywhere), take_figures(connection, in_one)

    assert (all_of_tenant.projects, all_of_tenant.archived_projects, all_of_tenant.photos) == (2, 1, 5)
    assert (all_of_tenant.with_raw, all_of_tenant.pending_deletions, all_of_tenant.thumbnails) == (2, 2, 2)
    assert (all_of_tenant.lacking, all_of_tenant.derivative_bytes) == (3, 0)
    assert (of_second.projects, of_second.photos, of_second.lacking) == (1, 3, 3)


def test_figures_from_before_stay_and_those_from_after_follow_the_last_end(
    database: Database, make_project: Any, make_photos: Any, make_task: MakeTask
) -> None:
    project = make_project()
    task = make_task("projects", scope="global")
    for moment in ("before", "after", "before", "after"):
        keep_figures(database, task, moment)
        make_photos(project, 1)

    with database.connect() as connection:
        kept = read_figures(connection, task.id)
        assert connection.execute(select(tasks_table.c.library_json)).scalar_one()["before"] == asdict(kept.before)
    assert (kept.before.photos, kept.after.photos) == (0, 3)


def test_figures_that_somebody_spoiled_are_as_good_as_none() -> None:
    assert LibraryFigures.from_json({"photos": 3}) is None
    assert LibraryFigures.from_json(dict.fromkeys(LibraryFigures.__dataclass_fields__, "3")) is None
