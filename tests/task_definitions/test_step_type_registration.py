"""Step types are registered by name, and wrong registrations are refused."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import task_definitions.step_types as registry
from task_definitions import (
    ConflictingStepType,
    DefinitionErrors,
    InvalidStepType,
    StepType,
    known_step_type_names,
    load_definitions,
    register_step_type,
)
from task_definitions.step_types import BUILTIN_STEP_TYPES, step_types

WATERMARK = StepType(name="acme.water-mark", unit="items", summary="Puts a mark on each photo.")
DEFINITION = {"mark": {"label": "Mark", "steps": [{"type": "acme.water-mark", "priority": 50}]}}


@pytest.fixture(autouse=True)
def _nothing_stays_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


def test_a_definition_may_use_a_step_type_once_it_is_registered() -> None:
    with pytest.raises(DefinitionErrors):
        load_definitions(DEFINITION)
    register_step_type(WATERMARK)
    assert step_types()["acme.water-mark"] is WATERMARK
    assert "mark" in load_definitions(DEFINITION)


def test_registering_the_same_step_type_again_changes_nothing() -> None:
    register_step_type(WATERMARK)
    register_step_type(StepType(name="acme.water-mark", unit="items", summary="Puts a mark on each photo."))
    register_step_type(BUILTIN_STEP_TYPES["metadata"])
    assert len(step_types()) == 22


def test_a_second_step_type_of_the_same_name_is_refused() -> None:
    register_step_type(WATERMARK)
    with pytest.raises(ConflictingStepType) as raised:
        register_step_type(StepType(name="acme.water-mark", unit="projects", summary="Something else."))
    assert str(raised.value) == (
        'step type "acme.water-mark": a step type with this name and other properties is already registered '
        '("Puts a mark on each photo."). Give the new step type another name.'
    )
    with pytest.raises(ConflictingStepType, match=r'"trash_maintenance": a step type with this name .* is built in'):
        register_step_type(StepType(name="trash_maintenance", unit="items", summary="Empties everything."))
    assert step_types()["trash_maintenance"].unit == "projects"


def test_the_names_of_installed_entry_points_are_known_without_loading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[photojobs.steps]\nacme.water-mark = acme_is_broken:mark\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def refuse(_entry_point: EntryPoint) -> None:
        pytest.fail("an entry point was loaded")

    monkeypatch.setattr(EntryPoint, "load", refuse)
    assert "acme.water-mark" in known_step_type_names()
    assert "acme.water-mark" not in step_types()
    assert "mark" in load_definitions(DEFINITION)


def test_the_known_step_types_cannot_be_changed_from_outside() -> None:
    with pytest.raises(TypeError):
        step_types()["metadata"] = WATERMARK  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "Water Mark", "unit": "items"},
            'step type "Water Mark": the name is not allowed: give 1 to 64 characters, a small letter first, '
            "then small letters, digits, _, . and -.",
        ),
        (
            {"name": "mark", "unit": "photos"},
            'step type "mark": unit "photos" is not allowed: give items, projects or library.',
        ),
        (
            {"name": "mark", "unit": "items", "default_items": "some"},
            'step type "mark": default_items "some" is not allowed: give all or pending_deletions.',
        ),
    ],
)
def test_a_step_type_that_cannot_be_is_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidStepType) as raised:
        StepType(**arguments, summary="x")  # type: ignore[arg-type]
    assert str(raised.value) == message
