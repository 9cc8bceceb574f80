"""The commands by their names, one line each, and how a command line becomes an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter

from deployments.cli.errors import UnknownCommand
from task_definitions.errors import PhotojobsError
from task_definitions.wording import did_you_mean, shown

#: The exit codes of every command, besides 0.
TASK_FAILED, BAD_INPUT, FAULT_OF_OURS, CANCELED, PIPE_CLOSED = 1, 2, 70, 130, 141

#: The command's groups in the order of the help page, each with its commands: name, where it is, what it does.
COMMANDS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Begin": (("demo", "deployments.cli.demo:app", "Make a library with all kinds of faults, and see it mended."),),
    "Run": (
        ("plan", "deployments.cli.plan:app", "Show what a definition would do; change nothing."),
        ("run", "deployments.cli.run:app", "Run a definition here, and say what it did."),
        ("start", "deployments.cli.start:app", "Start a definition; `photojobs up` or a worker runs it."),
        ("cancel", "deployments.cli.tasks:cancel_app", "Cancel a task with all its jobs."),
        ("retry", "deployments.cli.tasks:retry_app", "Run again what failed of a task."),
        ("hold", "deployments.cli.holds:hold_app", "Keep the jobs of a task, a tenant or a lane from starting."),
        ("release", "deployments.cli.holds:release_app", "Let held jobs start again."),
    ),
    "Serve": (
        ("up", "deployments.cli.service:up_app", "Start a Prefect server and everything that runs tasks."),
        ("serve", "deployments.cli.service:serve_app", "Serve definitions to a Prefect server that runs already."),
        ("worker", "deployments.cli.service:worker_app", "Run jobs without Prefect."),
        ("deploy", "deployments.cli.deploy:app", "Have the workers of a Prefect work pool run definitions."),
    ),
    "Look": (
        ("status", "deployments.cli.status:app", "Lanes, running tasks, and how many jobs wait."),
        ("jobs", "deployments.cli.jobs:app", "List jobs and look at one of them."),
        ("lanes", "deployments.cli.lanes:app", "See and change how many jobs may run at a time."),
        ("definitions", "deployments.cli.definitions:app", "List, show and check definitions."),
        ("steps", "deployments.cli.steps:app", "What steps of a definition can do."),
        ("library", "deployments.cli.library:app", "List projects and add one."),
    ),
    "Keep": (("db", "deployments.cli.db:app", "Upgrade, check and back up the database."),),
}

_HELP = "Declared pipelines for a photo library, run by Prefect, kept in SQL."
_SETTINGS_HELP = (
    "Settings come from photojobs.toml in the working folder and from the environment: PHOTOJOBS_DATABASE_URL, "
    "PHOTOJOBS_LIBRARY_ROOT, PHOTOJOBS_DEFINITIONS and more. PREFECT_API_URL names a Prefect server; without it, "
    "commands that need one start their own."
)


def build_app() -> App:
    """The root of the command, without any command imported."""
    app = App(
        name="photojobs",
        help=_HELP,
        help_epilogue=_SETTINGS_HELP,
        help_format="plaintext",
        version=_version,
        version_flags=["--version"],
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    app.meta.suppress_keyboard_interrupt = False
    options = Group("Options", sort_key=len(COMMANDS))
    app.meta.group_parameters = options
    for flag in ("--help", "--version"):
        app[flag].group = options
    for order, (title, commands) in enumerate(COMMANDS.items()):
        group = Group(title, sort_key=order)
        for name, place, summary in commands:
            app.command(place, name=name, help=summary, group=group)
    return app


def run_command_line(tokens: Sequence[str]) -> int:
    """Run a command line, print what went wrong in one line each on stderr, and return the exit code.

    0 is success, 1 a task that failed, 2 input that cannot be used, 70 a fault of photojobs itself, 130 an end by
    Ctrl-C, and 141 that nobody reads the output any more.
    """
    is_verbose = False
    app = build_app()

    @app.meta.default
    def launch(
        *command: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        verbose: Annotated[
            bool, Parameter(negative="", show_default=False, help="Show logs, and where an error came from.")
        ] = False,
    ) -> Any:
        nonlocal is_verbose
        is_verbose = verbose
        from deployments.cli.logs import set_up_logs

        set_up_logs(is_verbose=verbose)
        _check_command(command)
        return app(command, exit_on_error=False, print_error=False, result_action="return_value")

    try:
        code = app.meta(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        error.verbose = False
        return _complain(str(error))
    except PhotojobsError as error:
        if is_verbose:
            traceback.print_exc()
        return _complain(str(error))
    except BrokenPipeError:
        # Python flushes stdout at its end, and would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        _complain("stopped by Ctrl-C")
        return CANCELED
    except Exception as error:  # noqa: BLE001 - a user must never see a traceback unasked.
        if is_verbose:
            traceback.print_exc()
        _complain(
            f"{type(error).__name__}: {error}\n"
            "This is a fault of photojobs. With --verbose the command says where it happened."
        )
        return FAULT_OF_OURS
    return code if isinstance(code, int) else 0


def _check_command(tokens: Sequence[str]) -> None:
    # Cyclopts would import every command to tell which one was meant.
    known = [name for commands in COMMANDS.values() for name, _, _ in commands]
    if tokens and not tokens[0].startswith("-") and tokens[0] not in known:
        raise UnknownCommand(
            f"{shown(tokens[0])} is not a command.{did_you_mean(tokens[0], known)} `photojobs --help` shows all."
        )


def _complain(message: str) -> int:
    for line in message.splitlines() or ["failed"]:
        print(f"photojobs: {line}", file=sys.stderr)  # noqa: T201 - this is the command's voice.
    return BAD_INPUT


def _version() -> str:
    from importlib.metadata import version

    return version("photojobs")
