"""Every fenced block of every page is run, in the order of the page, on a small library of the page's own.

Python is executed, SQL goes to SQLite and PostgreSQL, our command lines run in this process, definitions are checked,
and settings are loaded. What cannot be run is looked at as far as that goes: command lines are parsed, options looked
up. Tasks are run by a worker in place of a Prefect server, which takes seconds to start; Prefect is another test's
matter. Blocks of Mermaid are drawn when the site is built.
"""

from __future__ import annotations

import contextlib
import doctest
import json
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclopts import CycloptsError
from sqlalchemy import text

import flows.api.start
from deployments.cli.command_line import COMMANDS, run_command_line
from deployments.cli.output import logs
from flows.process.runtime import Runtime
from storage import Database, ProjectsRepository, Settings
from task_definitions import load_definitions, step_types
from tests.docs.blocks import Block, blocks_of, inline_code
from tests.docs.command_lines import CommandLine, check_words, command_lines, parse_words
from tests.docs.world import (
    World,
    add_photograph,
    copied,
    damage,
    make_library,
    make_photographs,
    run_without_prefect,
    running,
)

# One process runs these tests, so that the library is made only once.
pytestmark = pytest.mark.xdist_group("docs")

ROOT = Path(__file__).parents[2]

#: Every page whose blocks can be run: all except the pages about Python, which show signatures.
FILES = sorted(
    str(file.relative_to(ROOT))
    for file in (*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), *ROOT.glob("*.md"))
    if not file.is_relative_to(ROOT / "docs" / "reference" / "python")
)

#: Pages with many commands, or with commands that start several processes.
LONG = {
    "docs/tutorial.md",
    "docs/how-to/plan-and-undo.md",
    "docs/how-to/report.md",
    "docs/how-to/several-machines.md",
}
#: Pages whose reader has folders of photographs, but no settings and no database yet.
FROM_PHOTOGRAPHS = {"docs/tutorial.md"}
#: Pages about failures.
AFTER_A_FAILURE = {"docs/how-to/recover.md", "docs/how-to/several-machines.md"}
#: Pages about the changes of an upkeep.
AFTER_A_COPY = {"docs/how-to/plan-and-undo.md"}
#: Pages whose Python blocks need special rows; another test runs these blocks.
PYTHON_ELSEWHERE = {"docs/quick_reference.md"}

#: Languages of blocks that are only to be read, with the reason.
TO_READ = {
    "": "output or a drawing",
    "text": "output or a drawing",
    "javascript": "shows what the older interface was called with",
    "ini": "the unit of a supervisor",
    "mermaid": "drawn when the site is built",
    "diff": "what became different",
}
#: Commands of `photojobs` that are parsed and not run.
NOT_RUN = {
    "demo": "takes minutes",
    "up": "stays up",
    "serve": "stays up",
    "worker": "stays up",
    "doctor": "finds what this machine is like",
    "deploy": "needs a Prefect server",
    "definitions diff": "needs a Prefect server",
    "status --watch": "stays up",
}
#: Other programs, grouped by how the tests treat them.
RUN_AS_THEY_ARE = {"cat", "cp", "echo", "head", "ls", "mkdir", "mv", "rm", "touch"}
LOOKED_AT = {
    "python3": "makes an environment",
    ".venv/bin/python": "runs the tests, or a benchmark",
    ".venv/bin/mkdocs": "builds the site, as CI does",
    ".venv/bin/pip": "installs",
    ".venv/bin/photojobs": "of an environment that is not made",
    ".venv-test/bin/pip": "installs",
    ".venv-test/bin/python": "runs the tests",
    ".ci/run": "runs the tests",
    "pip": "installs",
    "python": "runs a benchmark or a long proof",
    "docker": "needs its daemon",
    "source": "changes the shell",
    "cd": "changes the shell",
    "systemctl": "needs systemd",
    "createdb": "needs a server of the reader's",
    "psql": "needs a server of the reader's",
    "sqlite3": "is not everywhere",
    "jq": "is not everywhere",
    "curl": "needs a server that stays up",
    "npm": "installs",
    "uvicorn": "stays up",
}


def markdown_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("photographs"))
    make_photographs(world)
    return world


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("library"))
    make_library(world)
    return world


@pytest.fixture
def make_reader(
    photographs: World,
    library: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Callable[[str], Reader]:
    """A function that returns a reader, who runs the blocks of a page in a separate copy of the library."""
    monkeypatch.setattr(logs, "set_up_logs", lambda **_: None)
    monkeypatch.setattr(
        flows.api.start, "run_task", lambda **arguments: run_without_prefect(Runtime.current(), **arguments)
    )
    # A step type that a page registers must be removed again for later tests.
    registered = sys.modules["flows.handlers.step"]
    registered.load_steps()
    monkeypatch.setattr(registered._registry, "handlers", dict(registered._registry.handlers))
    monkeypatch.setattr(step_types, "_registered", dict(step_types._registered))

    def make(page: str) -> Reader:
        world = copied(photographs if page in FROM_PHOTOGRAPHS else library, tmp_path / "world")
        if page in AFTER_A_FAILURE:
            damage(world)
        if page in AFTER_A_COPY:
            add_photograph(world)
        (world.home / "examples").symlink_to(ROOT / "examples")
        for name, value in (world.haste if page in FROM_PHOTOGRAPHS else world.environment).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(world.home)
        if page.startswith("examples/"):
            # The reader of this page has installed a package.
            monkeypatch.chdir((ROOT / page).parent)
            for module in Path().glob("*.py"):
                exec(compile(module.read_text(), module.name, "exec"), {"__name__": module.stem})
        return Reader(world, monkeypatch, capsys, request)

    return make


class Reader:
    def __init__(
        self,
        world: World,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        request: pytest.FixtureRequest,
    ) -> None:
        self.world = world
        self.names: dict[str, Any] = {"library_root": world.home / "library"}
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._request = request

    def follow(self, block: Block) -> None:
        """Run a block in the way of its language.

        Raises:
            KeyError: the language of the block is unknown.
        """
        if block.language in TO_READ:
            return
        {
            "console": self._console,
            "python": self._python,
            "sql": self._sql,
            "yaml": self._yaml,
            "json": self._json,
            "toml": self._toml,
        }[block.language](block)

    def _python(self, block: Block) -> None:
        code = compile(self.world.here(block.text), str(block), "exec")
        if block.parsed_only or block.page in PYTHON_ELSEWHERE:
            return
        # The block runs as a module, because handlers are known by their module.
        self.names.setdefault("__name__", f"tests.docs.page_{block.line}")
        with running(self.world.home) as runtime, runtime.as_current():
            exec(code, self.names)

    def _sql(self, block: Block) -> None:
        statements = [
            statement for statement in self._filled(self.world.here(block.text)).split(";") if statement.strip()
        ]
        assert statements
        if block.parsed_only:
            return
        with contextlib.closing(sqlite3.connect(self.world.home / "photojobs.db")) as connection:
            for statement in statements:
                connection.execute(statement).fetchall()
            connection.commit()
        with self._postgresql.connect() as rows:
            for statement in statements:
                # Percent signs and colons belong to the statement, and are no parameters.
                rows.execute(text(statement.replace(":", "\\:").replace("\\:\\:", "::")))
            rows.rollback()

    @cached_property
    def _postgresql(self) -> Database:
        """Return a PostgreSQL database with the projects of the library."""
        database: Database = self._request.getfixturevalue("postgresql_database")
        for name in ("alps", "sea"):
            ProjectsRepository(database).create(project_name=name, project_folder=name, tenant_id="user_0")
        return database

    def _yaml(self, block: Block) -> None:
        content = self.world.here(block.text)
        document = yaml.safe_load(content)
        is_definitions = isinstance(document, dict) and (
            "steps" in document or any(isinstance(value, dict) and "steps" in value for value in document.values())
        )
        file = self._written(block, content)
        if is_definitions and not block.parsed_only:
            assert load_definitions(file or {**document}, builtin=False)

    def _json(self, block: Block) -> None:
        document = json.loads(block.text)
        file = self._written(block, block.text)
        if any(isinstance(value, dict) and "steps" in value for value in document.values()):
            assert load_definitions(file or document, builtin=False)

    def _toml(self, block: Block) -> None:
        content = self.world.here(block.text)
        tomllib.loads(content)
        if block.title == "photojobs.toml" or content.startswith("# photojobs.toml"):
            file = self.world.home / "photojobs.toml"
            file.write_text(content)
            with pytest.MonkeyPatch.context() as environment:
                for name in self.world.environment:
                    environment.delenv(name, raising=False)
                Settings.load()
        else:
            self._written(block, content)

    def _written(self, block: Block, content: str) -> Path | None:
        if block.title is None:
            return None
        file = self.world.home / self.world.here(block.title)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def _console(self, block: Block) -> None:
        for shown in command_lines(self.world.here(block.text)):
            # Ids are inserted line by line, because the newest task may come from the line before.
            line = replace(shown, words=tuple(self._filled(word) for word in shown.words))
            try:
                if line.program == "export":
                    self._export(line, block)
                elif line.program == "photojobs":
                    self._photojobs(line, block)
                elif line.program == "prefect":
                    check_prefect(line.words)
                elif block.parsed_only or line.program in LOOKED_AT:
                    assert line.program in LOOKED_AT or line.program in RUN_AS_THEY_ARE, f"what is {line.program}?"
                else:
                    assert line.program in RUN_AS_THEY_ARE, f"{line.program}: neither run nor left alone"
                    done = subprocess.run(line.words, capture_output=True, text=True, check=True, timeout=60)
                    same(line, done.stdout)
            except (AssertionError, CycloptsError, subprocess.CalledProcessError) as error:
                raise AssertionError(f"{block}: {shlex.join(line.words)}: {error}") from error

    def _export(self, line: CommandLine, block: Block) -> None:
        for word in line.words[1:]:
            name, _, value = word.partition("=")
            check_variable(name)
            if not block.parsed_only:
                self._monkeypatch.setenv(name, value)

    def _photojobs(self, line: CommandLine, block: Block) -> None:
        words = list(line.words[1:])
        for name, _ in line.environment:
            check_variable(name)
        parse_words(words)
        spoken = " ".join(words)
        if block.parsed_only or any(f"{spoken} ".startswith(f"{start} ") for start in NOT_RUN):
            return
        with pytest.MonkeyPatch.context() as environment:
            for name, value in line.environment:
                environment.setenv(name, value)
            self._capsys.readouterr()
            code = run_command_line(words)
        captured = self._capsys.readouterr()
        assert code == 0, f"exit code {code}: {captured.err or captured.out}"
        if line.output is not None:
            Path(line.output).write_text(captured.out)
        same(line, captured.out)

    def _filled(self, shown: str) -> str:
        """Return the text with ids for TASK_ID and JOB_ID: of failures, else of a task that can be undone."""
        if "TASK_ID" not in shown and "JOB_ID" not in shown:
            return shown
        with contextlib.closing(sqlite3.connect(self.world.home / "photojobs.db")) as rows:
            [task_id] = rows.execute(
                "SELECT id FROM tasks ORDER BY status <> 'failed', "
                "id NOT IN (SELECT task_id FROM file_journal WHERE undone_at IS NULL AND task_id IS NOT NULL), "
                "created_at DESC"
            ).fetchone()
            [job_id] = rows.execute("SELECT id FROM jobs ORDER BY status <> 'failed', id DESC").fetchone()
        return shown.replace("TASK_ID", task_id).replace("JOB_ID", str(job_id))


def same(line: CommandLine, printed: str) -> None:
    """Compare the output with the output that the page shows, in which `...` is any text."""
    if line.expected is not None:
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(line.expected, printed, flags), (
            f"the page shows\n{line.expected}\nand it prints\n{printed}"
        )


def check_variable(name: str) -> None:
    known = ("PREFECT_", "PHOTOJOBS_", "OTEL_")
    assert name.startswith(known), f"{name} is nothing that photojobs, Prefect or OpenTelemetry reads"
    if name.startswith("PHOTOJOBS_") and name != "PHOTOJOBS_CONFIG":
        assert name.removeprefix("PHOTOJOBS_").lower() in Settings.model_fields, f"{name} is not a setting"


@cache
def prefect_help(*commands: str) -> str:
    asked = [sys.executable, "-m", "prefect", *commands, "--help"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=120, check=True).stdout


def check_prefect(words: tuple[str, ...]) -> None:
    commands = [word for word in words[1:3] if not word.startswith("-")]
    shown = prefect_help(*commands)
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in shown, f"prefect {' '.join(commands)} has no {word}"


@pytest.mark.postgres
@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.slow] * (page in LONG)) for page in FILES])
def test_every_block_does_what_the_page_says(page: str, make_reader: Callable[[str], Reader]) -> None:
    blocks = blocks_of(page, markdown_of(page))
    if not blocks:
        return
    reader = make_reader(page)
    for block in blocks:
        try:
            reader.follow(block)
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"{block}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("page", FILES)
def test_every_command_and_setting_in_running_text_exists(page: str) -> None:
    for code in inline_code(markdown_of(page)):
        for name in re.findall(r"\bPHOTOJOBS_[A-Z_]*[A-Z]\b", code):
            if name != "PHOTOJOBS_TEST_POSTGRES_URL":
                check_variable(name)
        words = code.split()
        if words[:1] == ["photojobs"] and len(words) > 1 and "/" not in code:
            try:
                check_words(words[1:])
            except AssertionError as error:
                raise AssertionError(f"{page}: `{code}`: {error}") from None


def test_the_reasons_are_about_something_that_exists() -> None:
    known = {name for commands in COMMANDS.values() for name, *_ in commands}

    assert {start.split()[0] for start in NOT_RUN} <= known
    assert {*FROM_PHOTOGRAPHS, *AFTER_A_FAILURE, *AFTER_A_COPY, *PYTHON_ELSEWHERE} <= set(FILES)
