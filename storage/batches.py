"""Divides values into batches, so that one statement or transaction handles a limited number of them."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Value = TypeVar("Value")


def batched(values: Iterable[Value], size: int) -> Iterator[list[Value]]:
    """Yield the values in their order, in lists of at most `size`; a list is read when it is needed."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch
