"""The names in a project folder, a batch at a time, to be compared with the rows. No file is looked at.

What an entry is, most file systems tell with its name; asking for each file takes several times as long as the listing.
A file from which something new is to be concluded is looked at by `look_at`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from storage.library.names import MAX_NAME_BYTES, unsafe_reason
from storage.library.paths import ProjectFolder
from storage.library.scan import ScannedFile, describe_entry, entries_of

#: Names handed out at a time.
BATCH_SIZE: Final = 5_000

#: What needs no closer look to be safe: printable ASCII, not hidden, without separators.
_is_plain = re.compile(rf"[ -\-0-\[\]-~][ -.0-\[\]-~]{{0,{MAX_NAME_BYTES - 1}}}").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedNames:
    """Some of a folder's entries; hidden ones are left out.

    Attributes:
        names: regular files, as `ProjectFolder.original` accepts them.
        odd: entries with a problem, which are there, but not ours to touch.
    """

    names: list[str] = field(default_factory=list)
    odd: list[ScannedFile] = field(default_factory=list)


def list_names(project: ProjectFolder) -> Iterator[ListedNames]:
    """Every entry of a project folder that is not hidden, in the disk's order, from one directory scan.

    Raises:
        FolderMissing: the project has no folder.
        FolderUnreadable: the folder could not be listed to its end, so that files not seen may well exist.
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
