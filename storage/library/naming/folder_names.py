"""Finds out which names are taken in a folder, without regard to case and Unicode form, and which are free."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from storage.library.listing import listing
from storage.library.naming.kinds import DEFAULT_EXTENSIONS, AcceptedExtensions
from storage.library.naming.names import MAX_NAME_BYTES, cut_to_bytes, name_key

#: The number of bytes of a file name that are kept free for the extension of the file or of its derivatives.
EXTENSION_BYTES: Final = 10
#: What comes between a base name that is taken and the number of the new name.
DUPLICATE: Final = "_duplicate"
_MAX_BASE_BYTES: Final = MAX_NAME_BYTES - EXTENSION_BYTES


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


def unique_name(
    folder: Path | FolderNames,
    base: str,
    *,
    also_taken: Iterable[str] = (),
    max_bytes: int = _MAX_BASE_BYTES,
) -> str:
    """Return a base name that no file in the folder has: `<base>_duplicate<n>` with the lowest free n from 1.

    A long base name is cut to `max_bytes`, so that there is room for an extension. The names `also_taken` are avoided,
    too, for example the names of photos whose files are missing.

    Raises:
        FolderMissing: the folder does not exist.
        FolderUnreadable: the folder could not be listed completely.
    """
    names = folder if isinstance(folder, FolderNames) else FolderNames.read(folder)
    further = {name_key(name) for name in also_taken}
    number = 1
    while True:
        ending = f"{DUPLICATE}{number}"
        candidate = cut_to_bytes(base, max(1, max_bytes - len(ending.encode()))) + ending
        if not names.has_base_name(candidate) and name_key(candidate) not in further:
            return candidate
        number += 1
