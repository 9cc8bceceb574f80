"""Finds out which names are taken in a folder, without regard to case and Unicode form."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from storage.library.listing import listing
from storage.library.naming.kinds import DEFAULT_EXTENSIONS, AcceptedExtensions
from storage.library.naming.names import name_key


class FolderNames:
    """The names in one folder, so that a batch of moves scans the folder only once. The caller adds and discards names.

    Only one thread may use an object. The object does not notice files that other programs add, but moves never
    overwrite any file.
    """

    def __init__(self, names: Iterable[str] = (), *, accepted_extensions: AcceptedExtensions = DEFAULT_EXTENSIONS):
        self._accepted = accepted_extensions
        self._names: dict[str, set[str]] = {}
        self._base_names: Counter[str] = Counter()
        for name in names:
            self.add(name)

    @classmethod
    def read(cls, folder: Path, *, accepted_extensions: AcceptedExtensions = DEFAULT_EXTENSIONS) -> Self:
        """Scan a folder and keep its names.

        Raises:
            FolderMissing: the folder does not exist.
            FolderUnreadable: the folder could not be listed completely.
        """
        with listing(folder) as entries:
            return cls((entry.name for entry in entries), accepted_extensions=accepted_extensions)

    def same_as(self, name: str) -> frozenset[str]:
        """Return the names in the folder that differ from this name at most in case or Unicode form."""
        return frozenset(self._names.get(name_key(name), ()))

    def has_base_name(self, base_name: str) -> bool:
        """Return whether any file with this base name is in the folder: a photo, a sidecar or another file."""
        return self._base_names[name_key(base_name)] > 0

    def add(self, name: str) -> None:
        """Add the name of a new file."""
        same = self._names.setdefault(name_key(name), set())
        if name not in same:
            same.add(name)
            self._base_names[self._base_key(name)] += 1

    def discard(self, name: str) -> None:
        """Remove the name of a file that is no longer in the folder."""
        same = self._names.get(name_key(name), set())
        if name in same:
            same.remove(name)
            self._base_names[self._base_key(name)] -= 1

    def _base_key(self, name: str) -> str:
        return name_key(self._accepted.describe(name).base_name)
