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
from flows.starting.new_task import new_task
from flows.starting.start_targets import check_targets
from storage import Database, PhotosRepository, ProjectsRepository, TasksRepository
from storage.errors import ArchivedProject, UnknownTenant
from storage.library.errors import LibraryUnavailable
from storage.photos.photo_selection import PhotoSelection
from task_definitions import PhotojobsError, load_definitions
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


def asked_by_a_command(runtime: Runtime, type: str, **asked: Any) -> None:
    """Make the checks that a command makes before it starts a task."""
    check_targets(new_task(load_definitions()[type], **asked), runtime.database)


def test_a_command_refuses_a_tenant_without_a_project_and_a_folder_except_to_undo_and_to_go_on(
    runtime: Runtime,
) -> None:
    start_task(type="maintenance_global", tenant_id="anna", task_id="upkeep")
    ProjectsRepository(runtime.database).remove(1)
    shutil.rmtree(runtime.library.root / "anna")

    with pytest.raises(UnknownTenant, match='"anna" has neither a project nor a folder'):
        asked_by_a_command(runtime, "maintenance_global", tenant_id="anna")
    asked_by_a_command(runtime, "maintenance_global", tenant_id="anna", task_id="upkeep")
    asked_by_a_command(runtime, "undo", tenant_id="anna", payload={"undo": "upkeep"})


def test_without_the_disk_of_the_library_no_tenant_is_called_unknown(runtime: Runtime, tmp_path: Path) -> None:
    ProjectsRepository(runtime.database).remove(1)
    asked_by_a_command(runtime, "maintenance_global", tenant_id="anna")

    root = runtime.library.root
    root.rename(tmp_path / "disk")
    for _ in ("the root is missing", "the root is an empty mount point"):
        with pytest.raises(LibraryUnavailable, match="is missing or empty"):
            asked_by_a_command(runtime, "maintenance_global", tenant_id="anna")
        asked_by_a_command(runtime, "maintenance_global", tenant_id="ben")
        root.mkdir(exist_ok=True)


def test_a_command_refuses_an_archived_project_unless_a_step_works_on_it_or_the_task_exists(runtime: Runtime) -> None:
    start_task(type="maintenance", tenant_id="anna", project_id=1, task_id="before")
    ProjectsRepository(runtime.database).archive(1)

    with pytest.raises(ArchivedProject, match=r"project 1 \(.*\) is archived"):
        asked_by_a_command(runtime, "maintenance", tenant_id="anna", project_id=1)
    asked_by_a_command(runtime, "maintenance", tenant_id="anna", project_id=1, task_id="before")
    asked_by_a_command(runtime, "project_delete", tenant_id="anna", project_id=1)
