"""The help pages: complete, right in what they show as examples, and free of charge."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from deployments.cli.command_line import COMMANDS, build_app
from deployments.cli.options.exit_codes import OF_COMMANDS
from deployments.cli.output.examples import EXAMPLES
from deployments.cli.output.help_pages import CommandPage, command_pages
from storage import Database, JobsRepository, PhotosRepository, ProjectsRepository, TasksRepository
from tests.loaded_packages import loaded_by

Command = Callable[..., Any]

#: Commands that do not end, or need a Prefect server or another database. Their examples are only parsed here.
PARSED_ONLY = (
    "init",
    "completion",
    "demo",
    "run",
    "undo",
    "up",
    "serve",
    "worker",
    "deploy",
    "status --watch",
    "definitions diff",
    "db restore",
    "db downgrade",
)


def _pages() -> dict[str, CommandPage]:
    return {" ".join(page.path): page for page in command_pages(build_app())}


def _words(line: str) -> list[str]:
    """Return the words that the shell gives to the command in an example."""
    words = shlex.split(line.partition("|")[0].partition(">")[0].replace("<(", " ").removesuffix(")"))
    return words[words.index("photojobs") + 1 :]


def test_every_command_and_group_has_a_page_with_examples_of_itself() -> None:
    pages = _pages()

    assert len(pages) > 30
    for name, page in pages.items():
        assert page.summary.endswith("."), name
        assert page.examples, f"{name}: give it an example in deployments/cli/output/examples.py"
        assert all(f"photojobs {name}".rstrip() in line for line in page.examples.values()), name
        assert all(option.says for option in page.options), name
        # These lines have no hanging indent, so a terminal of 80 columns must not fold them.
        assert all(len(f"  130  {text}") <= 80 for text in (*page.examples, *page.exit_codes.values())), name
        assert all(len(f"  {line}") <= 80 for line in page.examples.values()), name
    assert EXAMPLES.keys() | OF_COMMANDS.keys() <= pages.keys(), "examples of a command that does not exist"


def test_a_page_above_says_of_a_command_what_its_own_page_says_first() -> None:
    pages = _pages()

    for group in COMMANDS.values():
        for name, _, summary in group:
            assert pages[name].summary == summary


def test_help_shows_options_examples_and_exit_codes_in_order(command: Command) -> None:
    ran = command("run", "--help")

    assert (ran.code, ran.err) == (0, "")
    parts = ("Usage: photojobs run", "--in-project STR...", "--quiet -q", "Examples:\n  # ", "Exit codes:\n  0    ")
    places = [ran.out.index(part) for part in parts]
    assert places == sorted(places)
    assert "  photojobs run maintenance --project 1\n" in ran.out
    assert "Examples:\n" in command("jobs", "--help").out
    assert "Examples:\n" in command("jobs", "why", "--help").out
    assert "Settings come from" in command("--help").out
    (complaint,) = command("jbos", "--help").complaints
    assert complaint == '"jbos" is not a command. Did you mean "jobs"? `photojobs --help` lists all.'


@pytest.fixture
def full_place(command: Command, place: Any, place_database: Database) -> str:
    """Create what examples name: two projects, photos, jobs and a task; return the id of the task."""
    projects, jobs = ProjectsRepository(place_database), JobsRepository(place_database)
    for name in ("Iceland", "Norway"):
        project = projects.create(project_name=name, project_folder=name)
        (place.library / "user_0" / name).mkdir(parents=True)
        photos = [{"project_id": project.id, "filename": f"photo_{number}"} for number in range(3)]
        PhotosRepository(place_database).create_many(photos)
    with place_database.begin() as connection:
        connection.exec_driver_sql("UPDATE photos SET date_time_original = '2025-07-01T12:00:00.000Z'")
    for _ in range(4):
        jobs.fail(jobs.enqueue(tenant_id="user_0", type="metadata", project_id=1).id, "no")
    (place.folder / "own.yaml").write_text(
        "nightly:\n  label: Nightly\n  scope: global\n  steps: [{type: manifest_check, priority: 95}]\n"
    )
    task_id: str = command("start", "maintenance", "--project", 2).out.strip()
    assert TasksRepository(place_database).get(task_id).type == "maintenance"
    return task_id


def test_defaults_are_shown_as_people_write_them(command: Command) -> None:
    for name in _pages():
        page = command(*name.split(), "--help").out
        assert not re.search(r"default: (\(\)|False|None)\]|--no-(once|json|watch)", page), name


def test_every_example_does_what_it_says(command: Command, full_place: str) -> None:
    app, seen = build_app(), set()
    for name, examples in EXAMPLES.items():
        for line in examples.values():
            if line in seen:
                continue
            seen.add(line)
            words = [full_place if word == "TASK" else word for word in _words(line)]
            if " ".join(words).startswith(PARSED_ONLY):
                _, _, unused, _ = app.parse_known_args(words)
                assert not unused, f"{name}: {line}: {unused}"
                continue
            if name == "retry":
                command("cancel", full_place)
            ran = command(*words)
            assert ran.code == 0, f"{name}: {line}: {ran.err}"


def test_the_page_of_no_command_costs_an_import_of_prefect_or_of_a_decoder() -> None:
    program = (
        "from deployments.cli.command_line import build_app\n"
        "from deployments.cli.output.help_pages import command_pages\n"
        "assert len(list(command_pages(build_app()))) > 30"
    )
    assert loaded_by(program, "prefect", "pyvips", "fastapi", "alembic") == []


def test_help_imports_neither_prefect_nor_the_database() -> None:
    program = "from deployments.cli.command_line import run_command_line\nassert run_command_line(['--help']) == 0"
    assert loaded_by(program, "prefect", "sqlalchemy", "pyvips", "flows", "storage") == []
