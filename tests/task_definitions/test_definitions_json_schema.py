"""The JSON Schema accepts what the loader accepts, and refuses errors that an editor can recognize."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from task_definitions import load_definitions
from task_definitions.json_schema import definitions_json_schema, render
from task_definitions.step_types import BUILTIN_STEP_TYPES

STEP = {"type": "metadata", "priority": 90}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = definitions_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_builtin_definition_fits_as_one_file_and_as_a_mapping_of_all(
    validator: jsonschema.Draft202012Validator,
) -> None:
    together = {}
    for file in (resources.files("task_definitions") / "builtin").iterdir():
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        validator.validate(document)
        together[file.name.removesuffix(".yaml")] = document
    validator.validate(together)


def test_what_was_pinned_fits(validator: jsonschema.Draft202012Validator) -> None:
    for definition in load_definitions().values():
        validator.validate(definition.to_mapping())


@pytest.mark.parametrize(
    "document",
    [
        {"label": "x", "steps": [STEP]},
        {"name": "nightly", "label": "x", "steps": [STEP], "schedule": "@daily"},
        {"label": "x", "steps": [STEP], "schedule": {"interval_seconds": 60, "timezone": "UTC"}},
        {"label": "x", "steps": [STEP], "schedule": None, "scope": None},
        {"label": {"label": "x", "steps": [STEP]}},
        {"nightly": {"label": "x", "steps": [{"type": "acme.water-mark", "priority": 1, "params": {"a": [None]}}]}},
    ],
)
def test_what_the_loader_accepts_fits(validator: jsonschema.Draft202012Validator, document: dict[str, Any]) -> None:
    named = document if "label" not in document or isinstance(document["label"], dict) else {"nightly": document}
    load_definitions(named, step_types={"metadata", "acme.water-mark"})
    validator.validate(document)


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], []),
        ({}, []),
        ({"label": "x"}, []),
        ({"label": "x", "steps": []}, ["steps"]),
        ({"label": "x", "steps": [STEP], "lable": 1}, []),
        ({"label": "x", "steps": [{**STEP, "priority": 101}]}, ["steps", 0, "priority"]),
        ({"label": "x", "steps": [{**STEP, "priority": "95"}]}, ["steps", 0, "priority"]),
        ({"label": "x", "steps": [{**STEP, "chunk_size": 2001}]}, ["steps", 0, "chunk_size"]),
        ({"label": "x", "steps": [{**STEP, "prioritiy": 1}]}, ["steps", 0]),
        ({"label": "x", "steps": [{**STEP, "type": "Not A Type"}]}, ["steps", 0, "type"]),
        ({"label": "x", "steps": [STEP], "scope": "projct"}, ["scope"]),
        ({"label": "x", "steps": [STEP], "schedule": "0 3 * *"}, ["schedule"]),
        ({"label": "x", "steps": [STEP], "schedule": {"timezone": "UTC"}}, ["schedule"]),
        ({"nightly": {"label": "x"}}, ["nightly"]),
        ({"Nightly Check": {"label": "x", "steps": [STEP]}}, []),
    ],
)
def test_what_the_loader_refuses_does_not_fit(
    validator: jsonschema.Draft202012Validator, document: Any, place: list[str | int]
) -> None:
    errors = list(validator.iter_errors(document))
    assert place in [list(error.absolute_path) for error in errors]


def test_every_field_and_every_step_type_is_described() -> None:
    schema = definitions_json_schema()
    step = schema["$defs"]["StepDefinition"]
    offered = step["properties"]["type"]["anyOf"][0]["oneOf"]
    assert {entry["const"] for entry in offered} >= set(BUILTIN_STEP_TYPES)
    assert all(entry["description"] for entry in offered if entry["const"] in BUILTIN_STEP_TYPES)
    schedule = schema["$defs"]["Schedule"]["anyOf"][1]
    for entry in (schema["$defs"]["TaskDefinition"], step, schedule):
        assert all(field["description"] for field in entry["properties"].values())


def test_the_rendered_schema_is_the_same_each_time() -> None:
    assert render() == render()
    assert json.loads(render()) == definitions_json_schema()
    assert render().endswith("}\n")


def test_the_published_schema_is_the_one_that_is_written_now() -> None:
    published = Path(__file__).parents[2] / "docs" / "reference" / "definitions.schema.json"

    assert published.read_text(encoding="utf-8") == render(), f"photojobs definitions schema --output {published}"
