"""Reads long tables page by page."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from flows.handlers.step_context import StepContext


class _Row(Protocol):
    @property
    def id(self) -> int: ...


Row = TypeVar("Row", bound=_Row)


def pages(ctx: StepContext, read: Callable[[Connection, int], Sequence[Row]]) -> Iterator[Sequence[Row]]:
    """Yield rows in batches. No transaction is open between them, so that the caller may write.

    The function `read` reads the next rows whose ids are above the given one, in order of id.
    """
    last_id = 0
    while True:
        with ctx.read() as connection:
            page = read(connection, last_id)
        if not page:
            return
        yield page
        last_id = page[-1].id
