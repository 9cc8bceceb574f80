"""What runs: the model of definitions, the built-in ones, and the loader of a user's own.

Knows nothing of the database, of Prefect or of the handlers.
"""

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
from task_definitions.loader import load_definitions
from task_definitions.model import MAX_ITEMS_PER_JOB, StepDefinition, TaskDefinition
from task_definitions.registry import Definitions, LoadedDefinition
from task_definitions.schedule import Schedule
from task_definitions.scope import Scope, detect_scope
from task_definitions.step_types import StepType, known_step_type_names, register_step_type

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
    "register_step_type",
]
