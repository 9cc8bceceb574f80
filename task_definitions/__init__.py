"""Task definitions: the model, the built-in definitions, and the loader for users' definitions.

`model.py` declares what a definition is, `step_types.py` which step types exist, and `schedule.py` and `cron.py` which
schedules are valid. `loader.py` finds and reads the files, `validation.py` checks them, and `scope.py` determines the
scope of a run.

This package does not use the database, Prefect or the handlers. The errors are loaded at once, all other names on first
use, so that the help of the command starts without loading the model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from task_definitions.errors import (
    ConflictingStepType,
    DefinitionError,
    DefinitionErrors,
    DuplicateDefinition,
    DuplicateKey,
    InvalidDefinition,
    InvalidStepType,
    MissingProject,
    PhotojobsError,
    ScopeError,
    ScopeMismatch,
    UnexpectedProject,
    UnknownDefinition,
    UnknownKey,
    UnknownScope,
    UnknownStepType,
    UnreadableDefinitionFile,
)

if TYPE_CHECKING:
    from task_definitions.definitions import Definitions, LoadedDefinition
    from task_definitions.loader import load_definitions
    from task_definitions.model import MAX_ITEMS_PER_JOB, StepDefinition, TaskDefinition
    from task_definitions.schedule import Schedule
    from task_definitions.scope import Scope, detect_scope
    from task_definitions.step_types import StepType, known_step_type_names, register_step_type
    from task_definitions.validation import read_pinned_definition

__all__ = [
    "MAX_ITEMS_PER_JOB",
    "ConflictingStepType",
    "DefinitionError",
    "DefinitionErrors",
    "Definitions",
    "DuplicateDefinition",
    "DuplicateKey",
    "InvalidDefinition",
    "InvalidStepType",
    "LoadedDefinition",
    "MissingProject",
    "PhotojobsError",
    "Schedule",
    "Scope",
    "ScopeError",
    "ScopeMismatch",
    "StepDefinition",
    "StepType",
    "TaskDefinition",
    "UnexpectedProject",
    "UnknownDefinition",
    "UnknownKey",
    "UnknownScope",
    "UnknownStepType",
    "UnreadableDefinitionFile",
    "detect_scope",
    "known_step_type_names",
    "load_definitions",
    "read_pinned_definition",
    "register_step_type",
]

#: The public names of each module.
_NAMES = {
    "task_definitions.loader": ("load_definitions",),
    "task_definitions.model": ("MAX_ITEMS_PER_JOB", "StepDefinition", "TaskDefinition"),
    "task_definitions.definitions": ("Definitions", "LoadedDefinition"),
    "task_definitions.schedule": ("Schedule",),
    "task_definitions.scope": ("Scope", "detect_scope"),
    "task_definitions.step_types": ("StepType", "known_step_type_names", "register_step_type"),
    "task_definitions.validation": ("read_pinned_definition",),
}


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
