"""The errors of a command line with valid syntax. Every class is a `PhotojobsError`."""

from __future__ import annotations

from deployments.errors import DeploymentsError


class BadInput(DeploymentsError):
    """An argument, or a file that it names, cannot be used; the message says what to type instead."""


class UnknownCommand(BadInput):
    """The command line begins with a word that is not a command."""


class NoDatabaseYet(DeploymentsError):
    """A command that only reads, or needs rows, was called, but the SQLite file does not exist."""


class OlderSchema(DeploymentsError):
    """A command that only reads was called for a database that must be upgraded first."""


class ServerAway(DeploymentsError):
    """The Prefect server that the environment names does not answer."""
