"""Builds the help page of every command from its docstring, examples and exit codes: for the terminal, and as data."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cyclopts import App, Group

from deployments.cli.options.exit_codes import OF_COMMANDS
from deployments.cli.output.examples import EXAMPLES

#: The text at the end of the root's help page.
SETTINGS_HELP = (
    "Settings come from photojobs.toml in the working folder and from the environment: PHOTOJOBS_DATABASE_URL, "
    "PHOTOJOBS_LIBRARY_ROOT, PHOTOJOBS_DEFINITIONS and more. PREFECT_API_URL names a Prefect server; without it, up, "
    "run and undo start their own server if they need one."
)

OPTIONS = Group("Options", sort_key=90)
COMMON_OPTIONS = Group("Common options", sort_key=91)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionHelp:
    """An option or an argument of a command.

    Attributes:
        names: the names of an option as users type them; the placeholder of an argument.
        takes: the type of the value in capitals; empty for a flag.
        says: the description.
        default: the default value as users type it; empty if there is none.
    """

    names: tuple[str, ...]
    takes: str
    says: str
    choices: tuple[str, ...]
    default: str
    is_argument: bool
    is_required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandPage:
    """The help of a command or a group of commands.

    Attributes:
        path: the words of the command; empty for the root.
        summary: the first paragraph of the docstring; for a group and the root, of the help text.
        description: the other paragraphs; empty if there are none.
        commands: the names of the commands in a group.
        examples: command lines by their purposes.
        exit_codes: the meanings of exit codes that differ from `MEANINGS`; for the root, all meanings.
    """

    path: tuple[str, ...]
    summary: str
    description: str
    usage: str
    options: tuple[OptionHelp, ...]
    commands: tuple[str, ...]
    examples: Mapping[str, str]
    exit_codes: dict[int, str]


def complete_help(app: App, tokens: Sequence[str]) -> None:
    """Add examples, exit codes and the whole docstring to the help page of the command that the tokens name."""
    path: tuple[str, ...] = ()
    _complete(app, path)
    for token in tokens:
        if token.startswith("-") or token not in app:
            return
        app, path = app[token], (*path, token)
        _complete(app, path)


def command_pages(app: App) -> Iterator[CommandPage]:
    """Yield the help pages of all commands, each group before its commands; imports every command."""
    yield from _pages(app, app, ())


def command_usage(root: App, path: Sequence[str]) -> str:
    """Return the usage of the command with these words, for example `photojobs undo [OPTIONS] TASK`."""
    from cyclopts.help import format_usage

    return str(format_usage(root, path)).removeprefix("Usage: ").strip()


def _complete(app: App, path: tuple[str, ...]) -> None:
    if path and app.default_command is not None:
        command = app.default_command
        command.__doc__ = _unfolded(command.__doc__ or "")
        # The page of a command shows its whole docstring; the page of its group shows only the summary.
        app.help = "\n\n".join(_paragraphs(command.__doc__))
    if path:
        app.group_parameters = OPTIONS
    app.help_epilogue = _epilogue(path)


def _unfolded(docstring: str) -> str:
    """Return a docstring with the description of each parameter on one line; Cyclopts would keep the line breaks."""
    lines: list[str] = []
    for line in inspect.cleandoc(docstring).splitlines():
        if line.startswith(" " * 8):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return "\n".join(lines)


def _paragraphs(docstring: str) -> list[str]:
    """Return the paragraphs of a docstring, each on one line, without the section of parameters."""
    text = inspect.cleandoc(docstring).partition("\nArgs:\n")[0]
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


def _epilogue(path: tuple[str, ...]) -> str:
    name = " ".join(path)
    blocks = []
    if name in EXAMPLES:
        blocks.append("Examples:\n" + "\n".join(f"  # {says}\n  {line}" for says, line in EXAMPLES[name].items()))
    if name in OF_COMMANDS:
        blocks.append("Exit codes:\n" + "\n".join(f"  {code:<3}  {says}" for code, says in OF_COMMANDS[name].items()))
    if not path:
        blocks.append(SETTINGS_HELP)
    return "\n\n".join(blocks)


def _pages(root: App, app: App, path: tuple[str, ...]) -> Iterator[CommandPage]:
    _complete(app, path)
    names = tuple(name for name in app if not name.startswith("-"))
    first, *others = _paragraphs(app.help) or [""]
    name = " ".join(path)
    yield CommandPage(
        path=path,
        summary=first,
        description="\n\n".join(others),
        usage=command_usage(root, path),
        options=tuple(command_options(app)),
        commands=names,
        examples=EXAMPLES.get(name, {}),
        exit_codes=dict(OF_COMMANDS.get(name, {})),
    )
    for name in names:
        yield from _pages(root, app[name], (*path, name))


def command_options(app: App) -> Iterator[OptionHelp]:
    """Yield the options and arguments of a command in the order of its help page."""
    from cyclopts.help import create_parameter_help_panel

    if app.default_command is None:
        return
    arguments = app.assemble_argument_collection(parse_docstring=True)
    for group in arguments.groups:
        for entry in create_parameter_help_panel(group, arguments.filter_by(group=group), "plaintext").entries:
            yield OptionHelp(
                names=tuple(entry.display_labels),
                takes=entry.metavar or "",
                says=_plain(entry.description),
                choices=tuple(entry.choices or ()),
                default=entry.default or "",
                is_argument=entry.positional_label is not None,
                is_required=bool(entry.required),
            )


def _plain(text: object) -> str:
    return " ".join(str(getattr(text, "primary_renderable", text) or "").split())
