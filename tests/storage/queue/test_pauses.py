"""A pause in Prefect holds the task, so none of its jobs runs; a hold of a user is not changed."""

from __future__ import annotations

from typing import Any

from storage import Database, JobsRepository, TasksRepository
from storage.queue.holds import HoldsRepository
from storage.queue.pauses import PAUSED_IN_PREFECT, pause_task, resume_paused_task


def test_a_pause_takes_running_jobs_back_and_holds_all_until_it_ends(
    database: Database, tasks: TasksRepository, jobs: JobsRepository, make_task: Any, make_project: Any
) -> None:
    make_project()
    task = make_task("projects", scope="global")
    claimed = jobs.claim_next("w")
    assert claimed is not None

    pause_task(database, task.id)
    pause_task(database, task.id)

    (job,) = tasks.list_jobs(task.id)
    assert (job.status, job.held_by, job.attempts) == ("queued", "task", claimed.attempts)
    assert jobs.complete(claimed.id, claim_token=claimed.claim_token) is None
    assert jobs.claim_next("w") is None
    assert [hold.reason for hold in HoldsRepository(database).list("task")] == [PAUSED_IN_PREFECT]

    resume_paused_task(database, task.id)

    assert HoldsRepository(database).list("task") == []
    again = jobs.claim_next("w")
    assert again is not None
    assert again.id == claimed.id


def test_a_pause_leaves_a_users_hold_and_ended_tasks_as_they_are(
    database: Database, tasks: TasksRepository, make_task: Any, make_project: Any
) -> None:
    make_project()
    holds = HoldsRepository(database)
    held, ended = make_task("projects", scope="global"), make_task("projects", scope="global")
    holds.hold("task", held.id)
    tasks.cancel(ended.id)

    for task in (held, ended):
        pause_task(database, task.id)
    resume_paused_task(database, held.id)

    assert [hold.name for hold in holds.list("task")] == [held.id]
