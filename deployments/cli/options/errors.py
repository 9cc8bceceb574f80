"""Errors of command lines that can be parsed but not carried out. Every class is a `PhotojobsError`."""

from __future__ import annotations

from pathlib import Path

from deployments.errors import DeploymentsError


class BadInput(DeploymentsError):
    """An argument, or a file that an argument names, cannot be used; the message says what to type instead."""


class UnwritableFile(BadInput):
    """A file that an argument names cannot be written."""

    def __init__(self, file: Path, error: OSError) -> None:
        super().__init__(f"{file} cannot be written: {error.strerror}. Correct this, or name another file.")


class RunBrokenOff(DeploymentsError):
    """The run of a task that a command has started broke off; the message says what becomes of the task."""


class UnknownCommand(BadInput):
    """The command line begins with a word that is not a command."""


class NoDatabaseYet(DeploymentsError):
    """A command needs an existing database, but the database is missing or has no tables of photojobs."""


class OlderSchema(DeploymentsError):
    """A command that only reads needs a database with the newest schema, but this one must be upgraded first."""


class ServerAway(DeploymentsError):
    """The Prefect server that the environment names does not answer."""
