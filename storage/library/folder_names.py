"""The names that are taken in a folder, compared so that case and Unicode form make no difference."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from storage.library.errors import FolderMissing, FolderUnreadable
from storage.library.kinds import DEFAULT_EXTENSIONS, AcceptedExtensions
from storage.library.names import MAX_NAME_BYTES, cut_to_bytes, name_key

#: Bytes that a photo's base name leaves free for an extension, of the file itself or of a derivative.
_EXTENSION_BYTES = 10


class FolderNames:
    """The names in one folder from one scan, kept up as files come and go, so that a batch of moves scans once.

    Not safe for use by several threads. It knows only what it is told: the moves themselves still never overwrite.
    """

    def __init__(self, names: Iterable[str] = (), *, accepted_extensions: AcceptedExtensions = DEFAULT_EXTENSIONS):
        self._accepted = accepted_extensions
        self._names: dict[str, set[str]] = {}
        self._base_names: Counter[str] = Counter()
        for name in names:
            self.add(name)

    @classmethod
    def read(
        cls,
        folder: Path,
        *,
        accepted_extensions: AcceptedExtensions = DEFAULT_EXTENSIONS,
        is_wanted: Callable[[str], bool] | None = None,
    ) -> Self:
        """Scan a folder.

        Args:
            folder: whose names.
            accepted_extensions: what tells the base name of a file.
            is_wanted: given a base name, whether such names are of interest; the others are not held in memory.

        Raises:
            FolderMissing: it does not exist.
            FolderUnreadable: it could not be listed to its end.
        """
        try:
            with os.scandir(folder) as entries:
                names = (
                    entry.name
                    for entry in entries
                    if is_wanted is None or is_wanted(accepted_extensions.describe(entry.name).base_name)
                )
                return cls(names, accepted_extensions=accepted_extensions)
        except FileNotFoundError as error:
            raise FolderMissing(f"Folder {folder} does not exist.") from error
        except OSError as error:
            raise FolderUnreadable(f"Folder {folder} cannot be listed: {error.strerror}.") from error

    def same_as(self, name: str) -> frozenset[str]:
        """The names in the folder that count as this name, itself included where it is there."""
        return frozenset(self._names.get(name_key(name), ()))

    def has_base_name(self, base_name: str) -> bool:
        """Whether a photo, sidecar or other file with this base name is in the folder."""
        return self._base_names[name_key(base_name)] > 0

    def add(self, name: str) -> None:
        """Note that a file has come."""
        same = self._names.setdefault(name_key(name), set())
        if name not in same:
            same.add(name)
            self._base_names[self._base_key(name)] += 1

    def discard(self, name: str) -> None:
        """Note that a file has gone."""
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
    suffix: str = "_duplicate",
    also_taken: Iterable[str] = (),
) -> str:
    """A base name that no file in the folder has: `<base><suffix><n>` with the lowest free n from 1.

    A base name that is too long is shortened, so that the result still takes an extension.

    Args:
        folder: where the name must be free, or its names as already read.
        base: the base name that is taken.
        suffix: what stands between the base name and the number.
        also_taken: further base names to avoid, such as those that SQL knows without a file.

    Raises:
        FolderMissing: the folder does not exist.
        FolderUnreadable: it could not be listed to its end.
    """
    names = folder if isinstance(folder, FolderNames) else FolderNames.read(folder)
    further = {name_key(name) for name in also_taken}
    number = 1
    while True:
        ending = f"{suffix}{number}"
        candidate = cut_to_bytes(base, MAX_NAME_BYTES - _EXTENSION_BYTES - len(ending.encode())) + ending
        if not names.has_base_name(candidate) and name_key(candidate) not in further:
            return candidate
        number += 1
