"""The failures of a job's items and projects: they decide whether the job fails, and whether it is repeated."""

from __future__ import annotations

from flows.errors import ItemsFailed, PermanentStepError, is_repeatable, reason_of


class Failures:
    """Counts the items and projects that a job tried and those that failed.

    It keeps no error: the traceback of an error keeps every object of the handler's frames alive, decoded pictures
    among them.

    Attributes:
        tried: items and projects that the job has tried.
    """

    def __init__(self) -> None:
        self.tried = 0
        self._failed = 0
        self._first = ""
        self._is_repeatable = False

    def add(self, name: str, error: Exception) -> None:
        """Count the failure of an item or a project."""
        self._failed += 1
        self._first = self._first or f"{name}: {reason_of(error)}"
        self._is_repeatable = self._is_repeatable or is_repeatable(error)

    def raise_if_any(self) -> None:
        """Raise one error for all failures; it has their number and the first reason.

        Raises:
            ItemsFailed: some failed, and a repetition may repair at least one of them.
            PermanentStepError: some failed, and no repetition repairs any of them.
        """
        if not self._failed:
            return
        message = f"{self._failed} of {self.tried} failed; first {self._first}"
        raise ItemsFailed(message) if self._is_repeatable else PermanentStepError(message)
