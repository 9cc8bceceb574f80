"""The findings of an examination."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """FINE: nothing to do. WARNING: it works, but something may fail or is missing. PROBLEM: it does not work."""

    FINE = "fine"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        area: the area of the check: database, library, originals, Prefect, pictures, steps, space, schedules or
            clocks.
        name: the name of the check for programs; it never changes.
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
    """Creates the findings of one area."""

    name: str

    def fine(self, name: str, says: str) -> Finding:
        """Nothing to do."""
        return Finding(area=self.name, name=name, standing=Standing.FINE, says=says)

    def warning(self, name: str, says: str, remedy: str) -> Finding:
        """It works, but something may fail or is missing."""
        return Finding(area=self.name, name=name, standing=Standing.WARNING, says=says, remedy=remedy)

    def problem(self, name: str, says: str, remedy: str) -> Finding:
        """It does not work."""
        return Finding(area=self.name, name=name, standing=Standing.PROBLEM, says=says, remedy=remedy)
