"""Reads command lines in pages, and checks that the command `photojobs` accepts them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from cyclopts import App

from deployments.cli.command_line import build_app

#: Words in capitals are placeholders for values of the reader, in usage and in running text.
_STANDS_FOR_SOMETHING = re.compile(r"[A-Z_]+|[A-Z_]+=.*|…|\.\.\.|\[.*")


@dataclass(frozen=True)
class CommandLine:
    """One command line of a page.

    Attributes:
        words: the program and its arguments.
        environment: the variables that are set only for this command.
        output: the file to which the output is redirected.
        expected: the output that the page shows; None if it shows none.
    """

    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    output: str | None = None
    expected: str | None = None

    @property
    def program(self) -> str:
        return self.words[0]


def command_lines(text: str) -> Iterator[CommandLine]:
    """Yield the commands of a console block.

    If a line begins with `$ `, only such lines are commands, and the lines after each are its output.
    """
    text = text.replace("\\\n", " ")
    if not re.search(r"^\$ ", text, re.MULTILINE):
        for line in text.splitlines():
            yield from _read(line, expected=None)
        return
    for shown in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, expected = shown.partition("\n")
        yield from _read(line, expected=expected if expected.strip() else None)


def check_words(words: list[str]) -> None:
    """Check that `photojobs` has this command and these options, with any values.

    Raises:
        AssertionError: the command or an option does not exist.
    """
    app, path = build_app(), ["photojobs"]
    rest = [word for word in words if word not in ("--verbose", "--help", "--version")]
    while rest and rest[0] in app:
        app, path, rest = app[rest[0]], [*path, rest[0]], rest[1:]
    takes_words = app.default_command is not None and len(path) > 1
    assert not rest or takes_words or _STANDS_FOR_SOMETHING.fullmatch(rest[0]), f"{' '.join(path)} has no {rest[0]!r}"
    if takes_words:
        options = _options(app)
        for word in rest:
            option = word.partition("=")[0]
            assert not option.startswith("--") or option in options, f"{' '.join(path)} has no option {option}"


def parse_words(words: list[str]) -> None:
    """Check that `photojobs` accepts this command line.

    Raises:
        CycloptsError: the command line is refused.
    """
    words = [word for word in words if word != "--verbose"]
    if words and words != ["--help"] and words != ["--version"]:
        check_words(words)
        build_app().parse_args(words, print_error=False, exit_on_error=False)


def _options(app: App) -> set[str]:
    return {name for argument in app.assemble_argument_collection() for name in argument.names}


def _read(line: str, *, expected: str | None) -> Iterator[CommandLine]:
    for part in _parts(shlex.split(line, comments=True)):
        variables = []
        while part and (match := re.fullmatch(r"([A-Z_]+)=(.*)", part[0])):
            variables.append((match[1], match[2]))
            part = part[1:]
        output = None
        if "|" in part:
            # The program that reads the output is not ours.
            part = part[: part.index("|")]
        if ">" in part:
            place = part.index(">")
            part, output = part[:place], part[place + 1]
        if part:
            yield CommandLine(tuple(part), tuple(variables), output, expected)


def _parts(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word == "&&":
            yield part
            part = []
        else:
            part.append(word)
    yield part
