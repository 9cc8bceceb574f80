"""Writes the page of commands from the command's own help pages."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.cli.command_line import build_app
from deployments.cli.options.exit_codes import MEANINGS
from deployments.cli.output.help_pages import CommandPage, OptionHelp, command_pages
from docs_site.markdown import table

_INTRODUCTION = """# Commands

`photojobs COMMAND --help` shows the same in the terminal. Results go to stdout, progress and remarks to stderr. If
stdout is not a terminal, tables are plain columns without colors. Most commands that show something print JSON with
`--json`. Every command takes `--quiet` (`-q`), which leaves only results, warnings and errors, and `--verbose` (`-v`),
which adds logs and the place of an error.

## Exit codes
"""


def commands_page() -> str:
    """Return the page: the exit codes, and then every command with its arguments, options and examples."""
    _, *pages = command_pages(build_app())
    codes = [(str(code), f"{meaning[0].upper()}{meaning[1:]}.") for code, meaning in MEANINGS.items()]
    return "\n".join(
        [_INTRODUCTION, table(("code", "meaning"), codes), "", *("\n".join(_section(page)) for page in pages)]
    )


def _section(page: CommandPage) -> Iterator[str]:
    level = "#" * (len(page.path) + 1)
    yield f"{level} photojobs {' '.join(page.path)}\n"
    yield page.summary + (f"\n\n{page.description}" if page.description else "") + "\n"
    # Not a `console` block, because the usage is not a command that the tests can run.
    yield f"```text\n{page.usage}\n```\n"
    if page.options:
        yield table(("option", "meaning"), [(_names(option), _meaning(option)) for option in page.options]) + "\n"
    if page.examples:
        lines = [line for says, example in page.examples.items() for line in (f"# {says}", example)]
        yield "\n".join(["<!-- parsed only: their ids and files are made up -->", "```console", *lines, "```\n"])
    if page.exit_codes:
        yield "Exit codes: " + ", ".join(f"{code}: {says}" for code, says in page.exit_codes.items()) + ".\n"


def _names(option: OptionHelp) -> str:
    takes = f" {option.takes}" if option.takes and not option.is_argument else ""
    return ", ".join(f"`{name}{takes}`" for name in option.names)


def _meaning(option: OptionHelp) -> str:
    parts = [option.says]
    if option.choices:
        parts.append(f"One of {', '.join(f'`{choice}`' for choice in option.choices)}.")
    if option.default:
        parts.append(f"By default `{option.default}`.")
    if option.is_required:
        parts.append("Required.")
    return " ".join(parts)
