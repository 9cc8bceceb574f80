"""Runs a command line and returns its exit code; lists all commands with their summaries.

`deployments.cli.options.exit_codes` has the meanings of the exit codes.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter

from deployments.cli.options.empty_values import refuse_empty_values
from deployments.cli.options.errors import BadInput, RunBrokenOff, UnknownCommand
from deployments.cli.options.exit_codes import BAD_INPUT, CANCELED, FAULT_OF_OURS, PIPE_CLOSED, TASK_FAILED
from deployments.cli.output.help_pages import COMMON_OPTIONS, OPTIONS, complete_help
from deployments.cli.output.loudness import is_verbose, set_loudness
from task_definitions.errors import PhotojobsError
from task_definitions.wording import did_you_mean, os_error_in_words, printable, shown

_ROOM = "deployments.cli.commands"

#: The commands by their group, in the order of the help page. Each command has three texts: its name, the place of its
#: app as `module:variable` below `deployments.cli.commands`, and its summary.
COMMANDS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Begin": (
        ("init", "installation.init:app", "Create a settings file and a database for your folders of photographs."),
        ("doctor", "installation.doctor:app", "Check whether everything works, and show how to fix what does not."),
        ("demo", "installation.demo:app", "Create a library with many kinds of faults, and repair it."),
    ),
    "Run": (
        ("plan", "tasks.plan:app", "Show what a definition would do; change nothing."),
        ("run", "tasks.run:app", "Run a definition in this process, and wait until it ends."),
        ("start", "tasks.start:app", "Start a definition, and return at once."),
        ("undo", "tasks.undo:app", "Undo a task: put its files back where they were, and restore its rows."),
        ("cancel", "tasks.existing_tasks:cancel_app", "Cancel a task and all its jobs; finished work is kept."),
        ("retry", "tasks.existing_tasks:retry_app", "Run the failed and canceled jobs of a task again."),
        ("hold", "queue.holds:hold_app", "Keep the jobs of a task, a tenant or a lane from starting."),
        ("release", "queue.holds:release_app", "Let held jobs start again."),
    ),
    "Serve": (
        ("up", "installation.service:up_app", "Start Prefect's server and everything that runs tasks."),
        ("serve", "installation.service:serve_app", "Serve definitions to a Prefect server that is already running."),
        ("worker", "installation.service:worker_app", "Run jobs without Prefect."),
        ("deploy", "definitions.deploy:app", "Deploy definitions to a Prefect work pool, whose workers run them."),
    ),
    "Look": (
        (
            "status",
            "queue.status:app",
            "Show what is running, what is waiting and why, what failed, and what comes next.",
        ),
        ("report", "tasks.report:app", "Write an HTML page about a task: its timeline, failures, changes and photos."),
        ("tasks", "tasks.existing_tasks:app", "List tasks, and show one of them."),
        ("jobs", "queue.jobs:app", "List, show, explain, cancel and retry jobs."),
        ("lanes", "queue.lanes:app", "Show and change how many jobs may run at the same time."),
        ("definitions", "definitions.known_definitions:app", "List, show and check definitions."),
        ("steps", "definitions.steps:app", "List and show the step types that definitions can use."),
        ("library", "installation.library:app", "List projects, add one, and show which originals were verified."),
    ),
    "Keep": (
        (
            "completion",
            "installation.completion:app",
            "Print a script for your shell that completes `photojobs` commands.",
        ),
        ("db", "installation.db:app", "Upgrade, check, back up, restore, downgrade and prune the database."),
    ),
}

#: Each of these options shows a help page, wherever it is in a command line.
HELP_FLAGS = frozenset({"--help", "-h"})

# All calls of `build_app` use these same groups. A command's app is created once in a process, and keeps its first
# group. With new groups, the help page of a second call would show each title twice.
_GROUPS = {title: Group(title, sort_key=order) for order, title in enumerate(COMMANDS)}

_HELP = "Declared pipelines for a photo library, run by Prefect, kept in SQL."


def build_app() -> App:
    """Return the root of the command line without importing any command."""
    app = App(
        name="photojobs",
        help=_HELP,
        help_format="plaintext",
        version=_version,
        version_flags=["--version"],
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        group_parameters=OPTIONS,
        config=refuse_empty_values,
    )
    # `app.meta` must accept empty words, because it only passes the command line on. `app` refuses empty values.
    app.meta.config = ()
    app.meta.suppress_keyboard_interrupt = False
    app.meta.group_parameters = COMMON_OPTIONS
    for flag in ("--help", "--version"):
        app[flag].group = COMMON_OPTIONS
    for title, commands in COMMANDS.items():
        for place_in_group, (name, place, summary) in enumerate(commands):
            app.command(f"{_ROOM}.{place}", name=name, help=summary, group=_GROUPS[title], sort_key=place_in_group)

    @app.meta.default
    def launch(
        *command: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        quiet: Annotated[
            bool,
            Parameter(
                alias="-q", negative="", show_default=False, help="Print only requested data, warnings and errors."
            ),
        ] = False,
        verbose: Annotated[
            bool,
            Parameter(alias="-v", negative="", show_default=False, help="Show logs, and the traceback of an error."),
        ] = False,
    ) -> Any:
        from deployments.cli.output.logs import set_up_logs

        set_up_logs(is_verbose=verbose)
        if quiet and verbose:
            raise BadInput("--quiet cannot be used with --verbose. Leave out one of them.")
        set_loudness(quiet=quiet, verbose=verbose)
        _check_command(command)
        return app(command, exit_on_error=False, print_error=False, result_action="return_value")

    return app


def run_command_line(tokens: Sequence[str]) -> int:
    """Run a command line, print its error on stderr, and return the exit code.

    The exit codes have the meanings in `deployments.cli.options.exit_codes`.
    """
    app = build_app()
    set_loudness()
    try:
        if not HELP_FLAGS.isdisjoint(tokens):
            words = [token for token in tokens if not token.startswith("-")]
            _check_command(words)
            complete_help(app, words)
        code = app.meta(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        from deployments.cli.output.usage_errors import usage_error

        return _complain(usage_error(app, error))
    except PhotojobsError as error:
        if is_verbose():
            traceback.print_exc()
        _complain(str(error))
        return TASK_FAILED if isinstance(error, RunBrokenOff) else BAD_INPUT
    except BrokenPipeError:
        # Python flushes stdout at its exit, and would report the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        _complain("stopped by Ctrl-C")
        return CANCELED
    except OSError as error:
        if is_verbose():
            traceback.print_exc()
        return _complain(os_error_in_words(error))
    except Exception as error:  # noqa: BLE001 - users see a traceback only with --verbose.
        if is_verbose():
            traceback.print_exc()
        _complain(
            f"{type(error).__name__}: {error}\n"
            "This is a bug in photojobs. Run the command again with --verbose, and report it with the traceback."
        )
        return FAULT_OF_OURS
    return code if isinstance(code, int) else 0


def _check_command(tokens: Sequence[str]) -> None:
    # The word is checked here, because Cyclopts would import every command to suggest one.
    known = [name for commands in COMMANDS.values() for name, _, _ in commands]
    if tokens and tokens[0] not in {*known, *HELP_FLAGS, "--version"}:
        is_option = tokens[0].startswith("-")
        hint = " Options follow their command." if is_option else did_you_mean(tokens[0], known)
        raise UnknownCommand(f"{shown(tokens[0])} is not a command.{hint} `photojobs --help` lists all.")


def _complain(message: str) -> int:
    for line in message.splitlines() or ["failed"]:
        # Names in messages may contain control characters.
        print(f"photojobs: {printable(line)}", file=sys.stderr)  # noqa: T201 - the errors of the command go to stderr.
    return BAD_INPUT


def _version() -> str:
    from importlib.metadata import version

    return version("photojobs")
