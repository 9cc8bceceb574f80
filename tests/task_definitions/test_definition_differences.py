"""Differences between two versions of definitions are reported field by field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.deploying.definitions_on_server import declaration, declared_in
from task_definitions import TaskDefinition, load_definitions
from task_definitions.difference import compare_definition, compare_definitions


def tiny(*steps: dict[str, Any] | str, **fields: Any) -> TaskDefinition:
    declared = [{"type": step} if isinstance(step, str) else step for step in steps]
    return TaskDefinition.model_validate({"name": "tiny", "label": "Tiny", "steps": declared, **fields})


def told(before: TaskDefinition, after: TaskDefinition) -> list[str]:
    return list(map(str, compare_definition(before, after)))


def test_a_definition_does_not_differ_from_itself() -> None:
    builtin = load_definitions(None)

    assert compare_definitions(builtin, builtin) == ()


@pytest.mark.parametrize(
    ("before", "after", "differences"),
    [
        (
            tiny({"type": "one", "priority": 80}),
            tiny({"type": "one", "priority": 90}),
            ["steps[0] one: priority 80 → 90"],
        ),
        (tiny("one", "two"), tiny("one", "new", "two"), ["steps[1] new added"]),
        (tiny("one", "old", "two"), tiny("one", "two"), ["steps[1] old removed"]),
        (tiny("one", "two", "three"), tiny("three", "one", "two"), ["steps[0] three moved from steps[2]"]),
        (
            tiny("one", "two", {"type": "three", "priority": 5}),
            tiny({"type": "three", "priority": 6}, "one", "two"),
            ["steps[0] three moved from steps[2]", "steps[0] three: priority 5 → 6"],
        ),
        (tiny("one", "one"), tiny("one"), ["steps[1] one removed"]),
        (tiny("one"), tiny("one", label="Small"), ['label "Tiny" → "Small"']),
        (tiny("one"), tiny("one", scope="global"), ['scope — → "global"']),
    ],
)
def test_each_change_is_told_once_and_in_the_words_of_the_file(
    before: TaskDefinition, after: TaskDefinition, differences: list[str]
) -> None:
    assert told(before, after) == differences


def test_added_and_removed_definitions_are_told_by_name() -> None:
    differences = compare_definitions({"old": tiny("one")}, {"new": tiny("one")})

    assert list(map(str, differences)) == ["new: added", "old: removed"]


_STEPS = st.lists(
    st.builds(
        lambda type_, priority, size: {"type": type_, "priority": priority, "chunk_size": size},
        st.sampled_from(["one", "two", "three"]),
        st.integers(0, 100),
        st.integers(1, 2000),
    ),
    min_size=1,
    max_size=6,
)


@given(_STEPS, _STEPS)
def test_definitions_are_equal_exactly_when_nothing_is_told(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    first, second = tiny(*before), tiny(*after)

    assert (told(first, second) == []) == (first == second)


@given(
    _STEPS,
    st.text(min_size=1, max_size=40).filter(lambda text: text.strip() and text.isprintable()),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80),
)
def test_a_deployments_description_gives_the_definition_back(
    steps: list[dict[str, Any]], label: str, description: str
) -> None:
    definition = tiny(*steps, label=label, description=f"{description}\n```\n```yaml\nodd: 1\n```")

    assert declared_in(f"What it does.\n\n{declaration(definition)}\n") == definition
