"""The reference pages in `docs/` match the current code, and are complete."""

from __future__ import annotations

import re

import pytest

from deployments.cli.command_line import COMMANDS
from docs_site.pages import DOCS, GENERATED, written_page
from flows.telemetry.events import Events
from storage.database.tables import metadata
from storage.errors import TooManyItems
from storage.settings import Settings
from task_definitions import load_definitions
from task_definitions.step_types import BUILTIN_STEP_TYPES


def headings(page: str) -> list[str]:
    return re.findall(r"^##+ (.+)$", GENERATED[page](), re.MULTILINE)


@pytest.mark.parametrize("page", GENERATED)
def test_every_page_in_the_repository_is_that_of_the_code(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == written_page(page), "write it anew: python -m docs_site"


def test_every_table_and_column_has_a_meaning() -> None:
    for name, table in metadata.tables.items():
        assert table.comment, name
        assert [column.name for column in table.columns if not column.comment] == [], name
    assert headings("reference/tables.md") == list(metadata.tables)


def test_every_setting_is_shown_with_its_variable() -> None:
    page = GENERATED["reference/settings.md"]()

    for name in Settings.model_fields:
        assert f"| `{name}`<br>`PHOTOJOBS_{name.upper()}` |" in page


def test_every_command_is_shown_with_its_options() -> None:
    shown = headings("reference/commands.md")

    for commands in COMMANDS.values():
        for name, *_ in commands:
            assert f"photojobs {name}" in shown
    assert "photojobs db restore" in shown
    assert "`--items-file PATH`" in GENERATED["reference/commands.md"]()


def test_every_step_type_and_definition_is_shown() -> None:
    assert headings("reference/steps.md") == list(BUILTIN_STEP_TYPES)
    assert headings("reference/definitions.md")[2:] == list(load_definitions())


def test_every_event_that_can_be_told_is_shown() -> None:
    tellers = [name for name in vars(Events) if not name.startswith("_") and name != "listen"]
    page = GENERATED["reference/events.md"]()

    for teller in tellers:
        kind, state = teller.split("_")
        assert f"`photojobs.{kind}.{'completed' if state == 'ended' else state}`" in page


def test_every_error_is_shown_below_its_parent() -> None:
    page = GENERATED["reference/errors.md"]()

    assert re.search(rf"^ {{4}}\* \*\*`StorageError`.*?^ {{8}}\* \*\*`{TooManyItems.__name__}`", page, re.M | re.S)
    assert "DowngradeRefused" in page


@pytest.mark.parametrize("package", ["task_definitions", "storage", "flows"])
def test_every_public_name_is_in_the_reference_of_its_package(package: str) -> None:
    page = GENERATED[f"reference/python/{package}.md"]()
    errors = GENERATED["reference/errors.md"]()

    for name in __import__(package).__all__:
        assert re.search(rf"\b{name}\b", page) or f"**`{name}`**" in errors
