"""Hashes of file contents. Each hash names its algorithm, so that hashes of other algorithms can still be compared."""

import hashlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

#: The algorithm of new hashes. The hexadecimal part of such a hash equals the output of the program `b3sum`.
HASH_ALGORITHM: Final = "blake3"

_ALGORITHMS: Final[dict[str, Callable[[], Any]]] = {
    HASH_ALGORITHM: blake3,
    "blake2b-128": lambda: hashlib.blake2b(digest_size=16),
}

_BLOCK_BYTES: Final = 1 << 18


class ContentHasher:
    """Hashes contents, given in blocks, with the current algorithm and with the algorithms of known hashes.

    Args:
        known: hashes to compare the contents with.

    Example:
        hasher = ContentHasher()
        hasher.update(b"contents")
        hasher.content_hash
    """

    def __init__(self, *known: str | None) -> None:
        names = {HASH_ALGORITHM} | {content_hash.partition(":")[0] for content_hash in known if content_hash}
        self._hashes = {name: _ALGORITHMS[name]() for name in names & _ALGORITHMS.keys()}

    def update(self, block: bytes | memoryview) -> None:
        """Add the next block."""
        for algorithm in self._hashes.values():
            algorithm.update(block)

    @property
    def content_hash(self) -> str:
        """The hash of all blocks so far, as `algorithm:hexadecimal`."""
        return f"{HASH_ALGORITHM}:{self._hashes[HASH_ALGORITHM].hexdigest()}"

    def has(self, known: str) -> bool | None:
        """Return whether all blocks so far have this known hash.

        The result is None if this object does not compute the algorithm of the known hash.
        """
        name, _, digest = known.partition(":")
        return self._hashes[name].hexdigest() == digest if name in self._hashes else None


def blocks(file: Any) -> Iterator[memoryview]:
    """Yield the contents of an unbuffered binary file; each block is valid until the next."""
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    while size := file.readinto(buffer):
        yield buffer[:size]


def hash_contents(path: Path) -> str:
    """Read a whole file and return its content hash."""
    return _hasher(path).content_hash


def matching_hashes(path: Path, known: Collection[str]) -> set[str]:
    """Read a whole file once, and return the hashes among `known` that its contents have."""
    hasher = _hasher(path, *known)
    return {content_hash for content_hash in known if hasher.has(content_hash)}


def _hasher(path: Path, *known: str) -> ContentHasher:
    hasher = ContentHasher(*known)
    with path.open("rb", buffering=0) as file:
        for block in blocks(file):
            hasher.update(block)
    return hasher
