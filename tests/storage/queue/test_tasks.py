"""A task goes from its start through its steps to its end, in any order of the ends of its jobs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text, update

from storage import (
    Database,
    Job,
    JobsRepository,
    PhotoSelection,
    PhotosRepository,
    ProjectsRepository,
    Task,
    TasksRepository,
)
from storage.database.tables import jobs as job_table
from storage.database.tables import tags
from storage.database.tables import tasks as task_table
from storage.errors import InvalidValue, TaskConflict, UnknownPhoto, UnknownProject, UnknownTag, UnknownTask
from storage.lifecycle import state_machine
from storage.queue.bulk import JobFilter, cancel_jobs, retry_jobs
from storage.queue.rescue import rescue_stale
from tests.waiting import wait_until

SMALL_CHUNKS = {"unit": "items", "chunk_size": 2, "on_failure": "stop"}


@pytest.fixture
def photo_ids(make_project: Callable[..., Any], make_photos: Callable[..., list[int]]) -> list[int]:
    return make_photos(make_project("iceland"), 5)


def test_a_task_is_found_by_the_beginning_of_its_id(
    tasks: TasksRepository, make_task: Any, photo_ids: list[int]
) -> None:
    for task_id, tenant_id in (("ab%1", "tenant"), ("ab_2", "tenant"), ("ab_2x", "tenant")):
        make_task("items", photo_ids=photo_ids, task_id=task_id, tenant_id=tenant_id)

    assert tasks.whole_id("ab%") == "ab%1"
    assert tasks.whole_id("ab_2") == "ab_2"
    assert tasks.whole_id("ab_2x", tenant_id="tenant") == "ab_2x"
    with pytest.raises(
        InvalidValue, match='"ab" is the beginning of several ids: ab%1, ab_2 and others; give more characters'
    ):
        tasks.whole_id("ab")
    for beginning, tenant_id in (("", None), ("b", None), ("ab%", "other")):
        with pytest.raises(UnknownTask):
            tasks.whole_id(beginning, tenant_id=tenant_id)


def _open_jobs(tasks: TasksRepository, task: Task) -> list[Any]:
    return [job for job in tasks.list_jobs(task.id) if not job.is_final]


def _shape(tasks: TasksRepository, task: Task) -> list[tuple[int, str, int]]:
    return [(job.step_index, job.status, job.progress_total) for job in tasks.list_jobs(task.id)]


def test_a_start_writes_the_task_and_the_jobs_of_its_first_step(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int], clock: Any
) -> None:
    task = make_task(
        {**SMALL_CHUNKS, "priority": 75, "max_attempts": 4}, "projects", photo_ids=photo_ids, payload={"reason": "test"}
    )
    assert (task.status, task.step_index, task.item_count, task.scope) == ("queued", 0, 5, "photo_set")
    assert (task.type, task.label, task.priority, task.created_at) == ("tiny", "Tiny", 75, clock())
    started = tasks.list_jobs(task.id)
    assert [job.payload for job in started] == [
        {
            "reason": "test",
            "task_id": task.id,
            "task_type": "tiny",
            "source": "user",
            "chunk_index": index,
            "total_chunks": 3,
        }
        for index in range(3)
    ]
    assert [(job.progress_total, job.max_attempts, job.priority, job.chunk_index) for job in started] == [
        (2, 4, 75, 0),
        (2, 4, 75, 1),
        (1, 4, 75, 2),
    ]
    assert [item.photo_id for job in started for item in jobs.list_items(job.id)] == photo_ids
    assert all(item.filename for job in started for item in jobs.list_items(job.id))


@pytest.mark.parametrize("column", ["payload_json", "flags_json", "definition_json"])
def test_a_task_whose_row_another_program_made_unreadable_fails_and_keeps_no_other_from_ending(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, database: Database, column: str
) -> None:
    task = make_task("library", {"unit": "library", "run_if": "moved"}, "library", scope="global")
    with database.begin() as connection:
        connection.execute(update(task_table).values({column: [1]}))
        connection.execute(update(job_table).values(status="completed"))

    (stuck,) = tasks.list_stuck()
    ended = tasks.settle(stuck.id)

    assert (ended.id, ended.status) == (task.id, "failed")
    assert str(ended.error_message).startswith(
        "the definition stored with the task cannot be read"
        if column == "definition_json"
        else f"task {task.id}: {column} is not a JSON object: a list. Set this column by SQL to an object, such as "
        "{}, or start a new task."
    )
    assert tasks.list_stuck() == []


def test_starting_the_same_task_id_again_returns_the_task_that_is_there(
    tasks: TasksRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task("items", photo_ids=photo_ids, task_id="run")
    assert make_task("projects", photo_ids=photo_ids[:1], task_id="run") == task
    assert len(tasks.list_jobs("run")) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_chunk_that_finishes_last_starts_the_next_step_exactly_once(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int], order: tuple[int, ...]
) -> None:
    task = make_task(SMALL_CHUNKS, "projects", photo_ids=photo_ids)
    chunks = tasks.list_jobs(task.id)
    for index in order[:2]:
        jobs.complete(chunks[index].id)
        assert len(tasks.list_jobs(task.id)) == 3
    jobs.complete(chunks[order[2]].id)
    assert [job.step_index for job in tasks.list_jobs(task.id)] == [0, 0, 0, 1]
    assert tasks.get(task.id).step_index == 1
    for _ in range(3):
        tasks.settle(task.id)
    assert len(tasks.list_jobs(task.id)) == 4


def test_chunks_that_end_at_the_same_moment_start_the_next_step_exactly_once(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    for _ in range(5):
        task = make_task({**SMALL_CHUNKS, "chunk_size": 1}, SMALL_CHUNKS, "projects", photo_ids=photo_ids)
        while not tasks.get(task.id).is_final:
            ids = [job.id for job in _open_jobs(tasks, task)]
            with ThreadPoolExecutor(len(ids)) as threads:
                list(threads.map(jobs.complete, ids))
        assert [step for step, _, _ in _shape(tasks, task)] == [0] * 5 + [1] * 3 + [2]
        assert tasks.get(task.id).status == "completed"


def test_a_chunk_whose_end_waited_for_that_of_another_one_starts_the_next_step(
    database: Database, tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task(SMALL_CHUNKS, "projects", photo_ids=photo_ids[:4])
    first, last = tasks.list_jobs(task.id)
    with ThreadPoolExecutor(1) as threads:
        # Both end in transactions of their callers. The second began before the first was committed.
        with database.begin() as connection:
            assert JobsRepository(connection).complete(first.id) is not None
            ended = threads.submit(_complete_in_a_transaction, database, last.id)
            wait_until(lambda: _somebody_waits_for_a_lock(database), what="the last one waits for the first")
        assert ended.result(60) is not None
    assert _shape(tasks, task) == [(0, "completed", 2), (0, "completed", 2), (1, "queued", None)]


def _complete_in_a_transaction(database: Database, job_id: int) -> Job | None:
    with database.begin() as connection:
        return JobsRepository(connection).complete(job_id)


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_chunk_that_ends_while_another_one_is_being_ended_waits_for_nobody_and_the_sweep_finds_the_task(
    database: Database, tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task(SMALL_CHUNKS, "projects", photo_ids=photo_ids[:4])
    first, last = tasks.list_jobs(task.id)
    with database.begin() as connection:
        # A transaction of a caller, after which no call checks the task.
        assert JobsRepository(connection).complete(first.id) is not None
        assert jobs.complete(last.id) is not None
    assert [stuck.id for stuck in tasks.list_stuck()] == [task.id]
    tasks.settle(task.id)
    assert _shape(tasks, task) == [(0, "completed", 2), (0, "completed", 2), (1, "queued", None)]


@pytest.mark.parametrize("end", ["cancel_by_project", "bulk", "rescue"])
def test_a_chunk_that_ends_while_others_are_ended_at_once_lets_the_task_go_on(
    end: str,
    database: Database,
    tasks: TasksRepository,
    jobs: JobsRepository,
    make_task: Any,
    photo_ids: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The transaction that ends several looks at the task before the other end is committed, and again afterwards."""
    task = make_task(SMALL_CHUNKS, "projects", photo_ids=photo_ids[:4])
    first, last = tasks.list_jobs(task.id)
    jobs.claim_next("dead")
    settle_task = state_machine.settle_task

    def settle_then_end(connection: Connection, *arguments: Any, **more: Any) -> Any:
        settled = settle_task(connection, *arguments, **more)
        monkeypatch.setattr(state_machine, "settle_task", settle_task)
        if database.is_postgresql:
            assert jobs.complete(last.id) is not None
        return settled

    monkeypatch.setattr(state_machine, "settle_task", settle_then_end)
    if end == "rescue":
        rescue_stale(database, stale_seconds=-60, max_attempts=1)
    elif end == "bulk":
        cancel_jobs(database, JobFilter(ids=(first.id,)))
    else:
        with database.begin() as connection:
            connection.execute(update(job_table).where(job_table.c.id == first.id).values(project_id=1))
        jobs.cancel_by_project(1)
    if not database.is_postgresql:
        # SQLite has one writer at a time.
        assert jobs.complete(last.id) is not None
    assert tasks.list_stuck() == []
    assert tasks.get(task.id).status == ("canceled" if end != "rescue" else "failed")


def _somebody_waits_for_a_lock(database: Database) -> bool:
    if not database.is_postgresql:
        # Nothing shows who waits; a statement sees what was there when it got the lock.
        return True
    with database.connect() as connection:
        return bool(connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one())


def test_a_step_of_projects_gets_one_job_and_the_task_completes_after_its_last_step(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int], clock: Any
) -> None:
    task = make_task("items", "projects", "library", photo_ids=photo_ids)
    for step in range(3):
        (job,) = _open_jobs(tasks, task)
        assert job.step_index == step
        clock.advance(seconds=1)
        jobs.complete(job.id)
    ended = tasks.get(task.id)
    assert (ended.status, ended.finished_at, ended.error_message) == ("completed", clock(), None)
    assert tasks.count_jobs(task.id) == {"completed": 3}


def test_a_task_without_items_works_on_the_photos_of_its_project(
    jobs: JobsRepository, tasks: TasksRepository, make_task: Any, make_project: Any, make_photos: Any
) -> None:
    project, other = make_project(), make_project()
    mine = make_photos(project, 3)
    make_photos(other, 2)
    task = make_task(SMALL_CHUNKS, scope="project", project_id=project.id)
    assert task.item_count is None
    found = [item.photo_id for job in tasks.list_jobs(task.id) for item in jobs.list_items(job.id)]
    assert found == mine


def test_a_global_task_works_on_the_active_projects_of_its_tenant(
    jobs: JobsRepository, tasks: TasksRepository, make_task: Any, make_project: Any, make_photos: Any
) -> None:
    mine = make_photos(make_project(), 3)
    make_photos(make_project(archived=True), 2)
    make_photos(make_project(tenant_id="other"), 2)
    task = make_task(SMALL_CHUNKS, scope="global")
    found = [item.photo_id for job in tasks.list_jobs(task.id) for item in jobs.list_items(job.id)]
    assert found == mine


def test_pending_deletions_are_the_default_items_of_a_removal(
    jobs: JobsRepository, tasks: TasksRepository, make_task: Any, make_project: Any, make_photos: Any
) -> None:
    project = make_project()
    make_photos(project, 2)
    doomed = [
        *make_photos(project, 1, keep_jpg=0),
        *make_photos(project, 1, jpg_available=0, raw_available=1, keep_raw=0),
    ]
    make_photos(project, 1, jpg_available=0, keep_jpg=0)
    task = make_task({"unit": "items", "default_items": "pending_deletions"}, scope="project", project_id=project.id)
    found = [item.photo_id for job in tasks.list_jobs(task.id) for item in jobs.list_items(job.id)]
    assert found == doomed


def test_a_step_that_finds_no_items_gets_one_empty_job(
    tasks: TasksRepository, make_task: Any, make_project: Any
) -> None:
    task = make_task("items", scope="project", project_id=make_project().id)
    assert _shape(tasks, task) == [(0, "queued", 0)]


def test_a_photo_that_an_earlier_step_removed_is_no_item_of_the_next(
    database: Database, tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task("items", "items", photo_ids=photo_ids)
    PhotosRepository(database).remove_many(photo_ids[:2])
    jobs.complete(tasks.list_jobs(task.id)[0].id)
    (second,) = _open_jobs(tasks, task)
    assert [item.photo_id for item in jobs.list_items(second.id)] == photo_ids[2:]


def test_a_selection_picks_the_items_in_sql(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, make_project: Any, make_photos: Any
) -> None:
    project = make_project()
    failed = make_photos(project, 2, thumbnail_status="failed")
    make_photos(project, 2, thumbnail_status="generated")
    make_photos(make_project(tenant_id="other"), 1, thumbnail_status="failed")
    task = make_task("items", selection=PhotoSelection(failed_only=True))
    (job,) = tasks.list_jobs(task.id)
    assert [item.photo_id for item in jobs.list_items(job.id)] == failed
    (last,) = make_photos(project, 1, date_time_original="9999-12-31T12:00:00")
    task = make_task("items", selection=PhotoSelection(taken_from=date.max, taken_to=date.max))
    assert [item.photo_id for item in jobs.list_items(tasks.list_jobs(task.id)[0].id)] == [last]
    with pytest.raises(InvalidValue, match="selection"):
        make_task("items", selection=PhotoSelection(), items=[])


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (PhotoSelection(missing=("preview",)), ["failed", "missing", "never made"]),
        (PhotoSelection(missing=("preview",), failed_only=True), ["failed"]),
        (PhotoSelection(failed_only=True), ["failed", "other failed"]),
        (
            PhotoSelection.model_validate({"missing_preview": True, "missing_thumbnail": False}),
            ["failed", "missing", "never made"],
        ),
        (PhotoSelection(missing=("thumbnail", "preview")), ["failed", "missing", "never made", "other failed"]),
    ],
)
def test_a_photo_whose_derivative_failed_lacks_it(
    tasks: TasksRepository,
    jobs: JobsRepository,
    make_task: Any,
    make_project: Any,
    make_photos: Any,
    selection: PhotoSelection,
    found: list[str],
) -> None:
    project = make_project()
    made = {"preview_status": "generated", "thumbnail_status": "generated"}
    names = {
        make_photos(project, 1, **{**made, **statuses})[0]: name
        for name, statuses in {
            "complete": {},
            "failed": {"preview_status": "failed"},
            "missing": {"preview_status": "missing"},
            "never made": {"preview_status": None},
            "other failed": {"thumbnail_status": "failed"},
        }.items()
    }

    (job,) = tasks.list_jobs(make_task("items", selection=selection).id)

    assert sorted(names[item.photo_id] for item in jobs.list_items(job.id)) == found


def test_a_selection_by_a_tag_that_the_tenant_does_not_have_starts_nothing(
    database: Database, tasks: TasksRepository, make_task: Any, make_project: Any
) -> None:
    rows = [
        {"project_id": make_project(tenant_id=tenant_id).id, "name": name}
        for tenant_id, name in (("tenant", "best"), ("other", "theirs"))
    ]
    with database.begin() as connection:
        connection.execute(insert(tags), rows)

    with pytest.raises(UnknownTag, match=r'has the tag "bset"\. Did you mean "best"'):
        make_task("items", selection=PhotoSelection(tags=("best", "bset")))
    with pytest.raises(UnknownTag, match='"theirs"'):
        make_task("items", selection=PhotoSelection(tags=("theirs",)))

    assert tasks.list_newest() == []


def test_items_of_photos_that_do_not_exist_or_are_anothers_start_nothing(
    tasks: TasksRepository, make_task: Any, make_project: Any, make_photos: Any, photo_ids: list[int]
) -> None:
    foreign = make_photos(make_project(tenant_id="other"), 1)
    with pytest.raises(UnknownPhoto, match="2 photo ids") as refusal:
        make_task("items", photo_ids=[*photo_ids, 4711, *foreign])
    assert set(refusal.value.photo_ids) == {4711, *foreign}
    assert tasks.list_newest() == []


def test_a_project_of_another_tenant_starts_nothing(tasks: TasksRepository, make_task: Any, make_project: Any) -> None:
    project = make_project(tenant_id="other")
    for project_id in (project.id, 4711):
        with pytest.raises(UnknownProject, match=str(project_id)):
            make_task("projects", scope="project", project_id=project_id)
    assert tasks.list_newest() == []


def test_a_failure_stops_the_steps_after_it_where_the_step_says_so(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task(SMALL_CHUNKS, "projects", photo_ids=photo_ids)
    first, second, third = tasks.list_jobs(task.id)
    jobs.fail(second.id, "corrupt")
    jobs.complete(first.id)
    assert tasks.get(task.id).status != "failed"
    jobs.complete(third.id)
    ended = tasks.get(task.id)
    assert (ended.status, ended.error_message) == ("failed", "1 of 3 jobs failed")
    assert _open_jobs(tasks, task) == []


def test_a_failure_lets_the_steps_after_it_run_where_the_step_says_so(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task({**SMALL_CHUNKS, "on_failure": "continue"}, "projects", photo_ids=photo_ids)
    for job in tasks.list_jobs(task.id):
        jobs.fail(job.id, "corrupt")
    (next_job,) = _open_jobs(tasks, task)
    assert next_job.step_index == 1
    jobs.complete(next_job.id)
    ended = tasks.get(task.id)
    assert (ended.status, ended.error_message) == ("failed", "3 of 4 jobs failed")


def test_a_step_is_skipped_only_when_its_flag_was_set_to_false(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    steps = ("items", {"unit": "projects", "run_if": "moved"}, "library")

    def steps_run(task: Task) -> list[int]:
        while open_jobs := _open_jobs(tasks, task):
            jobs.complete(open_jobs[0].id)
        assert tasks.get(task.id).status == "completed"
        return [step for step, _, _ in _shape(tasks, task)]

    unset, no, yes, both = (make_task(*steps, photo_ids=photo_ids) for _ in range(4))
    tasks.set_flag(no.id, "moved", False)
    tasks.set_flag(yes.id, "moved", True)
    # One chunk sets the flag, and the other does not. The second chunk must not reset the flag.
    tasks.set_flag(both.id, "moved", True)
    tasks.set_flag(both.id, "moved", False)
    assert [steps_run(task) for task in (unset, no, yes, both)] == [[0, 1, 2], [0, 2], [0, 1, 2], [0, 1, 2]]


def test_cancel_ends_the_task_with_all_its_unfinished_jobs(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int], clock: Any
) -> None:
    task = make_task(SMALL_CHUNKS, "projects", photo_ids=photo_ids)
    first, *_ = tasks.list_jobs(task.id)
    jobs.complete(first.id)
    jobs.claim_next("worker")
    clock.advance(seconds=2)
    canceled = tasks.cancel(task.id, reason="changed my mind")
    assert (canceled.status, canceled.finished_at, canceled.error_message) == ("canceled", clock(), "changed my mind")
    assert [status for _, status, _ in _shape(tasks, task)] == ["completed", "canceled", "canceled"]
    assert tasks.cancel(task.id) == canceled
    assert jobs.claim_next("worker") is None
    with pytest.raises(UnknownTask):
        tasks.cancel("nobody")


def test_a_canceled_job_cancels_its_task_when_its_step_has_ended(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task(SMALL_CHUNKS, "projects", photo_ids=photo_ids)
    first, second, third = tasks.list_jobs(task.id)
    jobs.cancel(first.id)
    jobs.complete(second.id)
    assert not tasks.get(task.id).is_final
    jobs.complete(third.id)
    assert tasks.get(task.id).status == "canceled"
    assert len(tasks.list_jobs(task.id)) == 3


def test_a_task_goes_on_from_ends_that_other_programs_wrote_by_plain_sql(
    database: Database, tasks: TasksRepository, make_task: Any, photo_ids: list[int]
) -> None:
    done = make_task("items", "projects", photo_ids=photo_ids)
    stopped = make_task("items", "projects", photo_ids=photo_ids)
    with database.begin() as connection:
        statement = text("UPDATE jobs SET status = :status WHERE task_id = :task_id")
        connection.execute(statement, {"status": "completed", "task_id": done.id})
        connection.execute(statement, {"status": "canceled", "task_id": stopped.id})
    assert tasks.settle(done.id).step_index == 1
    assert [job.step_index for job in _open_jobs(tasks, done)] == [1]
    assert tasks.settle(stopped.id).status == "canceled"


def test_settle_of_no_task_is_refused_by_its_id(tasks: TasksRepository) -> None:
    with pytest.raises(UnknownTask, match="nobody"):
        tasks.settle("nobody")


def test_retry_runs_what_failed_again_and_leaves_what_is_done(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task(SMALL_CHUNKS, "projects", photo_ids=photo_ids)
    first, second, third = tasks.list_jobs(task.id)
    done, failed = jobs.list_items(second.id)
    jobs.update_item_status(done.id, status="done")
    jobs.update_item_status(failed.id, status="failed", message="corrupt")
    jobs.complete(first.id)
    jobs.fail(second.id, "1 item failed")
    jobs.complete(third.id)
    retried = tasks.retry(task.id)
    assert (retried.status, retried.step_index, retried.finished_at, retried.error_message) == ("queued", 0, None, None)
    (again,) = _open_jobs(tasks, task)
    assert (again.id, again.attempts, again.error_message) == (second.id, 0, None)
    assert [item.status for item in jobs.list_items(second.id)] == ["done", "pending"]
    jobs.complete(second.id)
    (next_step,) = _open_jobs(tasks, task)
    assert next_step.step_index == 1
    jobs.complete(next_step.id)
    assert tasks.get(task.id).status == "completed"


def test_retry_of_an_earlier_step_goes_through_later_ones_without_repeating_them(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task({"unit": "items", "on_failure": "continue"}, "projects", photo_ids=photo_ids)
    (first,) = tasks.list_jobs(task.id)
    jobs.fail(first.id, "no")
    (second,) = _open_jobs(tasks, task)
    jobs.complete(second.id)
    assert tasks.retry(task.id).step_index == 0
    jobs.complete(first.id)
    assert tasks.get(task.id).status == "completed"
    assert [job.id for job in tasks.list_jobs(task.id)] == [first.id, second.id]


def _with_a_failure_in_each_step(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int], *, on_failure: str
) -> tuple[Task, Job, Job]:
    """Return an ended task, whose second step has the higher priority, with the job of each step."""
    first = {"unit": "items", "on_failure": on_failure}
    task = make_task(first, {"unit": "items", "priority": 99, "on_failure": "continue"}, photo_ids=photo_ids)
    for _ in range(2):
        (job,) = _open_jobs(tasks, task)
        jobs.fail(job.id, "no") if on_failure == "continue" or job.step_index else jobs.complete(job.id)
    one, two = tasks.list_jobs(task.id)
    return task, one, two


def test_failures_of_several_steps_are_retried_in_the_order_of_the_steps(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task, first, second = _with_a_failure_in_each_step(tasks, jobs, make_task, photo_ids, on_failure="continue")
    tasks.retry(task.id)
    for job in (first, second):
        claimed = jobs.claim_next("worker")
        assert claimed is not None
        assert claimed.id == job.id
        assert jobs.claim_next("another") is None
        jobs.complete(job.id)
    assert tasks.get(task.id).status == "completed"


def test_a_retried_job_of_a_step_that_the_task_no_longer_reaches_fails(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task, first, second = _with_a_failure_in_each_step(tasks, jobs, make_task, photo_ids, on_failure="stop")
    tasks.retry(task.id)
    jobs.requeue(first.id)
    jobs.fail(first.id, "no")
    assert (tasks.get(task.id).status, _open_jobs(tasks, task)) == ("failed", [])
    assert jobs.get_by_id(second.id).error_message == (  # type: ignore[union-attr]
        f"steps[0] of its task failed, so the job did not run; `photojobs retry {task.id}` queues all failed jobs of "
        "the task again"
    )
    assert tasks.retry(task.id).step_index == 0


def test_a_run_that_follows_later_jobs_finds_the_job_to_which_a_retry_sent_the_task_back(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task("items", photo_ids=photo_ids)
    (first,) = tasks.list_jobs(task.id)
    (follow_up,) = tasks.add_follow_up(task.id, type="derive", priority=85, photo_ids=photo_ids)
    jobs.complete(first.id)
    followed = tasks.get(task.id)
    jobs.requeue(first.id)
    assert [job.id for job in tasks.unfinished_jobs(followed, limit=9)] == [first.id]
    jobs.complete(first.id)
    assert [job.id for job in tasks.unfinished_jobs(followed, limit=9)] == [follow_up]
    assert tasks.unfinished_jobs(task, limit=9) == []


def test_retry_from_a_step_runs_everything_from_there_on_anew(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task(SMALL_CHUNKS, "projects", "library", photo_ids=photo_ids)
    while open_jobs := _open_jobs(tasks, task):
        jobs.complete(open_jobs[0].id)
    before = {job.id for job in tasks.list_jobs(task.id) if job.step_index}
    assert tasks.retry(task.id, from_step=1).step_index == 1
    while open_jobs := _open_jobs(tasks, task):
        jobs.complete(open_jobs[0].id)
    after = {job.id for job in tasks.list_jobs(task.id) if job.step_index}
    assert [step for step, _, _ in _shape(tasks, task)] == [0, 0, 0, 1, 2]
    assert not before & after


def test_retry_is_refused_where_nothing_can_be_retried(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task("items", photo_ids=photo_ids)
    with pytest.raises(TaskConflict, match="queued"):
        tasks.retry(task.id)
    jobs.complete(tasks.list_jobs(task.id)[0].id)
    with pytest.raises(TaskConflict, match="nothing to retry"):
        tasks.retry(task.id)
    with pytest.raises(TaskConflict, match="give 0, the number of its only step"):
        tasks.retry(task.id, from_step=1)
    with pytest.raises(UnknownTask):
        tasks.retry("nobody")
    assert tasks.get(task.id).status == "completed"


def test_requeueing_a_job_of_an_ended_task_lets_the_task_go_on(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task({"unit": "items", "on_failure": "stop"}, "projects", photo_ids=photo_ids)
    (job,) = tasks.list_jobs(task.id)
    jobs.fail(job.id, "no")
    assert tasks.get(task.id).status == "failed"
    jobs.requeue(job.id)
    assert tasks.get(task.id).status == "queued"
    jobs.complete(job.id)
    assert [open_job.step_index for open_job in _open_jobs(tasks, task)] == [1]


def test_follow_ups_wait_for_the_last_step_and_end_the_task(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task("items", "projects", photo_ids=photo_ids)
    (follow_up,) = tasks.add_follow_up(task.id, type="derive", priority=85, photo_ids=photo_ids)
    (first, _) = tasks.list_jobs(task.id)
    assert jobs.claim_next("worker", min_priority=80) is None
    jobs.complete(first.id)
    assert jobs.claim_next("worker", min_priority=80) is None
    (second, _) = _open_jobs(tasks, task)
    jobs.complete(second.id)
    assert not tasks.get(task.id).is_final
    claimed = jobs.claim_next("worker", min_priority=80)
    assert claimed is not None
    assert (claimed.id, claimed.type, claimed.progress_total) == (follow_up, "derive", 5)
    jobs.complete(follow_up)
    assert tasks.get(task.id).status == "completed"


def test_a_photo_is_followed_up_once_however_often_it_is_asked_for(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task("items", photo_ids=photo_ids)
    a, b, c, d, e = photo_ids
    first = tasks.add_follow_up(task.id, type="derive", priority=85, photo_ids=[a, b, b])
    assert tasks.add_follow_up(task.id, type="derive", priority=85, photo_ids=[b, c]) == first
    assert tasks.add_follow_up(task.id, type="derive", priority=85, photo_ids=[a, c]) == []
    other = tasks.add_follow_up(task.id, type="postprocess", priority=85, photo_ids=[a, d])
    assert tasks.add_follow_up(task.id, type="postprocess", priority=85, photo_ids=[photo_ids[-1] + 1, e]) == other
    assert [item.photo_id for item in jobs.list_items(first[0])] == [a, b, c]
    # The other photo was removed in the meantime.
    assert [item.photo_id for item in jobs.list_items(other[0])] == [a, d, e]
    assert jobs.get_by_id(first[0]).progress_total == 3  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "value"), [("priority", 101), ("priority", 1.5), ("type", ""), ("type", 5)])
def test_a_follow_up_that_no_worker_could_run_is_refused(
    tasks: TasksRepository, make_task: Any, photo_ids: list[int], name: str, value: Any
) -> None:
    task = make_task("items", photo_ids=photo_ids)
    arguments: dict[str, Any] = {"type": "derive", "priority": 85, name: value}
    with pytest.raises(InvalidValue, match=name):
        tasks.add_follow_up(task.id, **arguments, photo_ids=photo_ids)


def test_a_photo_is_followed_up_again_if_a_retry_repeats_the_step_that_asks_for_it(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    def follow_up() -> list[int]:
        return tasks.add_follow_up(task.id, type="derive", priority=85, photo_ids=photo_ids)

    task = make_task("items", photo_ids=photo_ids)
    (job,) = tasks.list_jobs(task.id)
    (first,) = follow_up()
    jobs.fail(job.id, "no")
    # The step has ended, so a follow-up job asks.
    assert follow_up() == []
    jobs.complete(first)
    tasks.retry(task.id)
    (second,) = follow_up()
    assert second != first
    assert follow_up() == []
    jobs.complete(job.id)
    assert [open_job.id for open_job in _open_jobs(tasks, task)] == [second]


def test_follow_ups_with_another_payload_are_jobs_of_their_own(
    tasks: TasksRepository, make_task: Any, make_project: Any, make_photos: Any
) -> None:
    photo_ids = make_photos(make_project(), 2)
    task = make_task("items", photo_ids=photo_ids)
    for payload in ({"size": 1, "kind": "a"}, {"size": 2}, {"kind": "a", "size": 1}, {"size": 2}):
        tasks.add_follow_up(task.id, type="more", priority=50, photo_ids=photo_ids, payload=payload)
    follow_ups = [job for job in tasks.list_jobs(task.id) if job.type == "more"]
    assert [(job.payload["size"], job.progress_total) for job in follow_ups] == [(1, 2), (2, 2)]


def test_a_follow_up_that_was_canceled_before_its_turn_waits_for_the_steps_again_or_runs_alone(
    database: Database, tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task("items", photo_ids=photo_ids)
    (follow_up,) = tasks.add_follow_up(task.id, type="derive", priority=85, photo_ids=photo_ids)
    jobs.cancel(follow_up)
    jobs.requeue(follow_up)
    assert jobs.claim_next("worker", min_priority=85) is None
    tasks.cancel(task.id)
    # Of a task that has ended, what is asked for alone is all that runs.
    assert retry_jobs(database, JobFilter(ids=(follow_up,))) == 1
    claimed = jobs.claim_next("worker")
    assert claimed is not None
    assert claimed.id == follow_up


def test_what_happens_to_a_task_leaves_others_as_they_are(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int], clock: Any
) -> None:
    def make(name: str) -> tuple[Task, int]:
        task = make_task({"unit": "items", "on_failure": "continue"}, "projects", photo_ids=photo_ids, task_id=name)
        return task, tasks.add_follow_up(task.id, type="derive", priority=85, photo_ids=photo_ids)[0]

    def end_steps(task: Task) -> None:
        jobs.fail(tasks.list_jobs(task.id)[0].id, "no")
        jobs.complete(_open_jobs(tasks, task)[0].id)

    # Before and after it by their ids, one that is at its first step and one that is at its follow-up jobs.
    others = [make(name)[0] for name in ("a", "b", "y", "z")]
    for at_follow_ups in others[1:3]:
        end_steps(at_follow_ups)
    before = [(tasks.get(other.id), tasks.list_jobs(other.id)) for other in others]
    clock.advance(seconds=1)

    task, follow_up = make("m")
    end_steps(task)
    jobs.fail(follow_up, "no")
    assert (tasks.get(task.id).status, tasks.get(task.id).error_message) == ("failed", "2 of 3 jobs failed")
    tasks.retry(task.id)
    assert [(job.step_index, job.held_by) for job in _open_jobs(tasks, task)] == [(0, None), (2, "steps")]
    tasks.cancel(task.id)

    assert (tasks.get(task.id).status, _open_jobs(tasks, task)) == ("canceled", [])
    assert [(tasks.get(other.id), tasks.list_jobs(other.id)) for other in others] == before


def test_follow_ups_run_even_where_a_failure_stops_the_steps(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task({"unit": "items", "on_failure": "stop"}, "projects", photo_ids=photo_ids)
    (follow_up,) = tasks.add_follow_up(task.id, type="derive", priority=85, photo_ids=photo_ids)
    jobs.fail(tasks.list_jobs(task.id)[0].id, "no")
    claimed = jobs.claim_next("worker")
    assert claimed is not None
    assert claimed.id == follow_up
    jobs.complete(follow_up)
    assert tasks.get(task.id).status == "failed"


def test_unfinished_tasks_that_no_process_follows_are_found(
    tasks: TasksRepository, make_task: Any, photo_ids: list[int], clock: Any
) -> None:
    followed, forgotten, ended = (make_task("items", photo_ids=photo_ids) for _ in range(3))
    tasks.cancel(ended.id)
    clock.advance(seconds=31)
    tasks.heartbeat([followed.id])
    assert [task.id for task in tasks.list_unfollowed(silent_seconds=30)] == [forgotten.id]
    assert (tasks.get(followed.id).status, tasks.get(followed.id).started_at) == ("running", clock())
    clock.advance(seconds=31)
    assert {task.id for task in tasks.list_unfollowed(silent_seconds=30)} == {followed.id, forgotten.id}
    tasks.heartbeat([ended.id])
    assert tasks.get(ended.id).status == "canceled"
    # The process died, and then the clock was set back.
    clock.set(clock() - timedelta(hours=1))
    assert {task.id for task in tasks.list_unfollowed(silent_seconds=30)} == {followed.id, forgotten.id}


def test_tasks_that_stay_unfollowed_hide_no_later_task(
    database: Database, tasks: TasksRepository, make_task: Any, clock: Any
) -> None:
    make_task("library", scope="global")
    with database.begin() as connection:
        row = connection.execute(select(task_table)).mappings().one()
        connection.execute(insert(task_table), [{**row, "id": f"paused-{number}"} for number in range(200)])
    clock.advance(seconds=1)
    last = make_task("library", scope="global")
    clock.advance(seconds=31)
    assert tasks.list_unfollowed(silent_seconds=30)[-1].id == last.id


def test_a_flow_run_is_noted_in_the_task_and_its_open_jobs(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task("items", "projects", photo_ids=photo_ids)
    tasks.link_flow_run(task.id, "flow-run")
    jobs.complete(tasks.list_jobs(task.id)[0].id)
    assert tasks.get(task.id).flow_run_id == "flow-run"
    assert [job.flow_run_id for job in tasks.list_jobs(task.id)] == ["flow-run", "flow-run"]


def test_tasks_are_listed_newest_first_by_filter(
    tasks: TasksRepository, make_task: Any, make_definition: Any, photo_ids: list[int], clock: Any
) -> None:
    made = []
    for name in ("one", "two", "one"):
        clock.advance(seconds=1)
        made.append(make_task(definition=make_definition("items", name=name), photo_ids=photo_ids))
    tasks.cancel(made[0].id)
    assert [task.id for task in tasks.list_newest()] == [task.id for task in reversed(made)]
    assert [task.id for task in tasks.list_newest(type="one", status="queued")] == [made[2].id]
    assert [task.id for task in tasks.list_newest(limit=1, offset=1, tenant_id="tenant")] == [made[1].id]
    assert tasks.list_newest(tenant_id="other") == []
    assert tasks.get_by_id("nobody") is None


def test_the_projects_of_a_task_are_those_of_its_start(
    database: Database, make_task: Any, make_project: Any, photo_ids: list[int], make_photos: Any
) -> None:
    destination = make_project("norway")
    task = make_task("items", photo_ids=photo_ids, project_id=destination.id, scope="photo_set")
    with database.connect() as connection:
        found = connection.execute(text("SELECT project_id FROM task_projects ORDER BY 1")).scalars().all()
    source = ProjectsRepository(database).get_by_folder("iceland")
    assert source is not None
    assert found == [source.id, destination.id]
    assert task.project_id == destination.id


def test_a_selection_that_names_a_project_of_another_tenant_starts_nothing(
    tasks: TasksRepository, make_task: Any, make_project: Any, make_photos: Any
) -> None:
    own, foreign = make_project(), make_project(tenant_id="other")
    make_photos(own, 1)

    with pytest.raises(UnknownProject, match=f"project {foreign.id} does not exist"):
        make_task("items", selection=PhotoSelection(project_ids=(own.id, foreign.id)))

    assert tasks.list_newest() == []


def test_a_failed_job_that_is_queued_again_leaves_its_unfinished_task_as_it_is(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    task = make_task(SMALL_CHUNKS, photo_ids=photo_ids)
    first, *_ = tasks.list_jobs(task.id)
    tasks.heartbeat([task.id])
    jobs.fail(first.id, "no")
    before = tasks.get(task.id)
    assert before.attended_at is not None
    jobs.requeue(first.id)
    assert tasks.get(task.id) == before


def test_a_failure_that_let_its_task_go_on_stops_no_later_step(
    tasks: TasksRepository, jobs: JobsRepository, make_task: Any, photo_ids: list[int]
) -> None:
    steps = ({"unit": "items", "on_failure": "continue"}, {"unit": "projects", "on_failure": "stop"}, "library")
    task = make_task(*steps, photo_ids=photo_ids)
    (first,) = tasks.list_jobs(task.id)
    jobs.fail(first.id, "no")
    (second,) = _open_jobs(tasks, task)
    jobs.complete(second.id)
    assert [job.step_index for job in _open_jobs(tasks, task)] == [2]
