"""Definition files of all allowed forms are loaded correctly."""

import json
from pathlib import Path
from typing import Any

import pydantic
import pytest

from task_definitions import (
    MAX_ITEMS_PER_JOB,
    DefinitionErrors,
    Definitions,
    Scope,
    StepDefinition,
    TaskDefinition,
    load_definitions,
    read_pinned_definition,
)
from tests.loaded_packages import loaded_by

QUICK_REFERENCE = """
{
  "my_task": {
    "label": "My Task",
    "user_relevant": true,
    "scope": "project",
    "steps": [
      { "type": "step1", "priority": 100 },
      { "type": "step2", "priority": 95 }
    ]
  }
}
"""


def test_the_structure_of_the_quick_reference_loads(tmp_path: Path) -> None:
    file = tmp_path / "task_definitions.json"
    file.write_text(QUICK_REFERENCE)
    definition = load_definitions(file, step_types={"step1", "step2"})["my_task"]
    assert definition == TaskDefinition(
        name="my_task",
        label="My Task",
        user_relevant=True,
        scope=Scope.PROJECT,
        steps=(StepDefinition(type="step1", priority=100), StepDefinition(type="step2", priority=95)),
    )


def test_what_is_left_out_has_the_documented_default() -> None:
    definition = load_definitions({"nightly": {"label": "Nightly", "steps": [{"type": "metadata"}]}})["nightly"]
    assert definition.user_relevant is False
    assert definition.scope is None
    assert definition.description is None
    assert definition.schedule is None
    assert definition.priority == 0
    (step,) = definition.steps
    assert step.max_attempts is None
    assert step.retry_delay_seconds is None
    assert step.timeout_seconds is None
    assert step.chunk_size == MAX_ITEMS_PER_JOB == 2000
    assert step.on_failure == "stop"
    assert step.run_if is None
    assert step.params == {}


def test_everything_that_may_be_given_is_read(tmp_path: Path) -> None:
    file = tmp_path / "nightly.yaml"
    file.write_text(
        """
label: Nightly
description: |
  First line.
  Second line.
user_relevant: true
scope: photo_set
schedule: {cron: "30 2 * * mon-fri", timezone: Europe/Berlin}
steps:
  - type: metadata
    priority: 90
    max_attempts: 3
    retry_delay_seconds: 1.5
    timeout_seconds: 600
    chunk_size: 250
    on_failure: continue
    run_if: need_metadata
    params: {deep: [1, {since: 2025-10-01}], nothing: null}
"""
    )
    definition = load_definitions(file)["nightly"]
    assert definition.description == "First line.\nSecond line.\n"
    assert definition.scope is Scope.PHOTO_SET
    assert definition.schedule is not None
    assert (definition.schedule.cron, definition.schedule.timezone) == ("30 2 * * mon-fri", "Europe/Berlin")
    (step,) = definition.steps
    assert step.model_dump() == {
        "type": "metadata",
        "priority": 90,
        "max_attempts": 3,
        "retry_delay_seconds": 1.5,
        "timeout_seconds": 600.0,
        "chunk_size": 250,
        "on_failure": "continue",
        "run_if": "need_metadata",
        # A date in YAML stays a text, as in JSON.
        "params": {"deep": [1, {"since": "2025-10-01"}], "nothing": None},
    }


@pytest.mark.parametrize("ending", ["json", "yaml", "yml", "JSON"])
def test_a_file_with_one_definition_gives_it_the_name_of_the_file(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"nightly_check.{ending}"
    file.write_text('{"label": "Nightly", "steps": [{"type": "metadata", "priority": 1}]}')
    assert list(load_definitions(file, builtin=False)) == ["nightly_check"]


def test_a_name_in_the_file_comes_before_the_name_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "My Definition (copy).yaml"
    file.write_text("name: weekly_check\nlabel: Weekly\nsteps: [{type: metadata, priority: 1}]")
    assert list(load_definitions(str(file), builtin=False)) == ["weekly_check"]


def test_definitions_may_be_called_as_the_keys_of_a_definition_are() -> None:
    body = {"label": "x", "steps": [{"type": "metadata"}]}
    assert list(load_definitions({"label": body, "steps": body, "name": body}, builtin=False)) == [
        "label",
        "steps",
        "name",
    ]


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    for ending in ("json", "yaml"):
        file = tmp_path / f"nightly.{ending}"
        file.write_bytes(b'\xef\xbb\xbf{"label": "N", "steps": [{"type": "metadata"}]}')
        assert load_definitions(file)["nightly"].label == "N"


def test_anchors_and_merge_keys_may_share_what_definitions_have_in_common(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "first: &first\n  label: First\n  steps: &steps [{type: metadata, priority: 1}]\n"
        "second: {<<: *first, label: Second}\n"
        "third: {<<: *first, label: Third}\n"
        "fourth: {label: Fourth, steps: *steps}\n"
    )
    definitions = load_definitions(tmp_path, builtin=False)
    assert {name: definition.label for name, definition in definitions.items()} == {
        "first": "First",
        "second": "Second",
        "third": "Third",
        "fourth": "Fourth",
    }
    assert {definition.steps for definition in definitions.values()} == {definitions["first"].steps}


def test_an_empty_folder_and_an_empty_mapping_hold_no_definitions(tmp_path: Path) -> None:
    assert dict(load_definitions(tmp_path, builtin=False)) == {}
    assert dict(load_definitions({}, builtin=False)) == {}
    assert dict(load_definitions(builtin=False)) == {}


def test_a_users_definitions_stand_beside_the_builtin_ones() -> None:
    definitions = load_definitions({"nightly": {"label": "N", "steps": [{"type": "metadata"}]}})
    assert len(definitions) == 17
    assert definitions.get_or_raise("nightly").label == "N"
    assert definitions.sources["nightly"] == "<mapping>"


def test_what_was_loaded_cannot_be_changed() -> None:
    given: dict[str, Any] = {"label": "N", "steps": [{"type": "metadata", "params": {"sizes": [1]}}]}
    definitions = load_definitions({"nightly": given})
    given["steps"][0]["params"]["sizes"].append(2)
    definition = definitions["nightly"]
    assert definition.steps[0].params == {"sizes": [1]}
    with pytest.raises(TypeError):
        definitions["other"] = definition  # type: ignore[index]
    with pytest.raises(pydantic.ValidationError):
        definition.label = "other"
    with pytest.raises(pydantic.ValidationError):
        definition.steps[0].priority = 3
    assert repr(definitions) == "<Definitions: 17 usable, 0 problems>"


def test_equal_definitions_have_equal_hashes() -> None:
    body = {"label": "N", "schedule": "@daily", "steps": [{"type": "metadata", "params": {"sizes": [1]}}]}
    first, second = (load_definitions({"nightly": body})["nightly"] for _ in range(2))
    assert first is not second
    assert {first: "compiled"}[second] == "compiled"


def test_the_priority_of_a_definition_is_that_of_its_most_urgent_step() -> None:
    steps = (StepDefinition(type="metadata", priority=75), StepDefinition(type="file_removal", priority=90))
    assert TaskDefinition(name="nightly", label="Nightly", steps=steps).priority == 90


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": 101},
        {"priority": True},
        {"priority": "9"},
        {"chunk_size": 2001},
        {"max_attempts": 0},
        {"timeout_seconds": 0},
        {"on_failure": "retry"},
        {"params": {"a": float("nan")}},
        {"params": {"a": "\x00"}},
        {"unknown": 1},
        {"type": "Not A Type"},
    ],
)
def test_a_step_that_is_built_by_hand_is_held_to_the_same_rules(wrong: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        StepDefinition.model_validate({"type": "metadata", **wrong})


def test_a_pinned_definition_has_the_form_of_a_file_with_its_defaults_written_out() -> None:
    definition = TaskDefinition(name="nightly", label="Nightly", steps=(StepDefinition(type="gone", priority=5),))
    assert json.loads(definition.to_json()) == {
        "nightly": {
            "label": "Nightly",
            "user_relevant": False,
            "steps": [{"type": "gone", "priority": 5, "chunk_size": 2000, "on_failure": "stop", "params": {}}],
        }
    }


def test_a_pinned_definition_outlives_the_handler_of_its_step() -> None:
    definition = TaskDefinition(name="nightly", label="Nightly", steps=(StepDefinition(type="gone", priority=5),))
    with pytest.raises(DefinitionErrors):
        load_definitions(definition.to_mapping())
    assert read_pinned_definition(definition.to_json()) == definition


@pytest.mark.parametrize(
    ("pinned", "message"),
    [
        ("", "<pinned>: is empty: give one definition, or a mapping of names to definitions."),
        ("[]", "<pinned>: is not a pinned definition: give a mapping of one name to one definition."),
        ("{}", "<pinned>: is not a pinned definition: give a mapping of one name to one definition."),
        ('{"a": 1}', "<pinned>: a: 1 is not a definition: give a mapping with label and steps."),
        (
            '{"a": {"label": "A", "steps": [{"type": "x", "priority": 101}]}}',
            "<pinned>: a: steps[0].priority: 101 is not allowed: give a whole number from 0 to 100.",
        ),
    ],
)
def test_a_damaged_pin_is_refused(pinned: str, message: str) -> None:
    with pytest.raises(DefinitionErrors) as raised:
        read_pinned_definition(pinned)
    assert str(raised.value) == message


def test_reading_definitions_does_not_load_the_engine() -> None:
    program = "from task_definitions import load_definitions; load_definitions()"
    assert loaded_by(program, "prefect", "sqlalchemy", "jsonschema", "storage", "flows") == []


def test_definitions_is_a_mapping_that_can_be_built_by_hand() -> None:
    empty = Definitions(())
    assert len(empty) == 0
    assert empty.get("nightly") is None
    assert empty.errors == ()
