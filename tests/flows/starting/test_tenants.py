"""No value of a parameter changes a row or a file of another tenant."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import start_task
from flows.execution.worker import drain_queue
from flows.process.runtime import Runtime
from storage import Database, PhotosRepository, ProjectsRepository, TasksRepository
from storage.errors import UnknownTenant
from storage.photos.photo_selection import PhotoSelection
from task_definitions import PhotojobsError
from tests.flows.conftest import quick_settings


@pytest.fixture
def runtime(sqlite_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A library of `anna` and `ben`: each has a project `Alps` with the photo `ridge`; anna's is marked for removal."""
    settings = quick_settings(tmp_path, database_url=sqlite_url)
    database = Database(sqlite_url)
    for tenant, folder in (("anna", "alps"), ("ben", "harbour")):
        project = ProjectsRepository(database).create(project_name="Alps", project_folder=folder, tenant_id=tenant)
        PhotosRepository(database).create_many(
            [{"project_id": project.id, "filename": "ridge", "jpg_available": 1, "keep_jpg": int(tenant == "ben")}]
        )
        place = settings.library_root / tenant / folder
        place.mkdir(parents=True)
        (place / "ridge.jpg").write_bytes(tenant.encode())
    with Runtime(database, settings=settings) as opened, opened.as_current():
        yield opened


def of_anna(runtime: Runtime) -> Any:
    with runtime.database.connect() as connection:
        rows = [
            connection.exec_driver_sql(statement).fetchall()
            for statement in ("SELECT * FROM projects WHERE id = 1", "SELECT * FROM photos WHERE id = 1")
        ]
    root = runtime.library.root / "anna"
    return rows, {path.relative_to(root): path.is_file() and path.read_bytes() for path in root.rglob("*")}


@pytest.mark.parametrize(
    "asked",
    [
        {"type": "project_delete", "project_id": 1},
        {"type": "change_commit", "project_id": 1},
        {"type": "change_commit", "project_id": 2, "payload": {"project_id": 1, "tenant_id": "anna"}},
        {"type": "change_commit_all", "items": [{"photo_id": 1}]},
        {"type": "change_commit_all", "project_id": 1, "items": [{"filename": "ridge"}]},
        {"type": "change_commit_all", "select": PhotoSelection(project_ids=(1,))},
        {"type": "change_commit_all", "select": PhotoSelection(every_photo=True)},
        {"type": "image_move", "project_id": 1, "items": [{"photo_id": 2}]},
        {"type": "image_move", "project_id": 2, "items": [{"photo_id": 1}]},
        {"type": "maintenance_global"},
        {"type": "maintenance_global", "tenant_id": "../anna"},
        {"type": "maintenance_global", "tenant_id": "ben/../anna"},
        {"type": "folder_discovery", "tenant_id": "./anna"},
        {"type": "folder_discovery", "tenant_id": "anna/"},
    ],
    ids=lambda asked: " ".join(str(value) for value in asked.values()),
)
def test_nothing_of_another_tenant_is_changed_by_any_parameter(runtime: Runtime, asked: dict[str, Any]) -> None:
    before = of_anna(runtime)

    try:
        start_task(**({"tenant_id": "ben"} | asked))
    except PhotojobsError:
        assert TasksRepository(runtime.database).list_newest() == []
    drain_queue(runtime=runtime)

    assert of_anna(runtime) == before


@pytest.mark.parametrize(
    "asked",
    [
        {"project_id": 1, "items": [{"photo_id": 2}]},
        {"items": [{"photo_id": 1}]},
        {"select": PhotoSelection(project_ids=(2, 1))},
    ],
    ids=["project", "item", "selection"],
)
def test_what_is_another_tenants_is_as_unknown_as_what_does_not_exist(runtime: Runtime, asked: dict[str, Any]) -> None:
    with pytest.raises(PhotojobsError, match="does not exist"):
        start_task(type="change_commit_all", tenant_id="ben", **asked)

    assert TasksRepository(runtime.database).list_newest() == []


def test_a_tenant_without_a_project_and_a_folder_can_only_undo_and_go_on(runtime: Runtime) -> None:
    start_task(type="maintenance_global", tenant_id="anna", task_id="upkeep")
    TasksRepository(runtime.database).cancel("upkeep")
    ProjectsRepository(runtime.database).remove(1)
    shutil.rmtree(runtime.library.root / "anna")

    with pytest.raises(UnknownTenant, match='"anna" has neither a project nor a folder'):
        start_task(type="maintenance_global", tenant_id="anna")
    again = start_task(type="maintenance_global", tenant_id="anna", task_id="upkeep")
    undone = start_task(type="undo", tenant_id="anna", payload={"undo": "upkeep"})

    assert {task.id for task in TasksRepository(runtime.database).list_newest()} == {again.task_id, undone.task_id}


def test_a_tenant_that_is_created_in_the_same_transaction_is_known(runtime: Runtime) -> None:
    with runtime.database.begin() as connection:
        ProjectsRepository(connection).create(project_name="New", project_folder="new", tenant_id="carl")
        started = start_task(type="maintenance_global", tenant_id="carl", connection=connection)

    assert TasksRepository(runtime.database).get(started.task_id).tenant_id == "carl"
