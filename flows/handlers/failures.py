"""Counts the failed items and projects of a job. They decide whether the job fails and whether it is repeated.

`flows.execution.job_run` decides how many attempts the job has.
"""

from collections import Counter
from collections.abc import Sequence

from flows.errors import ItemsFailed, PermanentStepError, is_repeatable, named, reason_of
from task_definitions.wording import portion, quantity


class Failures:
    """Counts the items and projects that a job tried, and how many of them failed.

    The object keeps no exception, because the traceback of an exception keeps all objects of the handler's frames in
    memory, including decoded pictures.

    Nouns in the singular, such as `photo` and `project`, distinguish the counted objects.
    """

    def __init__(self) -> None:
        self._tried: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._first = ""
        self._is_repeatable = False

    def count_tried(self, noun: str, number: int = 1) -> None:
        """Count what the job tries, whether it fails or not."""
        self._tried[noun] += number

    def add(self, noun: str, error: Exception, *, name: str = "") -> None:
        """Count a failure of the item or the project with this name."""
        self._failed[noun] += 1
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
        failed = " and ".join(portion(number, self._tried[noun], noun) for noun, number in self._failed.items())
        message = f"{failed} failed{_first(self._failed.total(), self._first)}"
        raise ItemsFailed(message) if self._is_repeatable else PermanentStepError(message)


def items_failed(noun: str, what: str, reasons: Sequence[Exception | str]) -> ItemsFailed:
    """Return the error for one or more failures: `2 files could not be removed; the first: IMG_1.jpg is in use`."""
    first = reasons[0] if isinstance(reasons[0], str) else reason_of(reasons[0])
    return ItemsFailed(f"{quantity(len(reasons), noun)} {what}{_first(len(reasons), first)}")


def _first(number: int, reason: str) -> str:
    return f"{'; the first' if number > 1 else ''}: {reason}"
