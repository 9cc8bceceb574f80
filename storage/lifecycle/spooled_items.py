"""Reads all items from a caller's iterable before a transaction begins, so that a slow iterable holds no lock."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from storage.batches import batched

#: The number of items that are written to the temporary file, or read from it, at once.
_BATCH_SIZE = 5_000

#: Items stay in memory up to this total number of bytes.
_MAX_BYTES_IN_MEMORY = 4_000_000


class SpooledItems:
    """Items that can be read several times, in order. If they are not in a list or tuple, they are written to a file.

    Use this as a context manager. The temporary file has no name and is deleted at the end of the block.
    """

    def __init__(self, items: Iterable[Mapping[str, Any]]) -> None:
        self._sized = items if isinstance(items, list | tuple) else None
        self._file: Any = None
        self._count = 0
        if self._sized is None:
            self._spool(iter(items))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return self._count if self._sized is None else len(self._sized)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        if self._sized is not None:
            yield from self._sized
            return
        self._file.seek(0)
        read = 0
        while read < self._count:
            batch = pickle.load(self._file)  # noqa: S301 - this process wrote it, into a file without a name.
            read += len(batch)
            yield from batch

    def _spool(self, items: Iterator[Mapping[str, Any]]) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_MAX_BYTES_IN_MEMORY)  # noqa: SIM115 - closed with this.
        for batch in batched(items, _BATCH_SIZE):
            pickle.dump(batch, self._file, protocol=pickle.HIGHEST_PROTOCOL)
            self._count += len(batch)
