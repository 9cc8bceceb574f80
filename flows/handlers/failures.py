"""Counts the failed items and projects of a job, which decide whether the job fails and whether it is repeated."""

from flows.errors import ItemsFailed, PermanentStepError, is_repeatable, named, reason_of
from task_definitions.wording import quantity


class Failures:
    """Counts the items and projects that a job tried, and how many of them failed.

    The object keeps no exception, because the traceback of an exception keeps all objects of the handler's frames in
    memory, including decoded pictures.

    Args:
        noun: what is counted, in the singular, for the message, such as `photo`.

    Attributes:
        tried: the number of items and projects that the job has tried.
    """

    def __init__(self, noun: str = "") -> None:
        self.tried = 0
        self._noun = noun
        self._failed = 0
        self._first = ""
        self._is_repeatable = False

    def add(self, error: Exception, *, name: str = "") -> None:
        """Count the failure of the item or the project with this name."""
        self._failed += 1
        self._first = self._first or (named(name, reason_of(error)) if name else reason_of(error))
        self._is_repeatable = self._is_repeatable or is_repeatable(error)

    def raise_if_any(self) -> None:
        """Raise one error for all failures, with their number and the first reason. Return if nothing failed.

        Raises:
            ItemsFailed: items or projects failed, and a repetition may succeed for at least one of them.
            PermanentStepError: items or projects failed, and a repetition cannot succeed for any of them.
        """
        if not self._failed:
            return
        tried = quantity(self.tried, self._noun) if self._noun else str(self.tried)
        message = f"{self._failed} of {tried} failed; the first: {self._first}"
        raise ItemsFailed(message) if self._is_repeatable else PermanentStepError(message)
