"""Tables fit on terminals of every width, and no word or id is broken in two."""

from __future__ import annotations

import io
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from deployments.cli import main
from deployments.cli.output import terminal
from deployments.server.telemetry_off import NO_TELEMETRY

TASK = "0b9f3d52-4c1e-4a0b-9f6e-2a1c5d7e8f90"
COLUMNS = ("task", "status", "jobs", "why")
ROWS = [(TASK, "completed", 12, "All four slots of the lane normal are taken by other jobs, which go on for long.")]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch):
    """A function that prints a table as on a terminal with this number of columns."""

    def at(width: int, *, spared: tuple[str, ...] = (), as_fields: bool = False) -> str:
        console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, highlight=False)
        monkeypatch.setattr(terminal, "output", lambda: console)
        if as_fields:
            terminal.print_fields(dict(zip(COLUMNS, ROWS[0], strict=True)))
        else:
            terminal.print_table(COLUMNS, ROWS, numbers=("jobs",), spared=spared)
        return console.file.getvalue()

    return at


@pytest.mark.parametrize("width", [200, 120, 90, 60, 40])
def test_ids_and_words_stay_whole_at_any_width(printed, width: int) -> None:
    text = printed(width)

    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert TASK in text
    words = text.split()
    assert {"completed", "12", "slots", "normal"} <= set(words)
    fields = [line.rstrip() for line in printed(max(width, 60), as_fields=True).splitlines()]
    assert fields[:3] == [f"task    {TASK}", "status  completed", "jobs    12"]
    assert " ".join(fields[3:]).split() == ["why", *ROWS[0][3].split()]
    assert all(line.startswith(" " * 8) for line in fields[4:])


def test_a_table_that_fits_stays_a_table_and_one_that_does_not_names_its_values(printed) -> None:
    assert printed(90).splitlines()[0].split() == list(COLUMNS)
    assert f"task {TASK}" in printed(60)


def test_a_narrow_terminal_leaves_out_what_may_be_spared_and_keeps_the_table(printed) -> None:
    assert printed(90, spared=("jobs", "status")).splitlines()[0].split() == list(COLUMNS)
    assert printed(80, spared=("jobs", "status")).splitlines()[0].split() == ["task", "status", "why"]
    assert printed(70, spared=("jobs", "status")).splitlines()[0].split() == ["task", "why"]


def test_a_document_is_json_whatever_its_names_hold(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_json({"name": "not Unicode: \udcff", "other": "Grüße"})

    assert json.loads(capsys.readouterr().out) == {"name": "not Unicode: \udcff", "other": "Grüße"}


def test_names_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.output.cache_clear()
    terminal.say("one\n\x1b[31mtwo")

    assert capsys.readouterr().out == "one\n\\x1b[31mtwo\n"


def test_no_color_and_dumb_terminals_get_no_escape_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), force_terminal=True, width=90)
    monkeypatch.setattr(terminal, "output", lambda: console)

    terminal.print_table(COLUMNS, ROWS)

    assert "\x1b[3" not in console.file.getvalue()


def test_a_user_without_a_home_folder_gets_the_root_folder_as_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    # `main` sets these variables for the whole process; here they are restored after the test.
    for name in ("no_proxy", "NO_PROXY", *NO_TELEMETRY):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(sys, "argv", ["photojobs", "--version"])

    with pytest.raises(SystemExit):
        main()

    assert (os.environ["HOME"], Path.home()) == ("/", Path("/"))


@pytest.mark.parametrize(
    ("is_verbose", "expected"),
    [
        (False, ["copy waits"]),
        (True, ["plots: made a folder", "photojobs.steps.copy: no such file", "photojobs.waiting: copy waits"]),
    ],
)
def test_warnings_of_libraries_are_shown_only_with_verbose_and_those_of_waits_always(
    is_verbose: bool, expected: list[str]
) -> None:
    program = f"""
import logging
from deployments.cli.output.logs import set_up_logs
set_up_logs(is_verbose={is_verbose})
logging.getLogger("plots").warning("made a folder")
logging.getLogger("photojobs.steps.copy").warning("no such file")
logging.getLogger("photojobs.waiting").warning("copy waits")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines() == [f"photojobs: {line}" for line in expected]
