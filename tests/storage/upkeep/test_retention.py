"""Pruning removes only tasks and jobs that ended long ago, and no task that can still be undone."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, text

from storage import Database, HoldsRepository, JobsRepository, TasksRepository
from storage.errors import InvalidValue, TaskConflict
from storage.history.journal import FileAction, FileChange, write_journal
from storage.history.undo_entries import UNDO
from storage.queue.project_claims import claim_projects
from storage.upkeep import retention
from storage.upkeep.retention import Pruned, count_prunable

DAY = 86_400


def prune(database: Database, **arguments: Any) -> Pruned:
    """Prune, and check that a dry run predicts the removed rows; return the result."""
    batch = {name: arguments.pop(name) for name in ("batch_size",) if name in arguments}
    foreseen = count_prunable(database, **arguments)
    pruned = retention.prune(database, **arguments, **batch)
    assert pruned == foreseen
    return pruned


def _count(database: Database, table: str) -> int:
    with database.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


@pytest.fixture
def photo_ids(make_project: Any, make_photos: Any) -> list[int]:
    ids: list[int] = make_photos(make_project(), 5)
    return ids


def test_old_ended_tasks_and_jobs_go_with_all_their_rows(
    database: Database,
    jobs: JobsRepository,
    tasks: TasksRepository,
    make_task: Any,
    photo_ids: list[int],
    clock: Any,
) -> None:
    old = make_task({"unit": "items", "chunk_size": 2}, photo_ids=photo_ids)
    for job in tasks.list_jobs(old.id):
        jobs.complete(job.id)
    jobs.cancel(jobs.enqueue_with_items(tenant_id="t", type="x", items=[{"filename": "a"}] * 3).id)  # type: ignore[union-attr]
    clock.advance(seconds=10 * DAY)
    young = make_task("items", photo_ids=photo_ids)
    jobs.fail(tasks.list_jobs(young.id)[0].id, "no")
    running = make_task("items", photo_ids=photo_ids)
    for task in (old, young):
        HoldsRepository(database).hold("task", task.id)
    clock.advance(seconds=DAY)
    pruned = prune(database, older_than_seconds=5 * DAY, batch_size=2)
    assert (pruned.tasks, pruned.jobs, pruned.items) == (1, 4, 8)
    assert {task.id for task in tasks.list_newest()} == {young.id, running.id}
    assert {job.task_id for job in jobs.list_by_tenant("tenant")} == {young.id, running.id}
    # A later task with the id of the removed one must not be on hold.
    assert [hold.name for hold in HoldsRepository(database).list()] == [young.id]
    assert (_count(database, "jobs"), _count(database, "job_items"), _count(database, "task_items")) == (2, 10, 10)
    again = prune(database, older_than_seconds=5 * DAY)
    assert (again.tasks, again.jobs, again.items, again.journal_entries) == (0, 0, 0, 0)


def test_what_has_not_ended_is_never_pruned_however_old(
    database: Database, jobs: JobsRepository, tasks: TasksRepository, make_task: Any, photo_ids: list[int], clock: Any
) -> None:
    task = make_task({"unit": "items", "chunk_size": 2}, photo_ids=photo_ids)
    jobs.complete(tasks.list_jobs(task.id)[0].id)
    jobs.enqueue(tenant_id="t", type="x")
    clock.advance(seconds=1000 * DAY)
    pruned = prune(database, older_than_seconds=0)
    assert (pruned.tasks, pruned.jobs) == (0, 0)
    assert _count(database, "jobs") == 4


def test_a_canceled_job_stays_while_its_handler_may_still_work_in_a_project(
    database: Database, jobs: JobsRepository, make_project: Any, clock: Any
) -> None:
    jobs.enqueue(tenant_id="t", type="x")
    job = jobs.claim_next("worker")
    assert job is not None
    assert claim_projects(database, [make_project().id], job_id=job.id, claim_token=str(job.claim_token))
    jobs.cancel(job.id)
    for later, removed in ((DAY - 1, 0), (1, 1)):
        clock.advance(seconds=later)
        assert prune(database, older_than_seconds=60).jobs == removed


def test_a_task_whose_files_can_be_brought_back_stays_until_its_trash_is_gone(
    database: Database, jobs: JobsRepository, tasks: TasksRepository, make_task: Any, photo_ids: list[int], clock: Any
) -> None:
    task = make_task("items", photo_ids=photo_ids)
    (job,) = tasks.list_jobs(task.id)
    with database.begin() as connection:
        change = FileChange(action=FileAction.TRASHED, source="tenant/a/x.jpg", target="tenant/a/.trash/x.jpg")
        write_journal(connection, [change], tenant_id="tenant", task_id=task.id, job_id=job.id, now=clock())
    jobs.complete(job.id)
    clock.advance(seconds=DAY / 2)
    pruned = prune(database, older_than_seconds=60)
    assert (pruned.tasks, pruned.jobs, pruned.journal_entries) == (0, 0, 0)
    assert len(tasks.list_jobs(task.id)) == 1
    clock.advance(seconds=DAY)
    pruned = prune(database, older_than_seconds=60)
    assert (pruned.tasks, pruned.jobs, pruned.journal_entries) == (1, 1, 1)


def test_a_task_that_is_being_undone_stays_with_its_journal(
    database: Database, tasks: TasksRepository, make_task: Any, clock: Any
) -> None:
    task = make_task("library", scope="global")
    with database.begin() as connection:
        change = FileChange(action=FileAction.MOVED, source="tenant/a/x.jpg", target="tenant/a/y.jpg")
        write_journal(connection, [change], tenant_id="tenant", task_id=task.id, job_id=None, now=clock())
    tasks.cancel(task.id)
    clock.advance(seconds=30 * DAY)
    undo = make_task("library", scope="global", payload={UNDO: task.id})
    if not database.is_postgresql:
        garbled = make_task("library", scope="global")
        with database.begin() as connection:
            connection.execute(text("UPDATE tasks SET payload_json = '{' WHERE id = :id"), {"id": garbled.id})
    pruned = prune(database, older_than_seconds=60)
    assert (pruned.tasks, pruned.jobs, pruned.journal_entries) == (0, 0, 0)
    tasks.cancel(undo.id)
    pruned = prune(database, older_than_seconds=60)
    assert (pruned.tasks, pruned.jobs, pruned.journal_entries) == (1, 1, 1)


def test_the_journal_goes_earlier_where_one_is_told_to(
    database: Database, jobs: JobsRepository, tasks: TasksRepository, make_task: Any, photo_ids: list[int], clock: Any
) -> None:
    task = make_task("items", photo_ids=photo_ids)
    (job,) = tasks.list_jobs(task.id)
    with database.begin() as connection:
        change = FileChange(action=FileAction.TRASHED, source="a", target="b")
        write_journal(connection, [change], tenant_id="tenant", task_id=task.id, job_id=job.id, now=clock())
    jobs.complete(job.id)
    clock.advance(seconds=120)
    pruned = prune(database, older_than_seconds=60, keep_journal_seconds=0)
    assert (pruned.tasks, pruned.journal_entries) == (1, 1)


def test_tasks_with_long_lists_of_items_are_removed_apart_so_that_nobody_waits_long(
    database: Database,
    jobs: JobsRepository,
    tasks: TasksRepository,
    make_task: Any,
    photo_ids: list[int],
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.upkeep.retention.TASK_ITEMS_PER_BATCH", 5)
    for count in (1, 2, 5, 1):
        task = make_task("items", photo_ids=photo_ids[:count])
        jobs.complete(tasks.list_jobs(task.id)[0].id)
        clock.advance(seconds=1)
    removed: list[int] = []

    def note(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM tasks"):
            removed.append(cursor.rowcount)

    event.listen(database.engine, "after_cursor_execute", note)
    assert prune(database, older_than_seconds=0).tasks == 4
    assert removed == [2, 1, 1]


def test_what_rows_of_other_programs_depend_on_is_kept_and_named_and_all_else_goes(
    database: Database, jobs: JobsRepository, tasks: TasksRepository, make_task: Any, photo_ids: list[int], clock: Any
) -> None:
    names = ("also_free", "free", "item", "job", "task")
    ids = {name: tasks.list_jobs(make_task("items", photo_ids=photo_ids[:2], task_id=name).id)[0].id for name in names}
    for name in ("lone", "alone"):
        ids[name] = jobs.enqueue(tenant_id="t", type="x").id
    with database.begin() as connection:
        for statement in (
            "CREATE TABLE notes (task_id text REFERENCES tasks (id), job_id bigint REFERENCES jobs)",
            "CREATE TABLE marks (item_id bigint NOT NULL REFERENCES job_items (id) ON DELETE SET NULL)",
            "CREATE TABLE tickets (job_id bigint REFERENCES jobs (id) ON DELETE CASCADE)",
            "INSERT INTO notes (task_id) VALUES ('task')",
            f"INSERT INTO notes (job_id) VALUES ({ids['job']}), ({ids['lone']})",
            f"INSERT INTO marks SELECT max(id) FROM job_items WHERE job_id = {ids['item']}",
            f"INSERT INTO tickets VALUES ({ids['free']}), ({ids['lone']})",
        ):
            connection.execute(text(statement))
    for job_id in ids.values():
        jobs.complete(job_id)
    clock.advance(seconds=DAY)

    pruned = prune(database, older_than_seconds=60, batch_size=1)

    assert (pruned.tasks, pruned.jobs, pruned.items, pruned.kept) == (2, 3, 4, 4)
    reason = "rows of other programs depend on it ({}), so it is kept; remove those rows first"
    assert pruned.reasons == {
        "task task": reason.format("notes"),
        f"job {ids['item']} of task item": reason.format("marks"),
        f"job {ids['job']} of task job": reason.format("notes"),
        f"job {ids['lone']}": reason.format("notes"),
    }
    assert {task.id for task in tasks.list_newest()} == {"item", "job", "task"}
    assert (_count(database, "jobs"), _count(database, "job_items"), _count(database, "tickets")) == (4, 6, 1)
    with pytest.raises(TaskConflict, match=rf"repeat from step 0: job {ids['job']}: .* depend on it \(notes\)"):
        tasks.retry("job", from_step=0)
    with database.begin() as connection:
        for table in ("notes", "marks"):
            connection.execute(text(f"DELETE FROM {table}"))
    pruned = prune(database, older_than_seconds=60)
    assert (pruned.tasks, pruned.jobs, pruned.kept, pruned.reasons) == (3, 4, 0, {})


@pytest.mark.parametrize(
    "arguments",
    [
        {"older_than_seconds": -1},
        {"older_than_seconds": 1e12},
        {"older_than_seconds": float("nan")},
        {"older_than_seconds": 1, "batch_size": 0},
        {"older_than_seconds": 1, "keep_journal_seconds": -1},
    ],
)
def test_an_impossible_age_or_batch_is_refused(database: Database, arguments: Any) -> None:
    with pytest.raises(InvalidValue):
        prune(database, **arguments)
