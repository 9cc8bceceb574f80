"""Calls with a connection of the caller are part of its transaction: all of them are committed, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from storage import Database, JobsRepository, LanesRepository, PhotosRepository, ProjectsRepository, TasksRepository
from storage.errors import InvalidValue
from storage.queue.holds import HoldsRepository
from storage.queue.new_tasks import NewTask
from task_definitions import Scope

TABLES = ("jobs", "job_items", "tasks", "task_items", "task_projects", "holds", "projects", "photos", "lanes")


def _content(database: Database) -> dict[str, list[Any]]:
    with database.connect() as connection:
        return {table: connection.execute(text(f"SELECT * FROM {table} ORDER BY 1")).all() for table in TABLES}


class _GivenUp(Exception):
    pass


@pytest.fixture
def everything(database: Database, make_project: Any, make_photos: Any, make_task: Any) -> dict[str, Any]:
    project = make_project()
    photo_ids = make_photos(project, 3)
    jobs = JobsRepository(database)
    jobs.enqueue(tenant_id="tenant", type="running", project_id=project.id, priority=100)
    running = jobs.claim_next("worker")
    task = make_task({"unit": "items", "chunk_size": 2}, "projects", photo_ids=photo_ids)
    return {"project": project, "photo_ids": photo_ids, "running": running, "task": task}


CALLS: dict[str, Callable[[Any, dict[str, Any], Any], object]] = {
    "enqueue": lambda c, _e, _d: JobsRepository(c).enqueue(tenant_id="tenant", type="x"),
    "enqueue with a key": lambda c, _e, _d: JobsRepository(c).enqueue(tenant_id="tenant", type="x", unique_key="k"),
    "enqueue with items": lambda c, e, _d: JobsRepository(c).enqueue_with_items(
        tenant_id="tenant", type="x", items=[{"photo_id": i} for i in e["photo_ids"]]
    ),
    "enqueue chunks": lambda c, _e, _d: JobsRepository(c).enqueue_with_items(
        tenant_id="tenant", type="x", items=[{"filename": "a"}] * 2001, auto_chunk=True
    ),
    "claim": lambda c, _e, _d: JobsRepository(c).claim_next("w"),
    "claim in a lane": lambda c, _e, _d: JobsRepository(c).claim_next("w", lane="normal"),
    "complete": lambda c, e, _d: JobsRepository(c).complete(e["running"].id),
    "fail": lambda c, e, _d: JobsRepository(c).fail(e["running"].id, "no"),
    "cancel": lambda c, e, _d: JobsRepository(c).cancel(e["running"].id),
    "cancel by project": lambda c, e, _d: JobsRepository(c).cancel_by_project(e["project"].id),
    "requeue": lambda c, e, _d: JobsRepository(c).requeue(e["running"].id),
    "progress": lambda c, e, _d: JobsRepository(c).update_progress(e["running"].id, done=1),
    "payload": lambda c, e, _d: JobsRepository(c).update_payload(e["running"].id, {"b": 1}),
    "start": lambda c, e, d: TasksRepository(c).start(
        NewTask(
            id="new",
            tenant_id="tenant",
            definition=d,
            scope=Scope.PHOTO_SET,
            items=[{"photo_id": i} for i in e["photo_ids"]],
        )
    ),
    "cancel a task": lambda c, e, _d: TasksRepository(c).cancel(e["task"].id),
    "follow up": lambda c, e, _d: TasksRepository(c).add_follow_up(
        e["task"].id, type="x", priority=1, photo_ids=[e["photo_ids"][0]]
    ),
    "flag": lambda c, e, _d: TasksRepository(c).set_flag(e["task"].id, "flag", True),
    "hold": lambda c, _e, _d: HoldsRepository(c).hold("tenant", "tenant"),
    "lane": lambda c, _e, _d: LanesRepository(c).change("normal", slots=9),
    "project": lambda c, e, _d: ProjectsRepository(c).remove(e["project"].id),
    "photos": lambda c, e, _d: PhotosRepository(c).create_many([{"project_id": e["project"].id, "filename": "new"}]),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_callers_rollback_undoes_the_call_and_its_commit_keeps_it(
    database: Database, everything: dict[str, Any], make_definition: Any, clock: Any, name: str
) -> None:
    clock.advance(seconds=1)
    before = _content(database)
    definition = make_definition("items")
    with pytest.raises(_GivenUp):
        _call_and_give_up(database, lambda connection: CALLS[name](connection, everything, definition))
    assert _content(database) == before
    with database.begin() as connection:
        CALLS[name](connection, everything, definition)
    assert _content(database) != before


def _call_and_give_up(database: Database, call: Callable[[Any], object]) -> None:
    with database.begin() as connection:
        call(connection)
        raise _GivenUp


def test_the_clock_of_a_callers_connection_is_that_of_its_database(database: Database, clock: Any) -> None:
    clock.advance(seconds=123)
    with database.begin() as connection:
        assert JobsRepository(connection).enqueue(tenant_id="t", type="x").created_at == clock()


def test_a_start_that_is_refused_leaves_nothing_half_written(
    database: Database, make_task: Any, make_project: Any, make_photos: Any
) -> None:
    photo_ids = make_photos(make_project(), 3)
    before = _content(database)
    with pytest.raises(InvalidValue, match=r"items\[3\]"):
        make_task("items", items=[*({"photo_id": photo_id} for photo_id in photo_ids), {"photo_id": "x"}])
    assert _content(database) == before


def test_a_lane_is_added_inside_a_callers_transaction(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("DELETE FROM lanes"))
        assert LanesRepository(connection).add("all", min_priority=0, max_priority=100, slots=1).slots == 1
    assert [lane.name for lane in LanesRepository(database).list()] == ["all"]
