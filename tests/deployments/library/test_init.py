"""`photojobs init` finds out how folders are arranged, and writes only what the user agreed to."""

from __future__ import annotations

import hashlib
import io
import os
import pty
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from deployments.library.library_survey import Layout, survey_library
from storage import Database, JobsRepository, ProjectsRepository, TasksRepository
from storage.errors import DatabaseUnavailable
from storage.library.naming.kinds import DEFAULT_EXTENSIONS
from tests.deployments.conftest import PHOTOJOBS

Command = Callable[..., Any]


@pytest.fixture
def site(place: Any, command: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, without settings in the environment."""
    for name in ("PHOTOJOBS_DATABASE_URL", "PHOTOJOBS_LIBRARY_ROOT"):
        monkeypatch.delenv(name)
    folder: Path = place.folder / "site"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def put(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("names", "layout", "found"),
    [
        (("anna/Iceland/1.jpg", "ben/Alps/2.nef"), Layout.LIBRARY, {("anna", "Iceland", 1), ("ben", "Alps", 1)}),
        (
            ("Iceland/1.jpg", "Iceland/2.JPG", "Alps/3.heic"),
            Layout.TENANT,
            {("Mine", "Iceland", 2), ("Mine", "Alps", 1)},
        ),
        (("1.jpg", "2.jpg", "notes.txt"), Layout.PROJECT, {("parent", "Mine", 2)}),
        (("anna/Iceland/.project.yaml",), Layout.LIBRARY, {("anna", "Iceland", 0)}),
        ((), Layout.LIBRARY, set()),
    ],
)
def test_the_layout_of_a_folder_is_where_its_photographs_lie(
    tmp_path: Path, names: tuple[str, ...], layout: Layout, found: set[tuple[str, str, int]]
) -> None:
    folder = put(tmp_path / "above" / "parent" / "Mine", *names)
    folder.mkdir(parents=True, exist_ok=True)

    survey = survey_library(folder, DEFAULT_EXTENSIONS)

    assert survey.layout is layout
    assert {(one.tenant_id, one.folder, one.photos) for one in survey.projects} == found
    for one in survey.projects:
        assert (survey.root / one.tenant_id / one.folder).is_dir()


def test_what_would_be_overlooked_is_said(tmp_path: Path) -> None:
    folder = put(
        tmp_path / "above" / "Mine", "Iceland/1.jpg", "Iceland/2.jpg", "Iceland/raw/3.nef", "loose.jpg", ".hidden/4.jpg"
    )
    put(folder, "#recycle/5.jpg", "Iceland/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg", "Iceland/Thumbs.db")
    (folder / "Elsewhere").symlink_to(tmp_path)

    survey = survey_library(folder, DEFAULT_EXTENSIONS)

    assert [Path(each).name for each in survey.loose] == ["loose.jpg"]
    assert [Path(each).name for each in survey.deeper] == ["3.nef"]
    assert [(one.folder, one.photos, one.other_files) for one in survey.projects] == [("Iceland", 2, 0)]


def test_the_folders_of_a_storage_system_do_not_decide_the_layout(tmp_path: Path) -> None:
    thumbnails = [f"@eaDir/{number}.jpg/SYNOPHOTO_THUMB_{size}.jpg" for number in (1, 2) for size in ("M", "XL")]
    folder = put(tmp_path / "above" / "Mine", "Iceland/1.jpg", *thumbnails)

    survey = survey_library(folder, DEFAULT_EXTENSIONS)

    assert (survey.layout, survey.tenant_ids) == (Layout.TENANT, ("Mine",))


def test_pictures_that_share_a_base_name_are_named(command: Command, site: Path, place: Any) -> None:
    put(place.folder / "Mine", "Iceland/1.jpg", "Iceland/1.JPG", "Iceland/1.nef", "Iceland/2.png", "Iceland/2.tif")

    ran = command("init", "../Mine", "--yes")

    assert "count as one photo: Iceland: 1.JPG, 1.jpg; Iceland: 2.png, 2.tif. If" in ran.out


def test_the_commands_that_come_next_are_words_of_a_shell(command: Command, site: Path, place: Any) -> None:
    put(place.folder / "Photos", "Anna's album/Iceland/1.jpg", "bob/Alps/1.jpg")

    ran = command("init", "../Photos", "--yes")

    lines = [shlex.split(line) for line in ran.out.splitlines() if line.startswith("  photojobs plan")]
    assert ["photojobs", "plan", "maintenance_global", "--tenant", "Anna's album"] in lines


def test_what_was_agreed_to_is_written_though_nobody_reads_what_is_said(site: Path, place: Any) -> None:
    put(place.folder / "Mine", "Iceland/1.jpg")
    program = [PHOTOJOBS, "init", "../Mine", "--yes"]
    process = subprocess.Popen(program, cwd=site, env=os.environ | place.environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert (site / "photojobs.toml").is_file()


def test_a_dry_run_shows_and_writes_nothing(command: Command, site: Path, place: Any) -> None:
    put(place.folder / "Mine", "Iceland/1.jpg")
    before = place.files()

    ran = command("init", "../Mine", "--dry-run")

    assert ran.code == 0
    assert 'their tenant is "Mine"' in ran.out
    assert command("init", "../Mine", "--dry-run", "--json").document["survey"]["layout"] == "tenant"
    assert place.files() == before


def test_with_consent_settings_and_database_are_written_and_work(
    command: Command, site: Path, place: Any, make_images: Callable[[Path, int], None]
) -> None:
    make_images(place.folder / "Mine" / "Iceland", 2)
    mine = put(place.folder / "Mine", "Iceland/notes.txt", "Alps/notes.txt")
    before = contents(mine)

    ran = command("init", "../Mine", "--yes", "--discover")

    assert ran.code == 0, ran.err
    assert "photojobs plan maintenance_global\n" in ran.out
    settings = tomllib.loads((site / "photojobs.toml").read_text())
    assert settings["library_root"] == str(place.folder)
    assert settings["tenant"] == "Mine"
    assert settings["scheduled_tenants"] == ["Mine"]
    database = Database(settings["database_url"])
    assert [one.project_folder for one in ProjectsRepository(database).list(tenant_id="Mine")] == ["Alps", "Iceland"]
    database.close()
    after = contents(mine)
    assert {name: after[name] for name in before} == before
    assert all("/." in name for name in after.keys() - before.keys())
    assert {"Iceland/.project.yaml", "Alps/.project.yaml"} <= after.keys()
    listed = command("library", "list", "--tenant", "Mine", "--json").document
    assert {(one["project"]["project_folder"], one["photos"]) for one in listed} == {("Iceland", 2), ("Alps", 0)}


def test_folders_that_cannot_be_added_are_no_bad_input_once_the_files_are_written(
    command: Command, site: Path, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("the database is away. Start it.")

    put(place.folder / "Mine", "anna/Iceland/1.jpg", "ben/Alps/2.jpg")
    monkeypatch.setattr("deployments.cli.commands.installation.init.discover_projects", fail)

    ran = command("init", "../Mine", "--yes", "--discover")

    assert (ran.code, (site / "photojobs.toml").exists()) == (1, True)
    assert ran.complaints == [
        "the files were written, but not every folder was added: the database is away. Start it. "
        "To add the others, run `photojobs run folder_discovery --tenant anna` and "
        "`photojobs run folder_discovery --tenant ben`."
    ]


def test_nothing_is_overwritten_and_nothing_goes_into_a_project(command: Command, site: Path, place: Any) -> None:
    mine = put(place.folder / "Mine", "Iceland/1.jpg")
    (site / "photojobs.toml").write_text("# mine\n")

    there = command("init", "../Mine", "--yes")
    inside = command("init", "../Mine", "--yes", "--into", mine / "Iceland")

    assert (there.code, inside.code) == (2, 2)
    assert "is not overwritten" in there.complaints[0]
    assert "which is a project" in inside.complaints[0]
    assert (site / "photojobs.toml").read_text() == "# mine\n"
    assert contents(mine).keys() == {"Iceland/1.jpg"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which folder?"),
        (("../Mine",), "there is no terminal for questions"),
        (("../Mine/Iceland", "--yes"), "--layout project"),
        (("../nowhere", "--yes"), "is not a folder"),
        (("~nobody-here/x", "--yes"), "is not a folder"),
        (("/", "--yes", "--layout", "tenant"), "the whole disk"),
        (("../Mine", "--yes", "--into", "nowhere"), "is not a folder"),
        (("../Mine", "--yes", "--database", "postgresql://nobody@127.0.0.1:1/x"), "127.0.0.1"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_and_nothing_is_written(
    command: Command, site: Path, place: Any, words: tuple[str, ...], said: str
) -> None:
    put(place.folder / "Mine", "Iceland/1.jpg", "Alps/2.jpg")
    before = place.files()

    ran = command("init", *words)

    assert ran.code == 2
    assert said in ran.complaints[-1]
    assert place.files() == before


def test_a_database_that_is_there_is_kept_with_its_rows(command: Command, site: Path, place: Any) -> None:
    mine = put(place.folder / "Mine", "Iceland/1.jpg")
    database = Database(site / "photojobs.db")
    database.migrate()
    ProjectsRepository(database).create(project_name="Old", project_folder="Old", tenant_id="Mine")
    database.close()

    refused = command("init", mine, "--yes", "--discover")

    assert (refused.code, len(refused.complaints), (site / "photojobs.toml").exists()) == (2, 1, False)
    assert "is the database of another library" in refused.complaints[0]
    assert 'has no folder of its projects, such as "Old"' in refused.complaints[0]

    put(mine, "Old/2.jpg")
    ran = command("init", mine, "--yes")

    assert ran.code == 0
    assert "not changed" in ran.out
    assert [one["project"]["project_name"] for one in command("library", "list", "--json").document] == ["Old"]


def test_a_canceled_task_is_the_last_one(
    command: Command, site: Path, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def canceling(runtime: Any, task_id: str, **_: bool) -> Iterator[None]:
        TasksRepository(runtime.database).cancel(task_id)
        yield

    library = put(place.folder / "Photos", "anna/Iceland/1.jpg", "ben/Alps/1.jpg")
    monkeypatch.setattr("deployments.cli.commands.installation.init.following", canceling)

    ran = command("init", library, "--yes", "--discover", "--json")

    assert ran.code == 1
    assert [one["status"] for one in ran.document["discovery"]] == ["canceled"]


def test_only_the_task_that_adds_folders_is_run(command: Command, site: Path, place: Any) -> None:
    mine = put(place.folder / "Mine", "Iceland/.project.yaml")
    with closing(Database(site / "photojobs.db")) as database:
        database.migrate()
        waiting = JobsRepository(database).enqueue(tenant_id="Mine", type="trash_maintenance", scope="global")

        ran = command("init", mine, "--yes", "--discover")

        assert ran.code == 0, ran.out + ran.err
        assert [project.project_name for project in ProjectsRepository(database).list()] == ["Iceland"]
        job = JobsRepository(database).get_by_id(waiting.id)
        assert job is not None
        assert job.status == "queued"


@pytest.mark.parametrize("typed", ["n\n", ""])
def test_no_and_the_end_of_the_input_are_answers(
    command: Command, site: Path, place: Any, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    put(place.folder / "Mine", "Iceland/1.jpg")
    monkeypatch.setattr("deployments.cli.commands.installation.init._is_asked", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))

    ran = command("init", "../Mine")

    assert (ran.code, ran.out.splitlines()[-1]) == (0, "Nothing was written.")
    assert list(site.iterdir()) == []


def test_a_question_for_the_folder_that_is_not_answered_is_told(
    command: Command, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.cli.commands.installation.init._is_asked", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    ran = command("init")

    assert (ran.code, list(site.iterdir())) == (2, [])
    assert "nothing was written" in ran.err


def test_a_wrong_variable_is_found_before_anything_is_written(command: Command, site: Path, place: Any) -> None:
    put(place.folder / "Mine", "Iceland/1.jpg")
    before = place.files()

    ran = command("init", "../Mine", "--yes", PHOTOJOBS_CONCURENCY="3")

    assert ran.code == 2
    assert 'Did you mean "concurrency"?' in ran.complaints[0]
    assert place.files() == before


def test_variables_that_override_what_is_written_are_named(command: Command, site: Path, place: Any) -> None:
    mine = put(place.folder / "Mine", "Iceland/1.jpg")
    (site / "other.toml").write_text("")
    same = {"PHOTOJOBS_LIBRARY_ROOT": str(mine.parent), "PHOTOJOBS_DATABASE_URL": "sqlite:///photojobs.db"}
    other = same | {"PHOTOJOBS_LIBRARY_ROOT": "elsewhere", "PHOTOJOBS_CONFIG": "other.toml"}

    ran, agreeing = (command("init", mine, "--dry-run", **variables) for variables in (other, same))

    assert "PHOTOJOBS_LIBRARY_ROOT overrides the settings file" in ran.out
    assert "PHOTOJOBS_CONFIG names another settings file" in ran.out
    assert "PHOTOJOBS_DATABASE_URL" not in ran.out
    assert "PHOTOJOBS_" not in agreeing.out


@pytest.mark.parametrize("database", ["What?/100%41.db", "sqlite:///near.db"])
def test_the_database_is_the_same_one_from_every_folder(
    command: Command, site: Path, place: Any, database: str
) -> None:
    mine = put(place.folder / "Mine", "Iceland/1.jpg")
    (site / "What?").mkdir()

    ran = command("init", mine, "--into", place.folder, "--database", database, "--yes")

    assert ran.code == 0, ran.err
    named = Database(tomllib.loads((place.folder / "photojobs.toml").read_text())["database_url"])
    assert named.path == site / database.removeprefix("sqlite:///")
    assert named.path.is_file()
    named.close()


def test_on_a_terminal_it_asks(site: Path, place: Any) -> None:
    mine = put(place.folder / "Mine", "Iceland/1.jpg")

    seen = _on_terminal(site, [f"{mine}\r", "y\r", "n\r", "n\r"])

    assert "Where are your photographs?" in seen
    assert "What to do next" in seen
    assert {"photojobs.toml", "photojobs.db"} <= {path.name for path in site.iterdir()}
    assert contents(mine).keys() == {"Iceland/1.jpg"}


def _on_terminal(folder: Path, answers: list[str]) -> str:
    """Run `photojobs init` on a terminal; type an answer when the output ends with a colon, as a question does."""
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PHOTOJOBS_")}
    # If a question filled the line exactly, its last space would be lost, and this function would not recognize it.
    environment["COLUMNS"] = "1000"
    process = subprocess.Popen(
        [PHOTOJOBS, "init"], cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen, pending = b"", list(answers)
    asked_at = 0
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
        if pending and seen[asked_at:].endswith(b": "):
            asked_at = len(seen)
            os.write(ours, pending.pop(0).encode())
    os.close(ours)
    assert process.wait(timeout=60) == 0, seen
    return seen.decode()
