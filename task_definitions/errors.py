"""The root of the project's error tree, and every way in which a definition can be wrong.

Each message is one line: where (source, definition, field), what is wrong, and what to do about it.
"""

from collections.abc import Iterable

from task_definitions.wording import printable

#: Characters of a source, a name or a field that a message shows; a path may be this long, a name never is.
MAX_PLACE_CHARACTERS = 1000


class PhotojobsError(Exception):
    """The root of every error that photojobs raises on purpose."""


class DefinitionError(PhotojobsError):
    """Something about a definition is wrong; the subclasses say what.

    Attributes:
        problem: The sentence that says what is wrong and what is allowed.
        source: The file (or built-in, or `<mapping>`) that holds the definition, where one is known.
        definition: The name of the definition, where one is known.
        field: The place inside the definition, as in `steps[2].type` (counted from 0), where one is known.
    """

    def __init__(
        self,
        problem: str,
        *,
        source: str | None = None,
        definition: str | None = None,
        field: str | None = None,
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
    """A definition has a value that is not allowed, or lacks one that is required."""


class UnknownKey(InvalidDefinition):
    """A definition, a step or a schedule has a key that nothing reads."""


class DuplicateKey(InvalidDefinition):
    """A mapping in a definition file has the same key twice, so that one of the two would silently be lost."""


class DuplicateDefinition(DefinitionError):
    """Two definitions have the same name."""


class UnknownStepType(DefinitionError):
    """A step names a type that no handler is registered for."""


class UnknownDefinition(DefinitionError):
    """A definition was asked for by a name that no usable definition has."""


class DefinitionErrors(DefinitionError):
    """All problems of a file, a folder or a mapping at once; the message has a line for each.

    Attributes:
        errors: The problems, in the order in which they were found.
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
    """A step type is declared with a name, a unit or a default that does not exist."""


class ScopeError(PhotojobsError):
    """The scope of a run does not fit what else was given."""


class UnknownScope(ScopeError):
    """A scope was given that is none of project, photo_set and global."""


class ScopeMismatch(ScopeError):
    """A run was asked for with another scope than the one its definition declares."""


class MissingProject(ScopeError):
    """A run of scope `project` was asked for without a `project_id`."""


class UnexpectedProject(ScopeError):
    """A run of scope `global` was asked for with a `project_id`."""
