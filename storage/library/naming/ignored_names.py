"""Names of files and folders that operating systems and storage systems create in users' folders; we ignore them.

The setting `ignored_names` replaces the default names. `storage.library.naming.kinds` decides about names that begin
with a dot.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

#: Recycle bins, snapshots and indexes of Synology, QNAP, Windows, macOS and Linux.
DEFAULT_IGNORED_NAMES: Final = (
    "#recycle", "#snapshot", "@eaDir", "@Recycle", "@Recently-Snapshot", "@tmp", "$RECYCLE.BIN", "RECYCLER",
    "System Volume Information", "FOUND.[0-9][0-9][0-9]", "lost+found", "Network Trash Folder", "Temporary Items",
    "TheVolumeSettingsFolder", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".Trash-*", "._*",
)  # fmt: skip


class IgnoredNames:
    """A set of ignored names. `name in ignored_names` is fast enough for millions of names.

    Args:
        patterns: names in any case; `*`, `?` and `[…]` work as in a shell.
    """

    def __init__(self, patterns: Iterable[str] = DEFAULT_IGNORED_NAMES) -> None:
        lowered = [pattern.lower() for pattern in patterns]
        self._names = frozenset(lowered)
        self._patterns = tuple(pattern for pattern in lowered if not _WILD.isdisjoint(pattern))
        self._first = frozenset(pattern[:1] for pattern in self._patterns)
        self._is_open = not _WILD.isdisjoint(self._first)

    def __contains__(self, name: str) -> bool:
        lowered = name.lower()
        if lowered in self._names:
            return True
        return (self._is_open or lowered[:1] in self._first) and any(
            fnmatchcase(lowered, pattern) for pattern in self._patterns
        )


_WILD: Final = frozenset("*?[")
