"""Stores the rows and file names of one project: in memory if they are few, else in parts in a temporary file.

All spellings of a name are in the same part. Each part can therefore be compared separately, and memory does not grow
with the size of the project.
"""

import marshal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Final, Self, TypeAlias
from zlib import crc32

from storage.library.naming.names import name_key

#: The maximum number of rows and names that are kept in memory, about 15 MB.
MAX_IN_MEMORY: Final = 50_000
#: The number of parts of a larger project: enough for a few million files.
PART_COUNT: Final = 64
#: The number of rows and names of one part that are written to the file at once.
_BLOCK_SIZE: Final = 500

#: A photo's id, base name, and flags for JPEG, RAW and other files; a plain tuple, because there may be millions.
PhotoFlags: TypeAlias = tuple[int, str, int, int, int]


@dataclass(slots=True)
class NamePart:
    """Some rows of a project, and the names of files; all spellings of a base name are in one part.

    Attributes:
        names: names of files without a problem.
        odd_names: names of entries with a problem, such as symlinks; we never change such entries.
    """

    rows: list[PhotoFlags] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    odd_names: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows) + len(self.names) + len(self.odd_names)

    def extend(self, other: Self) -> None:
        """Add the rows and names of another part."""
        self.rows += other.rows
        self.names += other.names
        self.odd_names += other.odd_names


class NameParts:
    """Collects rows and names in any order, and returns them in parts. All spellings of a name are in the same part.

    Args:
        base_name_of: returns the base name of a file name.
    """

    def __init__(self, base_name_of: Callable[[str], str]) -> None:
        self._base_name_of = base_name_of
        self._open: list[NamePart] = [NamePart()]
        self._blocks: list[list[tuple[int, int]]] = [[]]
        self._file: IO[bytes] | None = None

    def add(self, new: NamePart) -> None:
        """Add rows and names; write them to the temporary file if there are too many for memory."""
        if self._file is None:
            self._open[0].extend(new)
            if len(self._open[0]) <= MAX_IN_MEMORY:
                return
            new = self._open[0]
            self._file = tempfile.TemporaryFile(prefix="photojobs-")  # noqa: SIM115 - `close` closes it.
            self._open = [NamePart() for _ in range(PART_COUNT)]
            self._blocks = [[] for _ in range(PART_COUNT)]
        self._distribute(new)

    def __iter__(self) -> Iterator[NamePart]:
        for part, blocks in zip(self._open, self._blocks, strict=True):
            if self._file is None:
                yield part
                continue
            whole = NamePart()
            for place, size in blocks:
                self._file.seek(place)
                whole.extend(NamePart(*marshal.loads(self._file.read(size))))  # noqa: S302 - written by this process.
            whole.extend(part)
            yield whole

    def close(self) -> None:
        """Discard all rows and names."""
        self._open, self._blocks = [NamePart()], [[]]
        if self._file is not None:
            self._file.close()
            self._file = None

    def _distribute(self, new: NamePart) -> None:
        parts, base_name_of = self._open, self._base_name_of
        for row in new.rows:
            parts[_number(row[1])].rows.append(row)
        for name in new.names:
            parts[_number(base_name_of(name))].names.append(name)
        for name in new.odd_names:
            parts[_number(base_name_of(name))].odd_names.append(name)
        for number, part in enumerate(parts):
            if len(part) >= _BLOCK_SIZE:
                self._write(number, part)

    def _write(self, number: int, part: NamePart) -> None:
        assert self._file is not None  # noqa: S101 - parts are written only to this file.
        block = marshal.dumps((part.rows, part.names, part.odd_names))
        place = self._file.seek(0, 2)
        self._file.write(block)
        self._blocks[number].append((place, len(block)))
        self._open[number] = NamePart()


def _number(base_name: str) -> int:
    # New rows are inserted in the order of the parts. `crc32` gives the same order in every process; `hash` does not.
    return crc32(name_key(base_name).encode(errors="surrogatepass")) % PART_COUNT
