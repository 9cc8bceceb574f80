"""The built-in definitions are exactly those that the documentation promises."""

from importlib import resources

import pytest
import yaml

from task_definitions import Scope, load_definitions
from task_definitions.step_types import BUILTIN_STEP_TYPES

COMMIT_STEPS = [("file_removal", 100), ("manifest_check", 95), ("folder_check", 95), ("manifest_cleaning", 80)]

#: For each definition by name: label, whether it is for users, scope, and steps with their priorities.
PROMISED = {
    "upload_postprocess": (
        "Upload Post-Process",
        True,
        "project",
        [("upload_postprocess", 90), ("manifest_check", 95), ("folder_check", 95)],
    ),
    "change_commit": ("Commit Changes", True, "project", COMMIT_STEPS),
    "change_commit_all": ("Commit Changes (All Photos)", True, "photo_set", COMMIT_STEPS),
    "maintenance": (
        "Maintenance",
        False,
        "project",
        [("trash_maintenance", 100), ("manifest_check", 95), ("folder_check", 95), ("manifest_cleaning", 80)],
    ),
    "maintenance_global": (
        "Global Maintenance",
        False,
        "global",
        [
            ("trash_maintenance", 100),
            ("orphaned_project_cleanup", 99),
            ("duplicate_resolution", 98),
            ("folder_alignment", 96),
            ("manifest_check", 95),
            ("folder_check", 95),
            ("derivative_validation", 85),
            ("manifest_cleaning", 80),
        ],
    ),
    "trash_only": ("Trash Cleanup Only", False, "project", [("trash_maintenance", 100)]),
    "project_scavenge": ("Project Scavenge (Archived Only)", False, "project", [("project_scavenge", 100)]),
    "project_scavenge_global": ("Global Project Scavenge", False, "global", [("project_scavenge", 100)]),
    "project_delete": (
        "Delete Project",
        True,
        "project",
        [("project_stop_processes", 100), ("project_delete_files", 100), ("project_cleanup_db", 95)],
    ),
    "image_move": (
        "Move Images Between Projects",
        True,
        "photo_set",
        [("image_move_files", 95), ("manifest_check", 95), ("generate_derivatives", 90)],
    ),
    "folder_discovery": ("Folder Discovery", False, "global", [("folder_discovery", 95)]),
    "generate_derivatives": ("Generate Derivatives", True, "photo_set", [("generate_derivatives", 90)]),
    "regenerate_metadata": ("Regenerate Metadata", True, "global", [("regenerate_metadata", 90)]),
    "process_photos": ("Process Photos", True, "photo_set", [("metadata", 90), ("generate_derivatives", 75)]),
    "undo": ("Undo", True, "global", [("undo", 95)]),
    "verify_originals": ("Verify Originals", False, "global", [("verify_originals", 60)]),
}

STOPPING_STEPS = {
    "project_stop_processes",
    "project_delete_files",
    "project_cleanup_db",
    "project_scavenge",
    "folder_discovery",
    "undo",
}

#: The names of the step types by their unit.
PROMISED_STEP_TYPES = {
    "projects": {
        "trash_maintenance",
        "orphaned_project_cleanup",
        "duplicate_resolution",
        "folder_alignment",
        "manifest_check",
        "folder_check",
        "manifest_cleaning",
        "derivative_validation",
        "regenerate_metadata",
        "verify_originals",
        "project_stop_processes",
        "project_delete_files",
        "project_cleanup_db",
        "project_scavenge",
    },
    "items": {"generate_derivatives", "upload_postprocess", "metadata", "file_removal", "image_move_files"},
    "library": {"folder_discovery", "undo"},
}


def test_there_are_exactly_the_promised_definitions() -> None:
    assert set(load_definitions()) == set(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_a_builtin_definition_is_as_promised(name: str) -> None:
    label, user_relevant, scope, steps = PROMISED[name]
    definition = load_definitions()[name]
    assert definition.name == name
    assert definition.label == label
    assert definition.user_relevant is user_relevant
    assert definition.scope is Scope(scope)
    assert [(step.type, step.priority) for step in definition.steps] == steps
    assert definition.priority == max(priority for _, priority in steps)
    assert definition.description


def test_each_builtin_definition_has_a_file_of_its_own() -> None:
    files = {file.name for file in (resources.files("task_definitions") / "builtin").iterdir()}
    assert files == {f"{name}.yaml" for name in PROMISED}
    assert load_definitions().sources["image_move"] == "built-in image_move.yaml"


def test_only_steps_whose_failure_makes_going_on_unsafe_stop_their_task() -> None:
    for definition in load_definitions().values():
        for step in definition.steps:
            assert step.on_failure == ("stop" if step.type in STOPPING_STEPS else "continue"), (definition.name, step)


def test_only_the_last_step_of_a_move_depends_on_a_flag() -> None:
    flags = {
        (definition.name, step.type): step.run_if
        for definition in load_definitions().values()
        for step in definition.steps
        if step.run_if
    }
    assert flags == {("image_move", "generate_derivatives"): "need_generate_derivatives"}


def test_upkeep_of_the_whole_library_runs_by_itself() -> None:
    schedules = {d.name: (d.schedule.cron, d.schedule.timezone) for d in load_definitions().values() if d.schedule}
    assert schedules == {
        "maintenance_global": ("0 3 * * *", "UTC"),
        "folder_discovery": ("0 * * * *", "UTC"),
        "project_scavenge_global": ("0 4 * * 0", "UTC"),
        "verify_originals": ("0 5 * * 6", "UTC"),
    }


def test_the_builtin_step_types_are_the_promised_ones_with_their_units() -> None:
    by_unit: dict[str, set[str]] = {}
    for step_type in BUILTIN_STEP_TYPES.values():
        by_unit.setdefault(step_type.unit, set()).add(step_type.name)
        assert step_type.summary
        assert step_type.description
        assert "\n" not in step_type.summary
    assert by_unit == PROMISED_STEP_TYPES
    assert len(BUILTIN_STEP_TYPES) == 21


def test_every_builtin_step_type_is_used_by_a_builtin_definition() -> None:
    used = {step.type for definition in load_definitions().values() for step in definition.steps}
    assert used == set(BUILTIN_STEP_TYPES)


def test_steps_that_touch_no_original_do_not_hold_their_project() -> None:
    harmless = {step_type.name for step_type in BUILTIN_STEP_TYPES.values() if not step_type.modifies_files}
    assert harmless == {
        "derivative_validation",
        "generate_derivatives",
        "upload_postprocess",
        "metadata",
        "regenerate_metadata",
        "verify_originals",
    }


def test_only_file_removal_falls_back_to_pending_deletions() -> None:
    fallback = {step_type.name for step_type in BUILTIN_STEP_TYPES.values() if step_type.default_items != "all"}
    assert fallback == {"file_removal"}
    assert BUILTIN_STEP_TYPES["file_removal"].default_items == "pending_deletions"


def test_the_builtin_files_are_plain_yaml_that_any_reader_understands() -> None:
    for file in (resources.files("task_definitions") / "builtin").iterdir():
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert set(document) <= {"label", "description", "user_relevant", "scope", "schedule", "steps"}
