"""Two callers at the same time: each test stops one caller at the point at which the other can disturb it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, event, select, text

from storage import (
    Database,
    HoldsRepository,
    JobsRepository,
    LanesRepository,
    PhotosRepository,
    ProjectsRepository,
    TasksRepository,
)
from storage.database.tables import job_items, photos
from storage.database.tables import jobs as jobs_table
from storage.database.tables import tasks as tasks_table
from storage.errors import InvalidValue, UnknownTask
from storage.lifecycle import state_machine, step_jobs
from storage.lifecycle.job_items import insert_items
from storage.lifecycle.job_rows import insert_job, new_job_values
from storage.queue.bulk import JobFilter, retry_jobs
from storage.queue.new_tasks import NewTask
from storage.queue.pauses import pause_task
from storage.queue.project_claims import claim_projects, release_projects
from storage.queue.rescue import rescue_stale
from storage.records import Job, Project, TaskStatus
from storage.upkeep.retention import prune
from task_definitions import Scope
from tests.waiting import wait_until

Result = TypeVar("Result")


def while_open(database: Database, first: Callable[[Connection], object], second: Callable[[], Result]) -> Result:
    """Do `first` in a transaction that is still open when `second` begins; return the result of `second`."""
    with ThreadPoolExecutor(1) as threads:
        with database.begin() as connection:
            first(connection)
            answer = threads.submit(second)
            if database.is_postgresql:
                wait_until(lambda: answer.done() or _someone_waits(connection), what="the second one waits")
        return answer.result(30)


def _someone_waits(connection: Connection) -> bool:
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    # A transaction sees the activity at the time of its first query.
    connection.execute(text("SELECT pg_stat_clear_snapshot()"))
    return connection.execute(text(waits)).first() is not None


@pytest.mark.parametrize("count", [3, 2001])
def test_a_job_with_a_unique_key_gets_the_items_of_one_caller_alone(database: Database, clock: Any, count: int) -> None:
    values = new_job_values(
        now=clock(), tenant_id="t", type="x", project_id=None, scope=None, payload=None, priority=0, unique_key="k"
    )

    second = while_open(
        database,
        lambda connection: insert_job(connection, values),
        lambda: JobsRepository(database).enqueue_with_items(
            tenant_id="t", type="x", items=[{"filename": "a"}] * count, unique_key="k", auto_chunk=True
        ),
    )

    [only] = JobsRepository(database).list_by_tenant("t")
    assert second == only
    with database.connect() as connection:
        assert connection.execute(select(job_items)).first() is None


def test_a_task_that_two_callers_start_with_one_id_is_started_once(
    database: Database, make_definition: Any, make_project: Any, make_photos: Any
) -> None:
    ids = make_photos(make_project(), 3)
    new = NewTask(
        id="same",
        tenant_id="tenant",
        definition=make_definition("items"),
        scope=Scope.PHOTO_SET,
        items=[{"photo_id": id_} for id_ in ids],
    )

    second = while_open(
        database,
        lambda connection: TasksRepository(connection).start(new),
        lambda: TasksRepository(database).start_with_jobs(new),
    )

    assert second.task.id == "same"
    [job] = TasksRepository(database).list_jobs("same")
    assert second.job_ids == (job.id,)
    assert len(JobsRepository(database).list_items(job.id)) == 3


@pytest.mark.postgres
def test_a_job_that_still_gets_items_is_not_claimed(postgresql_database: Database) -> None:
    jobs = JobsRepository(postgresql_database)
    first, second = (jobs.enqueue(tenant_id="t", type="x") for _ in range(2))

    claimed = while_open(
        postgresql_database,
        lambda connection: insert_items(
            connection, first.id, "t", [{"filename": "a"}], now=postgresql_database.clock()
        ),
        lambda: [jobs.claim_next("worker"), jobs.claim_next("worker")],
    )

    assert [job and job.id for job in claimed] == [second.id, None]


@pytest.mark.parametrize("is_exclusive", [False, True])
def test_a_task_without_items_that_two_callers_start_with_one_id_is_started_once_and_for_its_tenant_alone(
    database: Database, make_definition: Any, is_exclusive: bool
) -> None:
    definition = make_definition("library")
    new = NewTask(id="same", tenant_id="tenant", definition=definition, scope=Scope.GLOBAL, is_exclusive=is_exclusive)

    def start(connection: Connection) -> None:
        TasksRepository(connection).start(new)

    second = while_open(database, start, lambda: TasksRepository(database).start_with_jobs(new))
    [job] = TasksRepository(database).list_jobs("same")
    assert second.job_ids == (job.id,)
    new = replace(new, id="another", tenant_id="first")
    with pytest.raises(UnknownTask):
        while_open(database, start, lambda: TasksRepository(database).start(replace(new, tenant_id="second")))


@pytest.mark.parametrize(
    ("scope", "is_started"), [(Scope.PROJECT, False), (Scope.PROJECT, True), (Scope.PHOTO_SET, True)]
)
def test_a_photo_that_is_removed_while_the_jobs_of_a_step_are_written_is_no_item(
    database: Database, make_definition: Any, make_project: Any, make_photos: Any, scope: Scope, is_started: bool
) -> None:
    project, tasks, jobs = make_project(), TasksRepository(database), JobsRepository(database)
    ids = make_photos(project, 3)
    new = NewTask(
        id="task",
        tenant_id="tenant",
        definition=make_definition("projects", "items") if is_started else make_definition("items"),
        scope=scope,
        project_id=project.id if scope is Scope.PROJECT else None,
        items=None if scope is Scope.PROJECT else [{"photo_id": id_} for id_ in ids],
    )
    first_jobs = tasks.start_with_jobs(new).job_ids if is_started else ()

    while_open(
        database,
        lambda connection: connection.execute(photos.delete().where(photos.c.id == ids[0])),
        lambda: jobs.complete(first_jobs[0]) if is_started else tasks.start(new),
    )

    *_, last = tasks.list_jobs("task")
    assert [item.photo_id for item in jobs.list_items(last.id)] == ids[1:]


def test_a_task_that_another_process_settles_delays_no_heartbeat_and_no_sweep(
    postgresql_database: Database, make_definition: Any, clock: Any
) -> None:
    database, tasks = postgresql_database, TasksRepository(postgresql_database)
    for name in ("settled", "other"):
        tasks.start(NewTask(id=name, tenant_id="t", definition=make_definition("library"), scope=Scope.GLOBAL))
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET status = 'completed'"))
    clock.advance(seconds=31)
    with ThreadPoolExecutor(1) as threads, database.begin() as connection:
        state_machine.lock_task(connection, "settled")
        for found in (tasks.list_stuck(), tasks.list_unfollowed(silent_seconds=30)):
            assert [task.id for task in found] == ["other"]
        threads.submit(tasks.heartbeat, ["settled", "other"]).result(20)
    assert [tasks.get(name).status for name in ("settled", "other")] == ["queued", "running"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("cancel", "queued"),
        ("cancel", "running"),
        ("retry", "failed"),
        ("hold", "queued"),
        ("release", "queued"),
        ("link", "running"),
        ("pause", "running"),
        ("requeue", "running"),
        ("prune", "canceled"),
        ("remove", "queued"),
    ],
)
def test_a_change_of_several_jobs_locks_them_in_the_order_of_their_ids(
    postgresql_database: Database, make_definition: Any, clock: Any, change: str, status: str
) -> None:
    database = postgresql_database
    tasks, holds, projects = TasksRepository(database), HoldsRepository(database), ProjectsRepository(database)
    project = projects.create(project_name="a", project_folder="a", tenant_id="tenant")
    PhotosRepository(database).create_many({"project_id": project.id, "filename": name} for name in ("a", "b"))
    definition = make_definition({"unit": "items", "chunk_size": 1})
    new = NewTask(id="task", tenant_id="tenant", definition=definition, scope=Scope.PROJECT, project_id=project.id)
    first, second = tasks.start_with_jobs(new).job_ids
    if change == "release":
        holds.hold("tenant", "tenant")
    with database.begin() as connection:
        for job_id in (second, first):
            # A change of an indexed column moves the row behind the other, so that scans find the second job first.
            values = {"status": status, "priority": 7, "heartbeat_at": clock(), "finished_at": clock()}
            connection.execute(jobs_table.update().where(jobs_table.c.id == job_id).values(values))
        if change == "prune":
            connection.execute(text("DELETE FROM tasks"))
    clock.advance(seconds=100)
    changes: dict[str, Callable[[], object]] = {
        "cancel": lambda: tasks.cancel(new.id),
        "retry": lambda: retry_jobs(database, JobFilter(task_id=new.id)),
        "hold": lambda: holds.hold("tenant", "tenant"),
        "release": lambda: holds.release("tenant", "tenant"),
        "link": lambda: tasks.link_flow_run(new.id, "flow-run"),
        "pause": lambda: pause_task(database, new.id),
        "requeue": lambda: JobsRepository(database).requeue_stale_running(60),
        "prune": lambda: prune(database, older_than_seconds=1),
        "remove": lambda: projects.remove(project.id),
    }

    with ThreadPoolExecutor(1) as threads, database.begin() as connection:
        lock = select(jobs_table.c.id).with_for_update(nowait=True)
        connection.execute(lock.where(jobs_table.c.id == first))
        answer = threads.submit(changes[change])
        wait_until(lambda: answer.done() or _someone_waits(connection), what="the change waits")
        connection.execute(lock.where(jobs_table.c.id == second))
    answer.result(30)


def test_old_tasks_are_removed_in_the_order_in_which_other_changes_lock_tasks(
    postgresql_database: Database, make_definition: Any, clock: Any
) -> None:
    database, tasks = postgresql_database, TasksRepository(postgresql_database)
    # In the order of the code points, as changes of several jobs lock their tasks, "B" comes before "a".
    for name in ("a", "B"):
        tasks.start(NewTask(id=name, tenant_id="t", definition=make_definition("library"), scope=Scope.GLOBAL))
        tasks.cancel(name)
    clock.advance(seconds=100)

    with ThreadPoolExecutor(1) as threads, database.begin() as connection:
        lock = select(tasks_table.c.id).with_for_update(nowait=True)
        connection.execute(lock.where(tasks_table.c.id == "B"))
        answer = threads.submit(prune, database, older_than_seconds=1)
        wait_until(lambda: answer.done() or _someone_waits(connection), what="the pruning waits")
        connection.execute(lock.where(tasks_table.c.id == "a"))
    assert answer.result(30).tasks == 2


def test_items_are_pruned_in_the_order_in_which_a_removal_of_photos_changes_them(
    postgresql_database: Database, clock: Any
) -> None:
    database, jobs = postgresql_database, JobsRepository(postgresql_database)
    project = ProjectsRepository(database).create(project_name="a", project_folder="a", tenant_id="t")
    photos = PhotosRepository(database)
    first, second = photos.create_many({"project_id": project.id, "filename": name} for name in "ab")
    for photo_id in (second, first):
        job = jobs.enqueue_with_items(tenant_id="t", type="x", items=[{"photo_id": photo_id}])
        assert not isinstance(job, list)
        jobs.cancel(job.id)
    clock.advance(seconds=10)

    with ThreadPoolExecutor(1) as threads, database.begin() as connection:
        PhotosRepository(connection).remove_many([first])
        answer = threads.submit(prune, database, older_than_seconds=1)
        wait_until(lambda: answer.done() or _someone_waits(connection), what="the pruning waits")
        of_second = select(job_items.c.id).where(job_items.c.photo_id == second)
        assert connection.execute(of_second.with_for_update(nowait=True)).first() is not None
    assert answer.result(30).items == 2


def test_a_photo_that_comes_while_the_jobs_of_a_step_are_created_displaces_no_other(
    postgresql_database: Database, make_definition: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgresql_database
    project = ProjectsRepository(database).create(project_name="a", project_folder="a", tenant_id="tenant")
    photos = PhotosRepository(database)
    first, *known = photos.create_many({"project_id": project.id, "filename": name} for name in "abc")
    photos.remove_many([first])
    insert_jobs = step_jobs._insert_jobs

    def create_before(*arguments: Any, **more: Any) -> None:
        photos.create_many([{"id": first, "project_id": project.id, "filename": "late"}])
        insert_jobs(*arguments, **more)

    monkeypatch.setattr(step_jobs, "_insert_jobs", create_before)
    definition = make_definition({"unit": "items", "chunk_size": 1})
    new = NewTask(id="task", tenant_id="tenant", definition=definition, scope=Scope.PROJECT, project_id=project.id)
    job_ids = TasksRepository(database).start_with_jobs(new).job_ids
    with database.connect() as connection:
        items = connection.execute(select(job_items.c.job_id, job_items.c.photo_id).order_by(job_items.c.id)).all()
    assert {photo_id for _, photo_id in items} >= {*known}
    assert {job_id for job_id, _ in items} == {*job_ids}


def test_a_hold_that_two_callers_set_is_one_hold(database: Database) -> None:
    second = while_open(
        database,
        lambda connection: HoldsRepository(connection).hold("tenant", "t", "first"),
        lambda: HoldsRepository(database).hold("tenant", "t", "second"),
    )
    assert second.reason == "second"
    assert HoldsRepository(database).list() == [second]


def test_of_two_lanes_that_overlap_one_is_refused(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("DELETE FROM lanes"))
    with pytest.raises(InvalidValue, match="overlaps the lane first"):
        while_open(
            database,
            lambda connection: LanesRepository(connection).add("first", min_priority=200, max_priority=300),
            lambda: LanesRepository(database).add("second", min_priority=250, max_priority=350),
        )
    assert "second" not in {lane.name for lane in LanesRepository(database).list()}


def test_a_task_that_starts_while_its_project_is_canceled_is_settled(
    postgresql_database: Database, make_definition: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgresql_database
    project = ProjectsRepository(database).create(project_name="a", project_folder="a", tenant_id="tenant")
    definition = make_definition("projects", "projects")
    new = NewTask(id="late", tenant_id="tenant", definition=definition, scope=Scope.PROJECT, project_id=project.id)
    starting = database.engine.connect()
    TasksRepository(starting).start(new)
    lock_tasks_of = state_machine.lock_tasks_of

    def commit_after(*arguments: Any) -> list[str]:
        locked = lock_tasks_of(*arguments)
        starting.commit()
        return locked

    monkeypatch.setattr(state_machine, "lock_tasks_of", commit_after)
    canceled = JobsRepository(database).cancel_by_project(project.id)
    starting.close()

    assert [job.task_id for job in canceled] == ["late"]
    assert TasksRepository(database).get("late").status == TaskStatus.CANCELED


def test_a_job_that_is_queued_again_before_it_is_pruned_stays(
    database: Database, database_url: str, jobs: JobsRepository, clock: Any
) -> None:
    job = jobs.enqueue_with_items(tenant_id="t", type="x", items=[{"filename": "a"}] * 50)
    assert not isinstance(job, list)
    jobs.cancel(job.id)
    clock.advance(seconds=10)
    other = Database(database_url, clock=clock)
    found = threading.Event()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT jobs.id"):
            found.set()

    def requeue_after(*_: Any) -> None:
        if found.is_set():
            found.clear()
            # Requeue only after the first search, because a second search does not find the job again.
            event.remove(database.engine, "after_cursor_execute", note)
            JobsRepository(other).requeue(job.id)

    event.listen(database.engine, "after_cursor_execute", note)
    event.listen(database.engine.pool, "checkin", requeue_after)
    prune(database, older_than_seconds=1)
    other.close()

    kept = jobs.get_by_id(job.id)
    assert kept is not None
    assert (kept.status, len(jobs.list_items(job.id))) == ("queued", 50)


def test_a_job_that_is_queued_again_while_it_is_pruned_is_gone(
    postgresql_database: Database, postgresql_url: str, clock: Any
) -> None:
    database, jobs = postgresql_database, JobsRepository(postgresql_database)
    job = jobs.enqueue_with_items(tenant_id="t", type="x", items=[{"filename": "a"}] * 50)
    assert not isinstance(job, list)
    jobs.cancel(job.id)
    clock.advance(seconds=10)
    other = Database(postgresql_url, clock=clock)
    answers: list[Future[Any]] = []

    with ThreadPoolExecutor(1) as threads:

        def requeue_before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith("DELETE FROM job_items") and not answers:
                answers.append(threads.submit(JobsRepository(other).requeue, job.id))
                with other.connect() as looking:
                    wait_until(lambda: answers[0].done() or _someone_waits(looking), what="the second one waits")

        event.listen(database.engine, "before_cursor_execute", requeue_before)
        prune(database, older_than_seconds=1)
        # It is not said to be queued and then taken away.
        assert answers[0].result(60) is None
    other.close()
    assert jobs.get_by_id(job.id) is None


def test_a_project_is_removed_while_a_job_of_it_ends_and_its_task_goes_on(
    postgresql_database: Database, make_definition: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgresql_database
    project = ProjectsRepository(database).create(project_name="a", project_folder="a", tenant_id="tenant")
    definition = make_definition("projects", "projects")
    new = NewTask(id="task", tenant_id="tenant", definition=definition, scope=Scope.PROJECT, project_id=project.id)
    TasksRepository(database).start(new)
    [job] = TasksRepository(database).list_jobs("task")
    settle_task, answers = state_machine.settle_task, []

    with ThreadPoolExecutor(1) as threads:

        def remove_before(connection: Connection, *arguments: Any, **more: Any) -> Any:
            if not answers:
                answers.append(threads.submit(ProjectsRepository(database).remove, project.id))
                wait_until(lambda: answers[0].done() or _someone_waits(connection), what="the removal waits")
            return settle_task(connection, *arguments, **more)

        monkeypatch.setattr(state_machine, "settle_task", remove_before)
        with database.begin() as connection:
            JobsRepository(connection).complete(job.id)
        assert answers[0].result(30)

    assert [job.project_id for job in TasksRepository(database).list_jobs("task")] == [None, None]


def _holds(database: Database, project: Project, job: Job) -> bool:
    """Claim a project for a job; return whether the job has it now."""
    token = str(job.claim_token)
    return claim_projects(database, [project.id], job_id=job.id, claim_token=token, stale_seconds=60)


@pytest.mark.parametrize("end", ["cancel", "requeue", "complete"])
def test_a_project_stays_held_until_the_executor_of_a_job_that_was_taken_from_it_stops(
    database: Database, jobs: JobsRepository, make_project: Any, clock: Any, end: str
) -> None:
    project = make_project()
    first, second = [jobs.enqueue(tenant_id="t", type="x") and jobs.claim_next(name) for name in ("a", "b")]
    assert first is not None
    assert second is not None
    assert _holds(database, project, first)
    clock.advance(seconds=3600)
    getattr(jobs, end)(first.id)
    assert not _holds(database, project, second)
    release_projects(database, [project.id], claim_token=str(first.claim_token))
    assert _holds(database, project, second)


@pytest.mark.parametrize("removal", ["retry", "prune"])
def test_a_project_stays_held_although_the_job_whose_handler_works_there_is_removed(
    database: Database,
    tasks: TasksRepository,
    jobs: JobsRepository,
    make_project: Any,
    make_photos: Any,
    make_task: Any,
    clock: Any,
    removal: str,
) -> None:
    project = make_project()
    task = make_task("projects", photo_ids=make_photos(project, 1))
    first = jobs.claim_next("a")
    assert first is not None
    assert _holds(database, project, first)
    clock.advance(seconds=3600)
    tasks.cancel(task.id)
    clock.advance(seconds=1)
    if removal == "prune":
        prune(database, older_than_seconds=0)
        jobs.enqueue(tenant_id="tenant", type="x")
    else:
        tasks.retry(task.id, from_step=0)
    second = jobs.claim_next("b")
    assert second is not None
    assert not _holds(database, project, second)
    release_projects(database, [project.id], claim_token=str(first.claim_token))
    assert _holds(database, project, second)


@pytest.mark.parametrize("seconds", [61, -3600])
def test_a_project_of_a_canceled_job_is_free_when_its_executor_is_dead(
    database: Database, jobs: JobsRepository, make_project: Any, clock: Any, seconds: float
) -> None:
    project = make_project()
    first, second = [jobs.enqueue(tenant_id="t", type="x") and jobs.claim_next(name) for name in ("a", "b")]
    assert first is not None
    assert second is not None
    assert [_holds(database, project, job) for job in (first, second)] == [True, False]
    jobs.cancel(first.id)
    clock.set(clock() + timedelta(seconds=seconds))
    assert _holds(database, project, second)


def test_a_project_of_a_rescued_job_is_free_at_once(
    database: Database, jobs: JobsRepository, make_project: Any, clock: Any
) -> None:
    project = make_project()
    jobs.enqueue(tenant_id="t", type="x")
    dead = jobs.claim_next("dead")
    assert dead is not None
    assert _holds(database, project, dead)
    clock.advance(seconds=61)
    rescue_stale(database, stale_seconds=60, max_attempts=3)
    again = jobs.claim_next("alive")
    assert again is not None
    assert _holds(database, project, again)
