"""Divides values and rows into batches, so that one statement or transaction reads or writes only some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection, Label, RowMapping, Select

Value = TypeVar("Value")

#: The number of rows that most statements read or write at a time.
BATCH_SIZE = 1_000


def batched(values: Iterable[Value], size: int = BATCH_SIZE) -> Iterator[list[Value]]:
    """Yield lists of at most `size` values, in order. The values of a list are read only when the list is requested."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


def pages(
    connect: Callable[[], AbstractContextManager[Connection]],
    statement: Select[Any],
    key: Column[int] | Label[int],
    size: int,
    *,
    descending: bool = False,
) -> Iterator[Sequence[RowMapping]]:
    """Yield the rows of a statement in ascending or descending order of the id `key`, in batches of at most `size`.

    Each batch is a query of its own on a connection that `connect` opens, so no connection is open between two batches.
    """
    rest = statement
    while True:
        with connect() as connection:
            page = connection.execute(rest.order_by(key.desc() if descending else key).limit(size)).mappings().all()
        if page:
            yield page
        if len(page) < size:
            return
        last = page[-1][key.name]
        rest = statement.where(key < last if descending else key > last)
