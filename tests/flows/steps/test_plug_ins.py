"""The example package with a step type works as documented, and a broken package affects only its own steps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from storage import Database, ProjectsRepository, TasksRepository

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "photojobs-count-photos"
MODULE = (EXAMPLE / "photojobs_count_photos.py").read_text()
PROJECT = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
STEPS = PROJECT["entry-points"]["photojobs.steps"]

#: A program that runs a task as a worker does, without Prefect.
_RUN = """
from flows.process.runtime import Runtime
from flows.starting.known_definitions import known_definitions
from flows.starting.new_task import new_task
from flows.execution.worker import drain_queue
from storage import TasksRepository

with Runtime.open() as runtime, runtime.as_current():
    definition = known_definitions().get_or_raise("count_everything")
    TasksRepository(runtime.database).start(new_task(definition, task_id="counted", tenant_id="ann"))
    drain_queue(runtime=runtime)
"""


def install(site: Path, name: str, entries: Mapping[str, str], modules: Mapping[str, str]) -> None:
    """Write a package, with metadata as of an installed one, into a folder of the import path."""
    information = site / f"{name.replace('-', '_')}-1.0.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
    lines = ["[photojobs.steps]", *(f"{step} = {value}" for step, value in entries.items())]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module, text in modules.items():
        (site / module).write_text(text)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of the import path in which the example is installed."""
    folder = tmp_path / "site"
    install(folder, PROJECT["name"], STEPS, {"photojobs_count_photos.py": MODULE})
    return folder


@pytest.fixture
def environment(tmp_path: Path, site: Path, sqlite_url: str) -> dict[str, str]:
    library = tmp_path / "library"
    for name in ("fox.jpg", "fox.NEF", "notes.txt"):
        path = library / "ann" / "Iceland" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    database = Database(sqlite_url)
    ProjectsRepository(database).create(project_name="Iceland", project_folder="Iceland", tenant_id="ann")
    database.close()
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]),
        "PHOTOJOBS_DATABASE_URL": sqlite_url,
        "PHOTOJOBS_LIBRARY_ROOT": str(library),
        "PHOTOJOBS_DEFINITIONS": str(EXAMPLE / "count_everything.yaml"),
    }


def python(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def photojobs(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return python("-c", "from deployments.cli import main; main()", *arguments, environment=environment)


def test_a_definition_with_the_step_of_an_installed_package_runs_to_its_end(
    environment: dict[str, str], sqlite_url: str
) -> None:
    ran = python("-c", _RUN, environment=environment)

    assert ran.returncode == 0, ran.stderr
    database = Database(sqlite_url)
    tasks = TasksRepository(database)
    [job] = tasks.list_jobs("counted")
    assert (tasks.get("counted").status, job.type, job.status) == ("completed", "count_photos", "completed")
    assert job.result is not None
    assert job.result["counts"] == {"files": 3}
    database.close()


def test_the_step_of_an_installed_package_is_listed(environment: dict[str, str]) -> None:
    listed = photojobs("steps", "list", environment=environment)

    assert listed.returncode == 0, listed.stderr
    [line] = [line for line in listed.stdout.splitlines() if "count_photos" in line]
    assert "Counts the original files" in line
    assert listed.stderr == ""


_OTHER = MODULE.replace("Counts the", "Counts all")
_BROKEN = {
    "cannot be imported": (
        {"broken": "acme_broken:broken"},
        {"acme_broken.py": "import acme_that_is_not_there\n"},
        '"broken" of the package acme could not be loaded: ModuleNotFoundError: No module named',
    ),
    "ends the process": (
        {"broken": "acme_broken:broken"},
        {"acme_broken.py": "raise SystemExit('sorry')\n"},
        '"broken" of the package acme could not be loaded: SystemExit: sorry',
    ),
    "takes a built-in name": (
        {"trash_maintenance": "acme_trash:empty"},
        {
            "acme_trash.py": "from flows import step\n\n\n"
            '@step("trash_maintenance", unit="projects")\ndef empty(ctx):\n    """Empties everything."""\n'
        },
        'the step type "trash_maintenance" of the package acme could not be loaded: "trash_maintenance" is already the '
        "step type of",
    ),
    "takes another package's name": (
        {"count_photos": "zeta_count:count_photos"},
        {"zeta_count.py": _OTHER},
        '"count_photos" of the package',
    ),
    "is no step": (
        {"plain": "acme_plain:plain"},
        {"acme_plain.py": "def plain(ctx):\n    pass\n"},
        '"plain" of the package acme could not be loaded: acme_plain:plain is not a function with @step("plain")',
    ),
}


@pytest.mark.parametrize(
    "how",
    [how if how == "cannot be imported" else pytest.param(how, marks=pytest.mark.slow) for how in _BROKEN],
)
def test_a_broken_package_is_named_and_takes_nothing_else_down(
    how: str, environment: dict[str, str], site: Path, sqlite_url: str
) -> None:
    entries, modules, complaint = _BROKEN[how]
    install(site, "acme", entries, modules)

    listed = photojobs("steps", "list", environment=environment)
    ran = python("-c", _RUN, environment=environment)

    assert listed.returncode == 0, listed.stderr
    assert complaint in " ".join(listed.stderr.split())
    assert {"count_photos", "trash_maintenance", "manifest_check"} <= set(re.findall(r"\w+", listed.stdout))
    assert ran.returncode == 0, ran.stderr
    database = Database(sqlite_url)
    assert TasksRepository(database).get("counted").status == "completed"
    database.close()


def test_the_page_and_the_readme_show_the_code_of_the_example() -> None:
    page = (ROOT / "docs" / "how-to" / "own-step.md").read_text()
    readme = (ROOT / "README.md").read_text()

    for name in ("photojobs_count_photos.py", "pyproject.toml", "count_everything.yaml"):
        assert f"\n{(EXAMPLE / name).read_text()}```" in page, name
    assert f"```python\n{MODULE}```" in readme
