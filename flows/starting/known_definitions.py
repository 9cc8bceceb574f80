"""The definitions of this process: the built-in ones, and those that its settings name."""

from __future__ import annotations

from flows.process.runtime import Runtime
from task_definitions import Definitions, TaskDefinition, load_definitions


def find_definition(type: str | TaskDefinition) -> TaskDefinition:
    """Return the definition with this name.

    Raises:
        UnknownDefinition: there is none.
    """
    if isinstance(type, TaskDefinition):
        return type
    return known_definitions().get_or_raise(type)


def known_definitions() -> Definitions:
    """The built-in definitions and those that the setting `definitions` names; invalid ones are left out."""
    return load_definitions(Runtime.current().settings.definitions, strict=False)
