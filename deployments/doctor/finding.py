"""The findings of an examination."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """The severity of a finding.

    FINE: there is nothing to do. WARNING: photojobs works, but something is missing or may fail. PROBLEM: something
    does not work.
    """

    FINE = "fine"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        area: the checked part of the installation, such as `database` or `library`; `examine` has all areas.
        name: the name of the check, by which programs recognize it; it never changes.
        standing: the severity.
        says: the result, in a sentence.
        remedy: what to do; empty if there is nothing to do.
    """

    area: str
    name: str
    standing: Standing
    says: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Area:
    """Creates findings with the same `Finding.area`."""

    name: str

    def fine(self, name: str, says: str) -> Finding:
        """Return a finding that needs no action."""
        return Finding(area=self.name, name=name, standing=Standing.FINE, says=says)

    def warning(self, name: str, says: str, remedy: str) -> Finding:
        """Return a finding about something that is missing or may fail."""
        return Finding(area=self.name, name=name, standing=Standing.WARNING, says=says, remedy=remedy)

    def problem(self, name: str, says: str, remedy: str) -> Finding:
        """Return a finding about something that does not work."""
        return Finding(area=self.name, name=name, standing=Standing.PROBLEM, says=says, remedy=remedy)
