"""Writes the message for a command line that Cyclopts cannot parse, such as one with too many arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from deployments.cli.output.help_pages import OptionHelp, command_options, command_usage
from task_definitions.wording import MAX_SHOWN_CHARACTERS, shortened, shown

_NUMBER = re.compile(r"\d+(\.\d+)?")


def usage_error(root: App, error: CycloptsError) -> str:
    """Return the message of an error of Cyclopts, followed by the usage of the command if that can help."""
    error.verbose = False
    if isinstance(error, CoercionError | UnknownOptionError) and error.token is not None:
        keyword = error.token.keyword
        error.token = error.token.evolve(
            keyword=None if keyword is None else shortened(keyword), value=shortened(error.token.value)
        )
    path = tuple(error.command_chain or ())
    if not path or not isinstance(error, UnusedCliTokensError | MissingArgumentError | UnknownOptionError):
        return str(error)
    says = str(error)
    if isinstance(error, UnusedCliTokensError):
        words = error.unused_tokens or []
        says = f"unexpected: {', '.join(map(shown, words))}.{_did_you_mean(root, path, words)}"
    usage = command_usage(root, path)
    return f"{says} Usage: {usage}. `{' '.join((root.name[0], *path))} --help` shows the options."


def _did_you_mean(root: App, path: Sequence[str], words: Sequence[str]) -> str:
    app = root
    for name in path:
        app = app[name]
    options = {one.names[0]: one for one in command_options(app) if one.takes and not one.is_argument}
    word = words[0]
    if len(words) > 1 and f"--{word}" in options:
        option, word = options[f"--{word}"], words[1]
    else:
        fitting = [one for one in options.values() if _fits(one, word)]
        if not fitting:
            return ""
        option = min(fitting, key=_how_unlikely)
    is_readable = word.isprintable() and len(word) <= MAX_SHOWN_CHARACTERS
    return f" Did you mean {option.names[0]} {shlex.quote(word)}?" if is_readable else ""


def _fits(option: OptionHelp, word: str) -> bool:
    if option.choices:
        return word in option.choices
    if option.takes in ("INT", "FLOAT"):
        return _NUMBER.fullmatch(word) is not None
    return option.takes in ("STR", "STR...", "PATH")


def _how_unlikely(option: OptionHelp) -> tuple[bool, bool]:
    # An option that accepts only numbers or certain words is more likely than one that accepts any text. --tenant is
    # the least likely one, because few users have more than one tenant.
    return option.names[0] == "--tenant", not option.choices and option.takes not in ("INT", "FLOAT")
