"""A small `photojobs demo` repairs the faults that it made, and a second run changes nothing."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest

from deployments.cli.commands.installation import demo
from deployments.demo.faults import BROKEN, LOST_ROWS
from deployments.demo.library import make_library
from deployments.demo.projects import LOST_DRIVE
from storage import Database, JobsRepository, ProjectsRepository
from storage.queue.tasks import TasksRepository
from storage.settings import Settings

SMALL = {"large_photos": 0}

#: The photos of the project without a folder.
LOST = [LOST_DRIVE.photo_name(index) for index in range(LOST_ROWS)]

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


def test_the_demo_repairs_its_library_and_a_second_run_changes_nothing(
    command: Callable[..., Any], place: Any, prefect_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "embedded_server", lambda _home: nullcontext(prefect_url))
    # A photo of 24 megapixels takes longer than all others, so only the test of the installed command draws one.
    monkeypatch.setattr(demo, "make_library", lambda *words, **options: make_library(*words, **options | SMALL))

    demonstrate(partial(command, PREFECT_API_URL=prefect_url), place)


@pytest.mark.slow
def test_it_does_so_as_a_command_with_a_server_of_its_own(shell: Callable[..., Any], place: Any) -> None:
    demonstrate(shell, place)


@pytest.mark.parametrize(
    ("failed", "is_expected"), [((*BROKEN, *LOST), True), (BROKEN, False), ((*BROKEN, *LOST, "IMG_4001"), False)]
)
def test_the_demo_is_a_success_only_if_exactly_the_faults_fail(
    place_database: Database, monkeypatch: pytest.MonkeyPatch, failed: tuple[str, ...], is_expected: bool
) -> None:
    ProjectsRepository(place_database).create(project_name=LOST_DRIVE.name, project_folder=LOST_DRIVE.folder)
    monkeypatch.setattr(demo, "failed_item_names", lambda *_: frozenset(failed))

    assert demo._fails_as_expected(place_database, [], demo._hopeless(place_database)) is is_expected


def demonstrate(run: Callable[..., Any], place: Any) -> None:
    before = place.files()

    first = run("demo", "--photos", 30)

    assert first.code == 0, (first.out, first.err)
    made = {name for name in place.files() - before if "/" not in name}
    assert made == {"photojobs-demo"}
    assert "Traceback" not in first.out + first.err
    assert "Warning" not in first.out + first.err
    for name in BROKEN:
        assert f"{name}.jpg" in first.out
    for repaired in ("IMPORT_0412 → Wedding of Marta and Jonas", "IMG_4001 → IMG_4001_duplicate1", "Lost drive"):
        assert repaired in first.out
    database = Database(place.folder / "photojobs-demo" / "photojobs.db")
    tasks = TasksRepository(database).list_newest()
    assert {(task.type, task.tenant_id) for task in tasks} == {
        (name, tenant) for name in ("process_photos", "maintenance_global") for tenant in ("anna", "ben")
    }
    assert all(task.status == ("failed" if task.type == "process_photos" else "completed") for task in tasks)
    failed = [job for job in JobsRepository(database).list_by_tenant("ben") if job.status == "failed"]
    assert {job.type for job in failed} == {"metadata", "generate_derivatives"}
    # The rows of this project are kept for a week, because its disk may not be mounted.
    assert "Lost drive" in {project.project_name for project in ProjectsRepository(database).list()}
    database.close()
    with pytest.MonkeyPatch.context() as environment:
        for line in first.out.splitlines():
            if line.lstrip().startswith("export "):
                [assignment] = shlex.split(line)[1:]
                environment.setenv(*assignment.split("=", 1))
        settings = Settings.load()
    assert settings.library_root.is_dir()
    assert settings.scheduled_tenants == ("anna", "ben")

    second = run("demo")

    assert second.code == 0, (second.out, second.err)
    assert "Nothing changed" in second.out
