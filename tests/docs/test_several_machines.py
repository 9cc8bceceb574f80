"""The runbook for several machines: its SQL runs on PostgreSQL, and its commands, options and links exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from deployments.cli.commands import COMMANDS, build_app
from storage import Database
from storage.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "several-machines.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[list[str]]:
    """The command lines of a program, in blocks and in the text, without what stands before it."""
    lines = [line.strip() for block in blocks("console") for line in block.splitlines()]
    lines += [
        found.replace("\n", " ") for found in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
    ]
    found = [re.sub(r"^([A-Z_]+=\S+ )+", "", line) for line in lines]
    return [words[1:] for line in found if (words := shlex.split(line))[:1] == [program] and len(words) > 1]


def test_every_query_runs(database: Database) -> None:
    queries = blocks("sql")

    assert len(queries) == 5
    for query in queries:
        with database.connect() as connection:
            connection.execute(text(query)).all()


@pytest.mark.parametrize("words", commands("photojobs"), ids=" ".join)
def test_every_command_of_ours_takes_what_it_is_given(words: list[str]) -> None:
    if len(words) == 1 and words[0] in {name for group in COMMANDS.values() for name, *_ in group}:
        return
    build_app().parse_args(words, print_error=False, exit_on_error=False)


def test_every_command_of_prefect_has_these_options() -> None:
    called = commands("prefect")

    assert called
    for name in {tuple(word for word in words[:2]) for words in called}:
        shown = subprocess.run(
            [sys.executable, "-m", "prefect", *name, "--help"], capture_output=True, text=True, timeout=120, check=True
        ).stdout
        options = {word for words in called if tuple(words[:2]) == name for word in words if word.startswith("--")}
        assert {option for option in options if option not in shown} == set()


def test_every_setting_and_file_that_is_named_exists() -> None:
    variables = set(re.findall(r"PHOTOJOBS_([A-Z_]+)", PAGE)) - {"CONFIG"}

    assert {name.lower() for name in variables} <= set(Settings.model_fields)
    for name in ("task_runner", "stale_seconds"):
        assert f"`{name}`" in PAGE
        assert name in Settings.model_fields
