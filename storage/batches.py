"""Divides values into batches, so that one statement or transaction reads or writes a limited number of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar


class _Row(Protocol):
    @property
    def id(self) -> int: ...


Value = TypeVar("Value")
Row = TypeVar("Row", bound=_Row)


def batched(values: Iterable[Value], size: int) -> Iterator[list[Value]]:
    """Yield lists of at most `size` values, in order. The values of a list are read only when the list is requested."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


def pages(read: Callable[[int], Sequence[Row]]) -> Iterator[Sequence[Row]]:
    """Yield rows in batches, in order of id. `read` gets the last id so far (at first 0) and returns the next rows."""
    last_id = 0
    while page := read(last_id):
        yield page
        last_id = page[-1].id
