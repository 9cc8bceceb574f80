"""Refuses empty values on the command line: a path without a name is the working folder, and an empty id is no id."""

from __future__ import annotations

from cyclopts import UNSET, App, ArgumentCollection

from deployments.cli.options.errors import BadInput


def refuse_empty_values(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Check that no option and no argument has an empty value, before Cyclopts converts the values.

    Raises:
        BadInput: a value is empty, or consists of spaces.
    """
    for argument in arguments:
        for token in argument.tokens:
            # A flag has no value of its own.
            if token.implicit_value is UNSET and not token.value.strip():
                name = token.keyword or argument.name.lstrip("-").upper()
                raise BadInput(
                    f"{name}: the value is empty. Give a value; a shell variable that is not set is empty, too."
                )
