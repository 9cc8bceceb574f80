"""Finds definitions by name among the built-in definitions and the definitions in the files that the settings name.

`task_definitions.loader` decides which files are read.
"""

from flows.process.runtime import Runtime
from task_definitions import Definitions, TaskDefinition, load_definitions


def find_definition(type: str | TaskDefinition) -> TaskDefinition:
    """Return the definition with this name. A definition in place of a name is returned unchanged.

    Raises:
        UnknownDefinition: there is no valid definition of that name.
    """
    if isinstance(type, TaskDefinition):
        return type
    return known_definitions().get_or_raise(type)


def known_definitions() -> Definitions:
    """Return the built-in definitions and the valid definitions in the files that the setting `definitions` names."""
    return load_definitions(Runtime.current().settings.definitions, strict=False)
