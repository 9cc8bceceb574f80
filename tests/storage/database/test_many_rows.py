"""Calls work with more rows and items than a parameter list, a lock or the memory could hold at once."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from sqlalchemy import select, text

from deployments.status.listed_rows import item_counts
from storage import (
    MAX_ITEMS_PER_JOB,
    Database,
    JobsRepository,
    PhotoSelection,
    ProjectsRepository,
    TasksRepository,
)
from storage.database.given_values import among
from storage.database.tables import jobs as job_table
from storage.database.tables import tasks as task_table
from storage.errors import InvalidValue, TooManyItems, UnknownProject, UnknownTag
from tests.conftest import START

#: More values than PostgreSQL or SQLite accepts as parameters of one statement.
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


def test_a_selection_names_any_number_of_projects_and_tags(
    database: Database, make_project: Any, make_photos: Any
) -> None:
    project = make_project()
    photo_ids = make_photos(project, 2)
    projects = ProjectsRepository(database)
    many, names = range(project.id, MANY + project.id), tuple(map(str, range(MANY)))
    with database.connect() as connection:
        of_projects = PhotoSelection(project_ids=tuple(many)).statement("tenant")
        assert sorted(connection.execute(of_projects).scalars()) == photo_ids
        assert connection.execute(PhotoSelection(tags=names).statement("tenant")).all() == []
    assert projects.list(ids=many) == [project]
    with pytest.raises(UnknownProject, match=str(project.id + 1)):
        projects.find_all(many, tenant_id="tenant")
    with pytest.raises(UnknownTag):
        projects.check_tags(names, tenant_id="tenant")
    assert item_counts(database, list(many)) == {}


def test_a_statement_of_too_many_parameters_is_wrong_and_not_a_database_that_is_away(
    postgresql_database: Database,
) -> None:
    statement = select(job_table.c.id).where(job_table.c.id.in_(range(MANY)))
    with pytest.raises(InvalidValue, match="number of parameters"), postgresql_database.connect() as connection:
        connection.execute(statement)


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


def test_the_jobs_of_a_step_are_never_all_in_memory(make_task: Any) -> None:
    items = [{"filename": "a"}] * 400
    tracemalloc.start()
    try:
        task = make_task({"unit": "items", "chunk_size": 1}, items=items, payload={"note": "x" * 20_000})
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert task.item_count == 400


def _slowly(database_url: str, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield items; between two items, write to the same database, as a caller may do."""
    other = Database(database_url, clock=lambda: START, busy_timeout_seconds=0.05)
    for number, item in enumerate(items):
        if number % 1000 == 0:
            JobsRepository(other).enqueue(tenant_id="other", type="x")
        yield item
    other.close()


def test_no_lock_is_held_while_the_items_of_a_caller_are_read(
    database_url: str, jobs: JobsRepository, make_task: Any
) -> None:
    names = [{"filename": f"{number}.jpg"} for number in range(4500)]
    created = jobs.enqueue_with_items(tenant_id="t", type="x", items=_slowly(database_url, names), auto_chunk=True)
    assert isinstance(created, list)
    assert [job.progress_total for job in created] == [2000, 2000, 500]
    assert [item.filename for item in jobs.list_items(created[2].id)][-1] == "4499.jpg"
    task = make_task("items", items=_slowly(database_url, names[:2500]))
    assert task.item_count == 2500


def test_an_endless_iterable_is_refused_at_the_first_item_too_many(jobs: JobsRepository) -> None:
    def endless() -> Iterator[dict[str, Any]]:
        for number in itertools.count():
            assert number <= MAX_ITEMS_PER_JOB, "it is read on"
            yield {"filename": "a"}

    with pytest.raises(TooManyItems, match="auto_chunk"):
        jobs.enqueue_with_items(tenant_id="t", type="x", items=endless())


def test_reading_items_keeps_no_transaction_open(database: Database, jobs: JobsRepository) -> None:
    job = jobs.enqueue_with_items(tenant_id="t", type="x", items=[{"filename": "a"}] * 3)
    assert not isinstance(job, list)
    reading = jobs.iterate_items(job.id)
    next(reading)
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert len(list(reading)) == 2
