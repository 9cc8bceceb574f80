"""Numbers of rows and items at which a list of parameters, a lock or a memory would end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, text

from storage import Database, JobsRepository, TasksRepository
from storage.database.given_values import among
from storage.database.tables import jobs as job_table
from storage.database.tables import tasks as task_table
from storage.errors import TooManyItems
from tests.conftest import START

#: More than PostgreSQL, and than SQLite, takes as parameters of one statement.
MANY = 70_000


def test_a_condition_takes_any_number_of_ids_and_texts(
    database: Database, jobs: JobsRepository, make_task: Any
) -> None:
    job = jobs.enqueue(tenant_id="t", type="x")
    task = make_task("library", scope="global")
    with database.connect() as connection:
        found = connection.execute(select(job_table.c.id).where(among(job_table.c.id, range(job.id, MANY + job.id))))
        assert job.id in found.scalars().all()
        assert connection.execute(select(job_table.c.id).where(among(job_table.c.id, []))).all() == []
        names = [task.id, *map(str, range(MANY))]
        of_tasks = select(task_table.c.id).where(among(task_table.c.id, names))
        assert connection.execute(of_tasks).scalars().all() == [task.id]


@pytest.mark.slow
def test_a_task_of_very_many_jobs_is_canceled_and_retried(
    database: Database, tasks: TasksRepository, make_task: Any
) -> None:
    task = make_task("library", scope="global")
    columns = "tenant_id, type, status, created_at, scope, task_id, step_index, attempts, priority"
    numbers = (
        f"generate_series(1, {MANY}) AS numbers(n)"
        if database.is_postgresql
        else f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {MANY}) SELECT n FROM c)"
    )
    with database.begin() as connection:
        connection.execute(text(f"INSERT INTO jobs ({columns}) SELECT {columns} FROM jobs CROSS JOIN {numbers}"))
    tasks.cancel(task.id)
    assert tasks.count_jobs(task.id) == {"canceled": MANY + 1}
    tasks.retry(task.id)
    assert tasks.count_jobs(task.id) == {"queued": MANY + 1}


def _slowly(database_url: str, count: int) -> Iterator[dict[str, Any]]:
    """Items of a caller who writes to the same database between two of them."""
    other = Database(database_url, clock=lambda: START, busy_timeout_seconds=0.05)
    for number in range(count):
        if number % 1000 == 0:
            JobsRepository(other).enqueue(tenant_id="other", type="x")
        yield {"filename": f"{number}.jpg"}
    other.close()


def test_no_lock_is_held_while_the_items_of_a_caller_are_read(
    database: Database, database_url: str, jobs: JobsRepository, make_task: Any
) -> None:
    created = jobs.enqueue_with_items(tenant_id="t", type="x", items=_slowly(database_url, 4500), auto_chunk=True)
    assert isinstance(created, list)
    assert [job.progress_total for job in created] == [2000, 2000, 500]
    assert [item.filename for item in jobs.list_items(created[2].id)][-1] == "4499.jpg"
    task = make_task("items", items=_slowly(database_url, 2500))
    assert task.item_count == 2500


def test_an_endless_iterable_is_refused_at_the_first_item_too_many(jobs: JobsRepository) -> None:
    endless = itertools.repeat({"filename": "a"})
    with pytest.raises(TooManyItems, match="auto_chunk"):
        jobs.enqueue_with_items(tenant_id="t", type="x", items=endless)


def test_reading_items_keeps_no_transaction_open(database: Database, jobs: JobsRepository) -> None:
    job = jobs.enqueue_with_items(tenant_id="t", type="x", items=[{"filename": "a"}] * 3)
    assert not isinstance(job, list)
    reading = jobs.iterate_items(job.id)
    next(reading)
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert len(list(reading)) == 2
