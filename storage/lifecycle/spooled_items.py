"""Reads all items from a caller's iterable before a transaction begins, so that a slow iterable holds no lock."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from storage.batches import batched
from storage.errors import InvalidValue
from storage.lifecycle.job_items import item_values

#: The number of items that are written to the temporary file, or read from it, at once.
_BATCH_SIZE = 5_000

#: Items stay in memory up to this total number of bytes.
_MAX_BYTES_IN_MEMORY = 4_000_000


@dataclass(frozen=True, slots=True)
class SpooledItems:
    """Items in a temporary file, which can be read several times, in order."""

    file: IO[bytes]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        self.file.seek(0)
        read = 0
        while read < self.count:
            batch = pickle.load(self.file)  # noqa: S301 - this process wrote it, into a file without a name.
            read += len(batch)
            yield from batch


ReadItems = Sequence[Mapping[str, Any]] | SpooledItems


@contextmanager
def read_items(items: Iterable[Mapping[str, Any]], *, limit: int | None = None) -> Iterator[ReadItems]:
    """Read all items, and give them to the block: a list or tuple as it is, other items in a file without a name.

    `limit` is the maximum number of items that are read; a list or tuple is never cut.

    Raises:
        InvalidValue: `items` cannot be read one after another, or an item cannot be written to the file and is not
            valid.
    """
    if isinstance(items, list | tuple):
        yield items
        return
    try:
        iterator = islice(items, limit)
    except TypeError:
        raise InvalidValue("items", f"must be a list of mappings like {{'photo_id': 1}}, not {items!r:.80}") from None
    with tempfile.SpooledTemporaryFile(max_size=_MAX_BYTES_IN_MEMORY) as file:
        count = 0
        for batch in batched(iterator, _BATCH_SIZE):
            # Some kinds of mappings cannot be pickled.
            plain = [dict(item) if type(item) is not dict and isinstance(item, Mapping) else item for item in batch]
            try:
                pickle.dump(plain, file, protocol=pickle.HIGHEST_PROTOCOL)
            except (pickle.PicklingError, TypeError, AttributeError):
                # The error should name the item, as it does for an item of a list.
                for index, item in enumerate(batch, start=count):
                    item_values(item, index)
                raise
            count += len(batch)
        yield SpooledItems(file, count)
