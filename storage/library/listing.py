"""Lists the names in a project folder in batches, for the comparison with the rows, without calling `stat` for each.

Most file systems return the type of an entry with its name. A `stat` of each file would take several times as long as
the listing. Use `storage.library.scan.look_at` for files whose size or times matter.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from storage.library.naming.names import MAX_NAME_BYTES, unsafe_reason
from storage.library.paths import ProjectFolder
from storage.library.scan import ScannedFile, describe_entry, entries_of

#: The number of entries in a batch.
BATCH_SIZE: Final = 5_000

#: Matches names that need no further check: printable ASCII, not hidden, without separators.
_is_plain = re.compile(rf"[ -\-0-\[\]-~][ -.0-\[\]-~]{{0,{MAX_NAME_BYTES - 1}}}").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedNames:
    """A batch of a folder's entries, without hidden entries.

    Attributes:
        names: the names of regular files; `ProjectFolder.original` accepts them.
        odd: entries with a problem; we never change them.
    """

    names: list[str] = field(default_factory=list)
    odd: list[ScannedFile] = field(default_factory=list)


def list_names(project: ProjectFolder) -> Iterator[ListedNames]:
    """Yield the entries of a project folder that are not hidden, in the disk's order, from one directory scan.

    Raises:
        FolderMissing: the project has no folder.
        FolderUnreadable: the folder could not be listed completely; files that were not listed may still exist.
        UnsafePath: the folder was replaced by a symlink or a file.
    """
    batch = ListedNames()
    with entries_of(project) as entries:
        for entry in entries:
            name = entry.name
            try:
                is_file = entry.is_file(follow_symlinks=False)
            except OSError:
                is_file = False
            if is_file and (_is_plain(name) or unsafe_reason(name) is None):
                batch.names.append(name)
            else:
                described = describe_entry(project, entry)
                if described is None or described.is_hidden:
                    continue
                if described.problem is None:
                    batch.names.append(name)
                else:
                    batch.odd.append(described)
            if len(batch.names) + len(batch.odd) >= BATCH_SIZE:
                yield batch
                batch = ListedNames()
    yield batch
