"""A valid definition is the same after each conversion; an invalid one raises only the documented error."""

import json
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from task_definitions import DefinitionErrors, Scope, TaskDefinition, load_definitions, read_pinned_definition
from task_definitions.step_types import BUILTIN_STEP_TYPES

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() != ""
)
INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
STEPS = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(BUILTIN_STEP_TYPES)), "priority": st.integers(0, 100)},
    optional={
        "max_attempts": st.integers(1, 1000),
        "retry_delay_seconds": st.floats(0, 1e6) | st.integers(0, 10**6),
        "timeout_seconds": st.floats(0, 1e6, exclude_min=True) | st.integers(1, 10**6),
        "chunk_size": st.integers(1, 2000),
        "on_failure": st.sampled_from(["stop", "continue"]),
        "run_if": NAMES,
        "params": st.dictionaries(TEXT, JSON_VALUES, max_size=3),
    },
)
TIMEZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
CRONS = st.sampled_from(["0 3 * * *", "@daily", "*/15 8-18/2 1,15 jan-mar mon"])
SCHEDULES = (
    CRONS
    | st.fixed_dictionaries({"cron": CRONS}, optional={"timezone": TIMEZONES})
    | st.fixed_dictionaries(
        {"interval_seconds": st.integers(1, 10**6) | st.floats(1, 1e6)}, optional={"timezone": TIMEZONES}
    )
)
BODIES = st.fixed_dictionaries(
    {"label": LINES, "steps": st.lists(STEPS, min_size=1, max_size=4)},
    optional={
        "user_relevant": st.booleans(),
        "scope": st.sampled_from([scope.value for scope in Scope]),
        "description": TEXT,
        "schedule": SCHEDULES,
    },
)


@given(declared=st.dictionaries(NAMES, BODIES, min_size=1, max_size=3))
@settings(max_examples=3 * settings().max_examples, deadline=None)
def test_a_valid_definition_comes_back_the_same_through_files_and_pins(declared: dict[str, Any]) -> None:
    loaded = load_definitions(declared, builtin=False)
    assert list(loaded) == list(declared)
    with tempfile.TemporaryDirectory() as folder:
        as_json, as_yaml = Path(folder, "a.json"), Path(folder, "a.yaml")
        as_json.write_text(json.dumps(declared), encoding="utf-8")
        as_yaml.write_text(yaml.safe_dump(declared), encoding="utf-8")
        assert dict(load_definitions(as_json, builtin=False)) == dict(loaded)
        assert dict(load_definitions(as_yaml, builtin=False)) == dict(loaded)
    for definition in loaded.values():
        pinned = definition.to_json()
        assert read_pinned_definition(pinned) == definition
        assert read_pinned_definition(definition.to_mapping()) == definition
        assert read_pinned_definition(pinned).to_json() == pinned
        assert load_definitions(definition.to_mapping(), builtin=False)[definition.name] == definition


HOSTILE_KEYS = st.one_of(
    TEXT,
    st.sampled_from([*TaskDefinition.model_fields, "type", "priority", "params", "cron", "timezone"]),
    st.text(max_size=5),
    st.integers(),
    st.none(),
)
HOSTILE_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=4), TIMEZONES
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE_KEYS, inner, max_size=5) | STEPS,
    max_leaves=15,
)


def check_that_it_loads_or_says_why(source: dict[Any, Any]) -> None:
    lenient = load_definitions(source, strict=False)
    if lenient.errors:
        assert all(str(error).isprintable() for error in lenient.errors)
        with pytest.raises(DefinitionErrors) as raised:
            load_definitions(source)
        assert [str(error) for error in raised.value.errors] == [str(error) for error in lenient.errors]
    else:
        assert dict(load_definitions(source)) == dict(lenient)


@given(source=st.dictionaries(HOSTILE_KEYS, HOSTILE_VALUES | BODIES, max_size=5) | BODIES)
@settings(max_examples=8 * settings().max_examples, deadline=None)
def test_any_mapping_either_loads_or_raises_definition_errors(source: dict[Any, Any]) -> None:
    check_that_it_loads_or_says_why(source)


@given(base=BODIES, changes=st.dictionaries(HOSTILE_KEYS, HOSTILE_VALUES, min_size=1, max_size=2))
@settings(max_examples=4 * settings().max_examples, deadline=None)
def test_a_valid_definition_with_anything_put_into_it_either_loads_or_raises_definition_errors(
    base: dict[str, Any], changes: dict[Any, Any]
) -> None:
    check_that_it_loads_or_says_why({"nightly": {**base, **changes}})
    steps = [{**base["steps"][0], **changes}, *base["steps"][1:]]
    check_that_it_loads_or_says_why({"nightly": {**base, "steps": steps}})


@given(content=st.binary(max_size=60) | st.text("[]{}&*!<>|:?-,#%@`'\"\\ \nabn01.~=", max_size=40).map(str.encode))
@settings(max_examples=4 * settings().max_examples, deadline=None)
def test_any_file_either_loads_or_raises_definition_errors(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.yaml", "a.json"):
            file = Path(folder, name)
            file.write_bytes(content)
            with pytest.raises(DefinitionErrors) as raised:
                load_definitions(file)
            assert all(error.source == str(file) for error in raised.value.errors)


@given(pinned=st.text(max_size=30) | HOSTILE_VALUES.map(lambda value: json.dumps(value, default=str, skipkeys=True)))
@settings(max_examples=5 * settings().max_examples, deadline=None)
def test_what_was_never_pinned_raises_definition_errors(pinned: str) -> None:
    with pytest.raises(DefinitionErrors):
        read_pinned_definition(pinned)


def test_letters_of_every_alphabet_survive() -> None:
    label = "Nächtliche Prüfung 夜間 👩‍👩‍👧 " + string.punctuation
    definition = load_definitions({"nightly": {"label": label, "steps": [{"type": "metadata"}]}})["nightly"]
    assert read_pinned_definition(definition.to_json()).label == label
