"""`photojobs run` as a user runs it: its repairs, output and exit code, and how it stops."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.demo.projects import Shot
from deployments.demo.scenes import draw_shot
from storage import Database, PhotosRepository, ProjectsRepository, TasksRepository
from storage.library.paths import Library
from storage.library.trash import move_to_trash

Command = Callable[..., Any]

pytestmark = [pytest.mark.prefect, pytest.mark.xdist_group("deploy")]


@pytest.fixture
def broken_library(place: Any, place_database: Database) -> Database:
    """Create a small library with a file without a row, a row without a file, old trash and no manifest."""
    project = ProjectsRepository(place_database).create(project_name="Iceland", project_folder="Iceland")
    folder = Library(place.library).project("user_0", "Iceland")
    folder.create()
    for name in ("known", "unknown", "old"):
        draw_shot(Shot(path=folder.original(f"{name}.jpg"), scene_seed=1, number=1, make="Canon", model="R6"))
    move_to_trash(folder, folder.original("old.jpg"), at=project.created_at.replace(year=2001))
    PhotosRepository(place_database).create_many(
        {"project_id": project.id, "filename": name, "ext": "jpg", "jpg_available": 1} for name in ("known", "lost")
    )
    return place_database


def test_upkeep_of_a_small_broken_library_is_done_and_summed_up(
    shell: Command, command: Command, prefect_url: str, broken_library: Database, place: Any
) -> None:
    # Only the second run removes the row of a photo without a file, because a file must be missing in two runs.
    environment = {"PREFECT_API_URL": prefect_url, "PHOTOJOBS_MISSING_GRACE_SECONDS": "0"}

    ran = shell("run", "maintenance_global", **environment)

    assert ran.code == 0, ran.out + ran.err
    table = {line.split()[0]: line for line in ran.out.splitlines()}
    assert "removed: 1" in table["trash_maintenance"]
    assert "manifests written: 1" in table["manifest_check"]
    assert "added: 1" in table["folder_check"]
    assert "missing, row kept: 1" in table["manifest_cleaning"]
    assert "completed" in ran.out.splitlines()[-1]
    assert "manifest_check: 1/1 ended" in ran.err
    assert "Traceback" not in ran.err
    assert "Warning" not in ran.err
    photos = PhotosRepository(broken_library)
    assert {photo.filename for photo in photos.list_by_project(1)} == {"known", "lost", "unknown"}
    assert (place.library / "user_0" / "Iceland" / ".thumb" / "unknown.webp").is_file()

    second = command("run", "maintenance_global", "--json", **environment)

    counts = {step["type"]: step["counts"] for step in second.document["steps"] if step["counts"]}
    assert (second.code, counts) == (0, {"manifest_cleaning": {"rows removed": 1}})
    assert {photo.filename for photo in photos.list_by_project(1)} == {"known", "unknown"}

    again = command("run", "maintenance_global", "--json", **environment)

    assert (again.code, again.err) == (0, "")
    assert again.document["jobs"] == {"completed": 8}
    assert all(not step["counts"] for step in again.document["steps"])


def test_a_task_with_a_failed_photo_is_code_1_and_says_where_to_look(
    command: Command, prefect_url: str, broken_library: Database, place: Any
) -> None:
    (place.library / "user_0" / "Iceland" / "known.jpg").write_bytes(b"no longer a picture")

    ran = command("run", "generate_derivatives", "--item", 1, PREFECT_API_URL=prefect_url)

    assert ran.code == 1
    assert "known.jpg" in ran.out
    assert "1 item failed" in ran.out
    quiet = command("run", "generate_derivatives", "--item", 1, "--quiet", PREFECT_API_URL=prefect_url)
    assert (quiet.code, quiet.out, quiet.err) == (1, "", "")


def test_ctrl_c_cancels_the_task_and_leaves_in_order(
    launch: Callable[..., subprocess.Popen[str]], prefect_url: str, broken_library: Database, place: Any
) -> None:
    environment = _package_with_a_step_that_never_ends(place.folder)

    process = launch("run", "endless", PREFECT_API_URL=prefect_url, **environment)
    started = place.folder / "started"
    while not started.exists():
        assert process.poll() is None, process.communicate()
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130, (out, err)
    assert "canceling" in err
    assert "Traceback" not in out + err
    (task,) = TasksRepository(broken_library).list_newest()
    assert task.status == "canceled"
    assert TasksRepository(broken_library).count_jobs(task.id) == {"canceled": 1}


def test_a_server_that_does_not_answer_is_named_before_anything_is_written(
    command: Command, broken_library: Database
) -> None:
    ran = command("run", "maintenance_global", PREFECT_API_URL="http://127.0.0.1:9/api")

    assert ran.code == 2
    assert "http://127.0.0.1:9/api" in ran.complaints[0]
    assert TasksRepository(broken_library).list_newest() == []


def _package_with_a_step_that_never_ends(folder: Path) -> dict[str, str]:
    """Write a package with a step type and metadata as of an installed one; return the environment that has it."""
    package = folder / "package"
    information = package / "endless-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: endless\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[photojobs.steps]\nendless_wait = endless:endless_wait\n")
    (package / "endless.py").write_text(
        "import pathlib, time\n"
        "from flows import step\n"
        '@step("endless_wait", unit="projects")\n'
        "def endless_wait(ctx):\n"
        '    """Wait for the end of the job."""\n'
        f"    pathlib.Path({str(folder / 'started')!r}).touch()\n"
        "    while True:\n"
        "        ctx.checkpoint()\n"
        "        time.sleep(0.02)\n"
    )
    definition = {
        "endless": {"label": "Endless", "scope": "global", "steps": [{"type": "endless_wait", "priority": 90}]}
    }
    (folder / "endless.json").write_text(json.dumps(definition))
    return {"PYTHONPATH": str(package), "PHOTOJOBS_DEFINITIONS": str(folder / "endless.json")}
