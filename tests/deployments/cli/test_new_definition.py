"""`photojobs definitions new` writes a file that runs and that editors complete, and overwrites no file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from task_definitions import load_definitions
from task_definitions.step_types import BUILTIN_STEP_TYPES

Command = Callable[..., Any]


@pytest.mark.parametrize(
    "options", [[], ["--step", *BUILTIN_STEP_TYPES, "--scope", "photo_set"], ["--label", '"\\#: x']]
)
def test_a_new_definition_lints_clean_and_fits_the_schema_that_it_names(
    command: Command, place: Any, options: list[str]
) -> None:
    ran = command("definitions", "new", "weekly_look", *options)

    file = place.folder / "weekly_look.yaml"
    assert (ran.code, ran.out) == (0, "weekly_look.yaml\n")
    assert "no errors" in command("definitions", "lint", file).out
    first, *_ = file.read_text().splitlines()
    schema = place.folder / first.removeprefix("# yaml-language-server: $schema=")
    jsonschema.validate(yaml.safe_load(file.read_text()), json.loads(schema.read_text()))
    if options[:1] == ["--step"]:
        assert [step.type for step in load_definitions(file)["weekly_look"].steps] == list(BUILTIN_STEP_TYPES)
    if options[:1] == ["--label"]:
        assert load_definitions(file)["weekly_look"].label == '"\\#: x'


def test_every_line_that_is_commented_out_may_stand_in_the_definition(command: Command, place: Any) -> None:
    command("definitions", "new", "weekly_look", "--step", "metadata")
    file = place.folder / "weekly_look.yaml"
    offered = ("description:", "  Checks every", "schedule:", "max_attempts:", "timeout_seconds:", "chunk_size:")

    file.write_text(
        "\n".join(
            line.replace("# ", "", 1) if line.strip().removeprefix("# ").startswith(offered) else line
            for line in file.read_text().splitlines()
        )
    )

    definition = load_definitions(file)["weekly_look"]
    assert definition.description == "Checks every project at night."
    assert definition.schedule is not None
    assert (definition.steps[0].chunk_size, definition.steps[0].max_attempts) == (500, 3)


def test_it_goes_where_the_settings_look_for_definitions_and_the_schema_is_not_taken_for_one(
    command: Command, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.folder / "definitions"
    folder.mkdir()
    monkeypatch.setenv("PHOTOJOBS_DEFINITIONS", str(folder))

    assert command("definitions", "new", "weekly_look").err == ""

    assert command("definitions", "show", "weekly_look", "--json").document["source"] == str(
        folder / "weekly_look.yaml"
    )
    assert command("definitions", "lint").code == 0
    assert command("definitions", "new", "other", "--output", "definitions/other.yaml").err == ""
    assert "set PHOTOJOBS_DEFINITIONS to" in command("definitions", "new", "third", "--output", "third.yaml").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Weekly-Look"], "is not a valid name"),
        (["maintenance"], "is already defined in built-in maintenance.yaml"),
        (["drain_queue"], "is already defined in flows.catalog"),
        (["taken"], "already exists, and was not changed"),
        (["odd", "--step", "manifest_chek"], 'Did you mean "manifest_check"?'),
        (["odd", "--label", "two\nlines"], "on one line"),
        (["odd", "--output", "odd.json"], "must end in .yaml"),
        (["odd", "--output", "nowhere/odd.yaml"], "or name another file"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line_and_leaves_everything_as_it_is(
    command: Command, place: Any, words: list[str], said: str
) -> None:
    (place.folder / "taken.yaml").write_text("mine")
    before = place.files()

    ran = command("definitions", "new", *words)

    assert ran.code == 2
    assert len(ran.complaints) == 1
    assert said in ran.complaints[0]
    assert place.files() == before
    assert (place.folder / "taken.yaml").read_text() == "mine"
