"""Finds definitions by name among the built-in definitions and the definitions in the files that the settings name.

`task_definitions.loader` decides which files are read.
"""

from flows.handlers.step import load_steps
from flows.process.runtime import Runtime
from storage.settings import Settings
from task_definitions import Definitions, TaskDefinition, load_definitions


def find_definition(type: str | TaskDefinition) -> TaskDefinition:
    """Return the definition with this name. A definition in place of a name is returned unchanged.

    Raises:
        UnknownDefinition: there is no definition of that name.
    """
    if isinstance(type, TaskDefinition):
        return type
    return known_definitions(Runtime.current().settings).get_or_raise(type)


def known_definitions(settings: Settings) -> Definitions:
    """Return the built-in definitions and the valid definitions in the files that the setting `definitions` names."""
    # Only the loaded handler of another package declares its parameters, and all starts must refuse the same ones.
    load_steps()
    return load_definitions(settings.definitions, strict=False)
