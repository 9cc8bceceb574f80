"""The page of commands, read from the command itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cyclopts import App

from deployments.cli import commands
from docs_site.markdown import table

#: What the exit codes mean, by the names that the command has for them.
_EXIT_CODES = {
    "TASK_FAILED": "A task failed, a check found something wrong, or a part of a plan was refused.",
    "BAD_INPUT": "The input cannot be used: a line on stderr for each problem; nothing was written.",
    "FAULT_OF_OURS": "A fault of photojobs itself; `--verbose` says where.",
    "CANCELED": "Ended by Ctrl-C.",
    "PIPE_CLOSED": "Nobody reads the output any more, as in `photojobs jobs list | head`.",
}
_INTRODUCTION = """# Commands

`photojobs COMMAND --help` shows the same in the terminal. Results go to stdout, progress and remarks to stderr; where
stdout is no terminal, tables are plain columns without colours. Most commands that show something print JSON with
`--json`. `--verbose` goes before the command, as in `photojobs --verbose run maintenance_global`, and shows logs.

## Exit codes
"""


def commands_page() -> str:
    """Every command with its arguments, options and examples, after the exit codes."""
    app = commands.build_app()
    epilogues = dict(_epilogues(app, ()))
    # Up to the first command it is a list of them, which the navigation of the page is already.
    written = app.generate_docs(output_format="markdown")
    sections = re.split(r"^(?=##+ photojobs )", written, flags=re.MULTILINE)[1:]
    codes = [("0", "Done.")]
    codes += [(str(getattr(commands, name)), meaning) for name, meaning in _EXIT_CODES.items()]
    parts = [_INTRODUCTION, table(("code", "meaning"), codes), ""]
    for section in sections:
        heading = section.splitlines()[0]
        words = tuple(heading.split()[2:])
        level = "#" * (len(words) + 1)
        # How it is called is no line that one could type.
        section = section.replace("```console", "```text").replace(heading, f"{level} photojobs {' '.join(words)}", 1)
        parts.append(section.rstrip() + "\n")
        if words in epilogues:
            parts.append(_examples(epilogues[words]))
    return "\n".join(parts)


def _epilogues(app: App, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for name in app:
        if name.startswith("-"):
            continue
        child = app[name]
        if child.help_epilogue and child.help_epilogue != app.help_epilogue:
            yield (*words, name), child.help_epilogue
        yield from _epilogues(child, (*words, name))


def _examples(epilogue: str) -> str:
    """The sentences of an epilogue as text, its command lines as a block."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in epilogue.split("\n\n")]
    shown = [paragraph for paragraph in paragraphs if paragraph.startswith("photojobs ")]
    told = [paragraph for paragraph in paragraphs if paragraph not in shown]
    parts = [*told]
    if shown:
        parts.append("\n".join(["<!-- parsed only: their ids and files are made up -->", "```console", *shown, "```"]))
    return "\n\n".join(parts) + "\n"
