"""`PhotojobsError`, the parent of the project's errors, and the errors of definitions, step types and scopes.

The message of a problem is one line with the place (source, definition, field), the problem, and what to do about it.
"""

from collections.abc import Iterable

from task_definitions.wording import printable

#: Messages cut a source, a name or a field to this number of characters. Only very long paths reach it.
MAX_PLACE_CHARACTERS = 1000


class PhotojobsError(Exception):
    """The base class of every error that photojobs raises on purpose."""


class DefinitionError(PhotojobsError):
    """A definition is not valid; each subclass is for one kind of problem.

    Attributes:
        problem: The problem and what is allowed, as a sentence.
        source: The file (or built-in, or `<mapping>`) with the definition, if known.
        definition: The name of the definition, if known.
        field: The place in the definition, as in `steps[2].type` (counted from 0), if known.
    """

    def __init__(
        self, problem: str, *, source: str | None = None, definition: str | None = None, field: str | None = None
    ) -> None:
        self.problem = problem
        self.source = source
        self.definition = definition
        self.field = field
        where = (printable(part[:MAX_PLACE_CHARACTERS]) for part in (source, definition, field) if part is not None)
        super().__init__(": ".join((*where, printable(problem))))


class UnreadableDefinitionFile(DefinitionError):
    """A definition file or folder is missing, cannot be read, or is not well-formed JSON or YAML in UTF-8."""


class InvalidDefinition(DefinitionError):
    """A definition has a value that is not allowed, or lacks a required value."""


class UnknownKey(InvalidDefinition):
    """A definition, a step or a schedule has an unknown key."""


class DuplicateKey(InvalidDefinition):
    """A mapping in a definition file has the same key twice; one of the two values would be lost silently."""


class DuplicateDefinition(DefinitionError):
    """Two definitions have the same name."""


class UnknownStepType(DefinitionError):
    """A step has a type that is not a known step type."""


class UnknownDefinition(DefinitionError):
    """No usable definition has the given name."""


class DefinitionErrors(DefinitionError):
    """All problems of a file, a folder or a mapping at once; the message has one line for each problem.

    Attributes:
        errors: The problems, in the order of the lines of the message.
    """

    def __init__(self, errors: Iterable[DefinitionError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(error.problem for error in self.errors))

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)

    def __reduce__(self) -> tuple[type["DefinitionErrors"], tuple[tuple[DefinitionError, ...]]]:
        return type(self), (self.errors,)


class ConflictingStepType(PhotojobsError):
    """A step type is registered a second time, with other properties than the first time."""


class InvalidStepType(PhotojobsError):
    """A step type is declared with a name, a unit or default items that are not allowed."""


class ScopeError(PhotojobsError):
    """The scope of a run does not fit its other parameters."""


class UnknownScope(ScopeError):
    """The given scope is not project, photo_set or global."""


class ScopeMismatch(ScopeError):
    """The given scope of a run is not the one that its definition declares."""


class MissingProject(ScopeError):
    """A run has no `project_id`, although its scope is `project` or one of its steps moves photos to a project."""


class UnexpectedProject(ScopeError):
    """A run of scope `global` has a `project_id`."""
