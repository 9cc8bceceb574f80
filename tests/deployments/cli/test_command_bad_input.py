"""Each error in a command line is reported in one line, with exit code 2, and nothing is written."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cyclopts import CoercionError, CycloptsError

from deployments.cli.command_line import build_app
from deployments.cli.options.errors import BadInput
from deployments.cli.output.help_pages import CommandPage, command_pages
from flows.errors import RunBroken
from flows.execution.plain_run import run_plainly
from storage import Database, PhotosRepository, ProjectsRepository, TasksRepository
from storage.errors import DatabaseUnavailable
from storage.settings import InvalidSettings
from tests.deployments.conftest import PHOTOJOBS

Command = Callable[..., Any]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("runn maintenance", 'Did you mean "run"?'),
        ("jobs lst", '"lst"'),
        ("--json status", '"--json" is not a command. Options follow their command. `photojobs --help` lists all.'),
        ("run maintenance_globl", 'Did you mean "maintenance_global"?'),
        ("run maintenance", "Give the project's name or id with --project"),
        ("run maintenance_global --project 3", "leave --project out"),
        ("run maintenance_global --all", "takes no photos"),
        ("run maintenance_global --scope project", 'runs with scope "global"'),
        ("run process_photos", "or select photos with --in-project, --tag, "),
        ("run process_photos --project 1", "or select photos with --tag, "),
        ("run process_photos --all --item 4", "not both"),
        ("run process_photos --from 2025-02-01 --to 2025-01-01", "--from 2025-02-01 is after --to 2025-01-01"),
        ("run process_photos --all --payload {", "is not well-formed JSON"),
        ("run process_photos --all --payload [1]", "--payload: a list is not a JSON object"),
        ("run process_photos --items-file nowhere.txt", "cannot be read"),
        ("run process_photos --missing everything", "thumbnail"),
        ("run process_photos --nonsense", "--nonsense"),
        (
            "db downgrade 0008",
            'unexpected: "0008". Did you mean --revision 0008? Usage: photojobs db downgrade [OPTIONS]. '
            "`photojobs db downgrade --help` shows the options.",
        ),
        ("run maintenance project Iceland", 'unexpected: "project", "Iceland". Did you mean --project Iceland?'),
        ("run maintenance Iceland", 'unexpected: "Iceland". Did you mean --project Iceland?'),
        ("run process_photos 1 2", 'unexpected: "1", "2". Did you mean --project 1?'),
        ("jobs list failed", 'unexpected: "failed". Did you mean --status failed?'),
        ("jobs show", "ID requires an argument. Usage: photojobs jobs show [OPTIONS] ID."),
        ("steps list all", 'unexpected: "all". Usage: photojobs steps list [OPTIONS].'),
        ("run", "NAME"),
        ("start nothing_such", "is not a definition"),
        ("status", "this database does not exist"),
        ("jobs list --status bogus", "queued"),
        ("definitions show nothing_such", "is not a definition"),
        ("definitions lint nowhere", "does not exist"),
        ("steps show manifest_chek", 'Did you mean "manifest_check"?'),
        ("lanes set normal", "nothing to change"),
        ("undo 5", "no terminal to ask for a confirmation"),
        ("undo 5 --yes", "this database does not exist"),
        ("run undo", "no task to undo is given"),
        ("run image_move --item 1", "Give the project that receives them with --project"),
        ("report --json --output x.html", "--json cannot be used with --output"),
        ("definitions graph maintenance --json --output x.svg", "--json cannot be used with --output"),
        (
            "deploy --pool p --write-prefect-yaml x.yaml --dry-run --image i",
            "--write-prefect-yaml cannot be used with --image or --dry-run. "
            "Leave out either --write-prefect-yaml, or --image and --dry-run.",
        ),
        ("status --quiet --verbose", "--quiet cannot be used with --verbose"),
        ("status --times 2", "--times needs --watch"),
        ("db prune --older-than-days -1", 'Invalid value "-1.0" for --older-than-days. Must be >= 0.'),
        ("db prune --older-than-days nan", 'Invalid value "nan" for --older-than-days'),
        ("up --port 65536", 'Invalid value "65536" for --port. Must be <= 65535.'),
        ("jobs why", "ID"),
        ("jobs why five", "five"),
        ("jobs why 5", "this database does not exist"),
        ("jobs retry", "which jobs?"),
        ("jobs cancel", "which jobs?"),
        (f"jobs why {'x' * 300}", f'ID: unable to convert "{"x" * 60}…" into int'),
        (f"run process_photos --from {'x' * 300}", f'--from: unable to convert "{"x" * 60}…" into date'),
        (f"jobs list --status {'x' * 300}", f'Invalid value "{"x" * 60}…" for --status'),
        (f"jobs show 1 {'x' * 300}", f'unexpected: "{"x" * 59}…. Usage'),
        (f"jobs list {'x' * 300}", f'unexpected: "{"x" * 59}…. Usage'),
        (f"jobs list --{'x' * 300}", f"Unknown option: --{'x' * 58}…. Usage"),
        (f"jobs list --{'x' * 300}=5", f"Unknown option: --{'x' * 58}…. Usage"),
        (f"report --photos {'x' * 300}", f'--photos: unable to convert "{"x" * 60}…" into int'),
        (f"db prune --older-than-days {'x' * 300}", f'unable to convert "{"x" * 60}…" into float'),
        ("jobs cancel 2.6", 'IDS: unable to convert "2.6" into int'),
        ("run image_move --project 1 --item 1 2.6", '--item: unable to convert "2.6" into int'),
        ("jobs show 9223372036854775808", "Give a whole number from -9223372036854775807 to 9223372036854775807."),
        (f"jobs cancel 2 -{'9' * 30}", "Give a whole number from -9223372036854775807 to 9223372036854775807."),
        (f"run image_move --project 1 --item {'9' * 30}", "--item: "),
        ("lanes set normal --slots 2.0", '--slots: unable to convert "2.0" into int'),
        ("db restore \x1b[31mred", "\\x1b[31mred: the file does not exist"),
        (f"db restore {'x' * 300}", "xxx: File name too long. Check the path"),
    ],
)
def test_a_wrong_command_line_costs_one_line_and_writes_nothing(
    command: Command, place: Any, line: str, said: str
) -> None:
    before = place.files()

    ran = command(*line.split())

    assert ran.code == 2
    assert len(ran.complaints) == 1
    assert said in ran.complaints[0]
    assert ran.out == ""
    assert place.files() == before


def _with_fractions(page: CommandPage) -> Iterator[tuple[str, ...]]:
    """Yield command lines of a command; each has 2.6 for an option or an argument that takes a whole number."""
    required = tuple("1" for one in page.options if one.is_required and one.is_argument)
    for one in page.options:
        if one.takes.startswith("INT"):
            yield (*page.path, "2.6") if one.is_argument else (*page.path, *required, one.names[0], "2.6")


def test_a_fraction_is_no_id_and_no_number_of_things() -> None:
    lines = [line for page in command_pages(build_app()) for line in _with_fractions(page)]
    assert {("jobs", "cancel", "2.6"), ("run", "--item", "2.6"), ("jobs", "items", "1", "--limit", "2.6")} <= set(lines)
    taken = []

    for line in lines:
        with suppress(CoercionError):
            # The command is only parsed, because a command that accepted the number would start a server or a worker.
            build_app().parse_args(line, exit_on_error=False, print_error=False)
            taken.append(line)

    assert taken == []


def _with_empty_values(page: CommandPage) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield command lines with an empty value; the name of the option or argument comes first."""
    required = tuple("1" for one in page.options if one.is_required and one.is_argument)
    for one in page.options:
        if one.takes and one.is_argument:
            yield one.names[0], (*page.path, "")
        elif one.takes:
            yield one.names[0], (*page.path, *required, one.names[0], " ")


def test_an_empty_value_is_refused_by_its_name() -> None:
    app = build_app()
    lines = dict(line for page in command_pages(app) for line in _with_empty_values(page))
    lines |= {"--into": ("init", "photos", "--into="), "IDS": ("jobs", "retry", "1", "")}
    assert {"--revision", "--project", "--reason", "--save", "--from", "TASK"} <= set(lines)
    refused = {}

    for name, line in lines.items():
        # The command is only parsed, because a command that accepted the value would write files.
        with pytest.raises(BadInput) as caught:
            app.parse_args(line, exit_on_error=False, print_error=False)
        refused[name] = str(caught.value)

    assert refused == {
        name: f"{name}: the value is empty. Give a value; a shell variable that is not set is empty, too."
        for name in lines
    }


def test_the_word_null_is_a_text_or_refused_and_never_counts_as_not_given() -> None:
    app = build_app()
    lines = dict(line for page in command_pages(app) for line in _with_empty_values(page))
    assert {"--status", "--item", "--from", "--missing", "--layout"} <= set(lines)
    lost = []

    for name, (*line, _) in lines.items():
        with suppress(CycloptsError, BadInput):
            _, bound, _ = app.parse_args((*line, "null"), exit_on_error=False, print_error=False)
            if "null" not in repr(bound.arguments):
                lost.append(name)

    assert lost == []
    with pytest.raises(BadInput, match=r"^--from: None is no value\. Give a value, or leave --from out\.$"):
        app.parse_args(("run", "x", "--from", "None"), exit_on_error=False, print_error=False)


@pytest.mark.parametrize("line", [("definitions", "lint", ""), ("cancel", ""), ("init", "library", "--into", "")])
def test_a_command_with_an_empty_value_writes_nothing(command: Command, place: Any, line: tuple[str, ...]) -> None:
    before = place.files()

    ran = command(*line)

    assert (ran.code, len(ran.complaints), place.files()) == (2, 1, before)
    assert "the value is empty" in ran.complaints[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run maintenance --project 99", "project 99 does not exist"),
        ("run maintenance --project 1 --tenant stranger", '"stranger" has neither a project nor a folder'),
        ("run maintenance_global --tenant stranger", '"stranger" has neither a project nor a folder'),
        ("plan folder_discovery --tenant user_1", 'Did you mean "user_0"?'),
        ("run process_photos --item 1 77", "77"),
        ("start process_photos --item 1 --tenant stranger", '"stranger" has neither a project nor a folder'),
        ("run maintenance --project 2", "project 2 (Old) is archived, and maintenance works only on active projects"),
        ("plan change_commit --project 2", "project 2 (Old) is archived"),
        ("start process_photos --project 2 --all", "project 2 (Old) is archived"),
        ("start process_photos --in-project 1 2", "project 2 (Old) is archived"),
        ("start process_photos --project 1 --in-project 2", "--project cannot be used with --in-project"),
        ("run image_move --project 2 --item 1", "project 2 (Old) is archived"),
        ("run maintenance --project ²", "no project of tenant user_0"),
        (f"run maintenance --project {'9' * 30}", "no project of tenant user_0"),
        ("jobs list --project ²", "no project of tenant user_0"),
        (f"jobs cancel --project {'9' * 30}", "no project of tenant user_0"),
        ("jobs show 5", "job 5 does not exist"),
        ("jobs why 5", "job 5 does not exist"),
        ("jobs retry 5", "job 5 does not exist"),
        ("jobs show 5 --tenant anna", "job 5 of tenant anna does not exist"),
        (f"jobs show 5 --tenant {'a' * 300}", f"job 5 of tenant {'a' * 60}… does not exist"),
        ("jobs items 5", "job 5 does not exist"),
        ("cancel nothing", "task nothing does not exist"),
        ("retry nothing", "task nothing does not exist"),
        ("hold lane fast", '"fast" is not a lane'),
        ("hold task nothing", "task nothing does not exist"),
        ("lanes set fast --slots 2", '"fast" is not a lane'),
        ("lanes set normal --slots -2", "slots"),
        (f"cancel {'x' * 300}", f"task {'x' * 60}… does not exist"),
        (f"run maintenance --project {'x' * 300}", f'is called "{"x" * 59}…; give the id'),
        (f"lanes set {'x' * 300} --slots 2", f'"{"x" * 59}… is not a lane'),
        (f"db downgrade --revision {'x' * 300}", f'"{"x" * 59}… is not a revision'),
    ],
)
def test_what_does_not_exist_is_named_and_no_row_is_written(
    command: Command, place_database: Database, place: Any, line: str, said: str
) -> None:
    projects = ProjectsRepository(place_database)
    project = projects.create(project_name="Iceland", project_folder="Iceland")
    (place.library / "user_0" / "Iceland").mkdir(parents=True)
    PhotosRepository(place_database).create_many([{"project_id": project.id, "filename": "one"}])
    projects.archive(projects.create(project_name="Old", project_folder="Old").id)

    ran = command(*line.split())

    assert ran.code == 2
    assert len(ran.complaints) == 1
    assert said in ran.complaints[0]
    assert TasksRepository(place_database).list_newest() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1\nabc\n", "line 2"),
        ("[1, true]", "[1]"),
        ("[1,", "is not well-formed JSON"),
        ("9" * 5000, "line 1"),
        ("\n# none\n", "names no photo"),
    ],
)
def test_a_file_of_items_that_cannot_be_read_is_refused_by_its_line(
    command: Command, place: Any, content: str, said: str
) -> None:
    (place.folder / "items.txt").write_text(content)

    ran = command("run", "process_photos", "--items-file", "items.txt")

    assert ran.code == 2
    assert said in ran.complaints[0]


@pytest.mark.parametrize(
    "line",
    [
        "report --output",
        "definitions graph maintenance --output",
        "definitions schema --output",
        "deploy --pool p --write-prefect-yaml",
    ],
)
def test_a_result_replaces_no_photograph_and_is_written_through_a_link(
    command: Command, place_database: Database, place: Any, line: str
) -> None:
    command("start", "folder_discovery")
    photograph, link = place.folder / "lake.jpg", place.folder / "link.html"
    photograph.write_bytes(b"the only copy")
    link.symlink_to("page.html")
    (place.folder / "lake.html").symlink_to("lake.jpg")

    *refused, written = (command(*line.split(), file) for file in (photograph, place.folder / "lake.html", link))

    assert ([ran.code for ran in refused], photograph.read_bytes()) == ([2, 2], b"the only copy")
    assert "lake.jpg exists, and is not replaced" in refused[0].complaints[0]
    assert (written.code, link.is_symlink()) == (0, True)
    assert (place.folder / "page.html").stat().st_size > 0


def test_a_file_that_is_no_database_is_left_as_it_is(command: Command, place: Any) -> None:
    place.database_file.write_text("Dear diary, I am no database, but I am long enough to be looked at. " * 20)
    before = place.database_file.read_bytes()

    ran = command("run", "maintenance_global")

    assert ran.code == 2
    assert str(place.database_file) in ran.complaints[0]
    assert place.database_file.read_bytes() == before


def test_a_database_in_a_folder_that_is_missing_is_told_by_its_folder(
    command: Command, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTOJOBS_DATABASE_URL", f"sqlite:///{place.folder}/nowhere/photojobs.db")

    ran = command("run", "maintenance_global")

    assert ran.code == 2
    assert f"{place.folder}/nowhere does not exist" in ran.complaints[0]
    assert not Path(place.folder, "nowhere").exists()

    monkeypatch.setenv("PHOTOJOBS_DATABASE_URL", f"sqlite:///{place.library}")
    for line in ("status", "db check", "run maintenance_global"):
        assert "this is a folder, not a database" in command(*line.split()).complaints[0]


def test_every_problem_of_a_definition_file_has_a_line_of_its_own(command: Command, place: Any) -> None:
    file = place.folder / "own.yaml"
    file.write_text(
        "nightly:\n  label: Nightly\n  scop: global\n  steps:\n    - {type: manifest_chek, priority: 500}\n"
    )

    ran = command("definitions", "lint", file)

    assert ran.code == 2
    assert len(ran.complaints) == 3
    assert all("own.yaml: nightly" in line for line in ran.complaints)


def test_a_fault_of_ours_shows_no_traceback_unless_it_is_asked_for(
    command: Command, place_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("deployments.cli.commands.queue.status.read_status", broken)

    quiet, verbose = command("status"), command("status", "--verbose")

    assert quiet.code == verbose.code == 70
    assert "by nothing" in quiet.complaints[0]
    assert "Traceback" not in quiet.err
    assert "Traceback" in verbose.err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RunBroken("1", status="running", state="Crashed: gone"), "its flow run ended (Crashed: gone)"),
        (DatabaseUnavailable("the database is away. Start it."), "the database is away. Start it."),
        (OSError(errno.ENOSPC, "No space left on device", "/srv/home"), "/srv/home: No space left on device."),
    ],
)
def test_a_run_that_breaks_off_is_no_bad_input(
    command: Command, place_database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def break_off(*_: object) -> None:
        raise error

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("flows.execution.plain_run.run_plainly", break_off)

    ran = command("run", "maintenance_global", "--json")

    [task] = TasksRepository(place_database).list_newest()
    assert (ran.code, task.status) == (1, "canceled")
    [line] = ran.complaints
    assert said in line
    assert line.startswith(f"task {task.id} was canceled, because its run broke off: ")
    assert line.endswith(f" `photojobs retry {task.id}` continues it.")
    assert "Nothing is lost" not in line


def test_a_run_that_breaks_off_after_the_end_of_its_task_is_not_called_canceled(
    command: Command, place_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_at_last(*words: Any) -> None:
        run_plainly(*words)
        raise DatabaseUnavailable("the database is away. Start it.")

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("flows.execution.plain_run.run_plainly", fail_at_last)

    project = ProjectsRepository(place_database).create(project_name="Iceland", project_folder="Iceland")
    ran = command("run", "trash_only", "--project", project.id, "--json")

    [task] = TasksRepository(place_database).list_newest()
    assert (ran.code, task.status) == (1, "completed")
    assert ran.complaints == [
        f"task {task.id} is completed, but its run broke off: the database is away. Start it. `photojobs tasks show "
        f"{task.id}` shows the task."
    ]


def test_a_task_that_cannot_be_canceled_at_the_break_of_its_run_goes_on_later(
    command: Command, place_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("the database is away. Start it.")

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("flows.execution.plain_run.run_plainly", fail)
    monkeypatch.setattr(TasksRepository, "cancel", fail)

    ran = command("run", "maintenance_global", "--json")

    [task] = TasksRepository(place_database).list_newest()
    assert (ran.code, task.status) == (1, "queued")
    assert ran.complaints == [
        f"task {task.id}: its run broke off: the database is away. Start it. `photojobs up` or a worker continues the "
        "task."
    ]


def test_a_file_system_that_fails_is_no_fault_of_ours(
    command: Command, place_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected", "/mnt/photos")

    def wrong(*_: object, **__: object) -> None:
        raise InvalidSettings("schedules: this is wrong. Correct it.")

    monkeypatch.setattr("deployments.cli.commands.queue.status.read_status", away)
    monkeypatch.setattr("deployments.doctor.examination.examine_library", away)
    monkeypatch.setattr("deployments.doctor.examination.examine_packages", wrong)

    ran, examined = command("status"), command("doctor", "--json").document["findings"]

    assert ran.code == 2
    assert ran.complaints == [
        "/mnt/photos: Transport endpoint is not connected. Check the path, its permissions and its disk."
    ]
    found = {one["area"]: one for one in examined if one["name"] == "examination"}
    assert "/mnt/photos" in found["library"]["says"]
    assert "schedules: this is wrong" in found["packages"]["says"]
    assert not any("bug" in one["remedy"] for one in found.values())


def test_closed_streams_are_like_empty_ones(place: Any) -> None:
    shell = ["/bin/sh", "-c", '"$0" init <&- 2>&-', PHOTOJOBS]

    ran = subprocess.run(shell, cwd=place.folder, timeout=60, stdout=subprocess.PIPE)

    assert (ran.returncode, ran.stdout) == (2, b"")


def test_a_wrong_setting_is_named_with_its_variable(shell: Command) -> None:
    ran = shell("status", PHOTOJOBS_CONCURENCY="3")

    assert ran.code == 2
    assert 'Did you mean "concurrency"?' in ran.complaints[0]


def test_a_reader_that_has_seen_enough_costs_no_complaint(launch: Command, place_database: Database) -> None:
    process = launch("status")
    process.stdout.close()

    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
