"""Hashes of the contents of files. Each names its algorithm, so that one made by an earlier version can be compared."""

import hashlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

#: How contents are hashed. The rest of a hash is what `b3sum` prints.
HASH_ALGORITHM: Final = "blake3"

_ALGORITHMS: Final[dict[str, Callable[[], Any]]] = {
    HASH_ALGORITHM: blake3,
    "blake2b-128": lambda: hashlib.blake2b(digest_size=16),
}

_BLOCK_BYTES: Final = 1 << 18


class ContentHasher:
    """Hashes contents that come in blocks, by the algorithm in use and by those that known hashes name.

    Args:
        known: hashes that the contents are to be compared with.

    Example:
        hasher = ContentHasher()
        hasher.update(b"contents")
        hasher.content_hash
    """

    def __init__(self, *known: str | None) -> None:
        names = {HASH_ALGORITHM} | {content_hash.partition(":")[0] for content_hash in known if content_hash}
        self._hashes = {name: _ALGORITHMS[name]() for name in names & _ALGORITHMS.keys()}

    def update(self, block: bytes | memoryview) -> None:
        """Take in the next block."""
        for algorithm in self._hashes.values():
            algorithm.update(block)

    @property
    def content_hash(self) -> str:
        """`algorithm:hexadecimal`, of all blocks so far."""
        return f"{HASH_ALGORITHM}:{self._hashes[HASH_ALGORITHM].hexdigest()}"

    def has(self, known: str) -> bool | None:
        """Whether the contents so far have a hash that was given as known; None if its algorithm is unknown here."""
        name, _, digest = known.partition(":")
        return self._hashes[name].hexdigest() == digest if name in self._hashes else None


def blocks(file: Any) -> Iterator[memoryview]:
    """The contents of an unbuffered binary file; each block is valid until the next."""
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    while size := file.readinto(buffer):
        yield buffer[:size]


def hash_contents(path: Path) -> str:
    """The content hash of a file; reads all of it."""
    return _hasher(path).content_hash


def matching_hashes(path: Path, known: Collection[str]) -> set[str]:
    """Those of the known hashes that the contents of a file have; reads all of it, once."""
    hasher = _hasher(path, *known)
    return {content_hash for content_hash in known if hasher.has(content_hash)}


def _hasher(path: Path, *known: str) -> ContentHasher:
    hasher = ContentHasher(*known)
    with path.open("rb", buffering=0) as file:
        for block in blocks(file):
            hasher.update(block)
    return hasher
