"""Refuses empty values on the command line, such as an empty path, which would be the working folder.

The words `none` and `null` are refused, too, if Cyclopts would convert them to None, as if the option were missing. An
option that takes a text accepts these words.
"""

from __future__ import annotations

from typing import Final

from cyclopts import UNSET, App, ArgumentCollection

from deployments.cli.options.errors import BadInput

#: The words that Cyclopts may convert to None, whatever their case. `jq` prints `null` for a missing value.
_NO_VALUES: Final = frozenset({"none", "null"})


def refuse_empty_values(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Check that each option and argument that is given has a value, before Cyclopts converts the values.

    Raises:
        BadInput: a value is empty, consists of spaces, or would be converted to None.
    """
    for argument in arguments:
        for token in argument.tokens:
            name = token.keyword or argument.name.lstrip("-").upper()
            # A flag has no value of its own.
            if token.implicit_value is UNSET and not token.value.strip():
                raise BadInput(
                    f"{name}: the value is empty. Give a value; a shell variable that is not set is empty, too."
                )
            if token.value.lower() in _NO_VALUES and argument.convert() is None:
                raise BadInput(f"{name}: {token.value} is no value. Give a value, or leave {name} out.")
