"""Compares one part of a project's rows with the file names that may belong to them.

An image belongs to the photo with exactly its base name. If there is no such photo, it belongs to a photo whose name
differs only in case or Unicode form. `find_files` in `flows.steps.targets.photo_files` applies the same rule to the
photos of a job, and also finds their companions.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from storage.comparison.name_parts import NamePart
from storage.library.naming.kinds import AcceptedExtensions, FileKind
from storage.library.naming.names import name_key
from storage.library.scan import ScannedFile
from storage.photos.availability import Availability

#: A function that describes the file with a given name in the project; it returns None if the file no longer exists.
Look = Callable[[str], ScannedFile | None]

# One number stores which files a base name has. It has one bit for each kind of file that exists, and one bit for each
# kind with a file that has a problem. One more bit is always set, so that the number of a base name with only a sidecar
# is not 0.
_KINDS: Final = (FileKind.JPG, FileKind.RAW, FileKind.OTHER)
_KIND_BITS: Final = {kind: 1 << place for place, kind in enumerate(_KINDS)}
_ODD_PLACES: Final = len(_KINDS)
_IS_PHOTO: Final = (1 << 2 * _ODD_PLACES) - 1
_IS_NAME: Final = _IS_PHOTO + 1
#: The availability flags that a row should have, indexed by the number that stores the files of its base name.
_FLAGS: Final = [tuple(bits >> place & 1 for place in range(len(_KINDS))) for bits in range(2 * _IS_NAME)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewName:
    """A base name on disk without a row.

    Attributes:
        extension: the extension of the JPEG, else of the RAW file, else of another image; lower case, without the dot.
        files: the images with this base name.
    """

    name: str
    jpg: int
    raw: int
    other: int
    extension: str
    files: tuple[ScannedFile, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoWithoutFile:
    """A photo that has no file, neither on disk nor according to its row."""

    photo_id: int
    filename: str


class PartComparison:
    """Compares one part of a project's rows with the names of the files that may belong to them.

    Args:
        part: the rows and names.
        extensions: the accepted extensions.
        look: describes a file; called only if the file's base name has no row, or if the flags of the row differ from
            the files on disk.
    """

    def __init__(self, part: NamePart, *, extensions: AcceptedExtensions, look: Look) -> None:
        self._part = part
        self._rows = part.rows
        self._extensions = extensions
        self._look = look
        self._known = self._know()
        #: The base names on disk that no row has in this spelling.
        self._strangers = self._known.keys() - {row[1] for row in part.rows}

    def differing_availability(self) -> list[Availability]:
        """Return the photos whose availability flags differ from the files on disk, in order of id.

        If all files of a kind have a problem, the flag of this kind is unchanged.
        """
        known = self._known
        suspects = [row for row in self._rows if row[2:] != _FLAGS[known.get(row[1], 0)]]
        if not suspects and not self._strangers:
            return []
        self._look_closer({row[1] for row in suspects} | self._strangers)
        spelled = self._bits_of_owners()
        changes = []
        for row in self._rows if spelled else suspects:
            photo_id, filename, *flags = row
            bits = known.get(filename, 0) | spelled.get(photo_id, 0)
            wanted = [
                1 if bits >> place & 1 else flag if bits >> place + _ODD_PLACES & 1 else 0
                for place, flag in enumerate(flags)
            ]
            if wanted != flags:
                jpg, raw, other = wanted
                changes.append(Availability(photo_id=photo_id, filename=filename, jpg=jpg, raw=raw, other=other))
        return sorted(changes, key=lambda change: change.photo_id)

    def new_names(self) -> list[NewName]:
        """Return the base names on disk without a row, in order. All spellings of a name are one photo."""
        if not self._strangers:
            return []
        files = self._look_closer(self._strangers)
        spellings: dict[str, list[str]] = {}
        for name in sorted(self._strangers & self._known.keys()):
            if name not in self.owners:
                spellings.setdefault(name_key(name), []).append(name)
        found = [_new_name(names, files) for names in spellings.values()]
        return sorted((new for new in found if new is not None), key=lambda new: new.name)

    def photos_without_file(self) -> list[PhotoWithoutFile]:
        """Return the photos that have no file, neither on disk nor according to their rows, in order of id."""
        spelled = self._bits_of_owners()
        return [
            PhotoWithoutFile(photo_id=row[0], filename=row[1])
            for row in sorted(row for row in self._rows if row[2:] == (0, 0, 0))
            if not (self._known.get(row[1], 0) | spelled.get(row[0], 0)) & _IS_PHOTO
        ]

    @cached_property
    def owners(self) -> dict[str, int]:
        """The ids of photos by base name on disk, for names that differ in spelling from the photo's base name."""
        if not self._strangers:
            return {}
        keys = {name_key(name) for name in self._strangers}
        # If several rows fit a file, a row is preferred whose own base name no file has: the file with the other
        # spelling is probably the file of that row.
        best: dict[str, tuple[bool, int]] = {}
        for row in self._rows:
            key = name_key(row[1])
            if key in keys:
                claim = (row[1] in self._known, row[0])
                best[key] = min(best.get(key, claim), claim)
        by_name = {name: best.get(name_key(name)) for name in self._strangers}
        return {name: claim[1] for name, claim in by_name.items() if claim is not None}

    def _bits_of_owners(self) -> dict[int, int]:
        bits: dict[int, int] = {}
        for name, photo_id in self.owners.items():
            bits[photo_id] = bits.get(photo_id, 0) | self._known.get(name, 0)
        return bits

    def _know(self) -> dict[str, int]:
        known: dict[str, int] = {}
        by_extension = self._bits_by_extension()
        for name in self._part.names:
            base_name, _, extension = name.rpartition(".")
            bits = by_extension.get(extension)
            if bits is None or not base_name:
                described = self._extensions.describe(name)
                if described.kind is FileKind.UNACCEPTED:
                    continue
                base_name, bits = described.base_name, _bits(described.kind)
            known[base_name] = known.get(base_name, 0) | bits
        for base_name, bits in self._odd():
            known[base_name] = known.get(base_name, 0) | bits
        return known

    def _odd(self) -> Iterator[tuple[str, int]]:
        """Yield the base name and the bits of each entry with a problem."""
        for name in self._part.odd_names:
            described = self._extensions.describe(name)
            if described.kind is not FileKind.UNACCEPTED:
                yield described.base_name, _odd_bits(described.kind)

    def _bits_by_extension(self) -> dict[str, int]:
        described = [self._extensions.describe(f"name.{extension}") for extension in self._extensions.photo_extensions]
        found = {file.extension: _bits(file.kind) for file in described}
        return found | {extension.upper(): bits for extension, bits in found.items()}

    def _look_closer(self, base_names: set[str]) -> dict[str, list[ScannedFile]]:
        """Determine again which kinds of files these base names have, from the files on disk.

        Returns the files without a problem, by base name.
        """
        files: dict[str, list[ScannedFile]] = {}
        changed: dict[str, int] = {}
        for name in self._part.names:
            described = self._extensions.describe(name)
            base_name = described.base_name
            if base_name not in base_names or described.kind is FileKind.UNACCEPTED:
                continue
            found = self._look(name)
            if found is not None:
                bits = _bits(described.kind) if found.problem is None else _odd_bits(described.kind)
                changed[base_name] = changed.get(base_name, 0) | bits
                if found.problem is None:
                    files.setdefault(base_name, []).append(found)
        for base_name, bits in self._odd():
            if base_name in base_names:
                changed[base_name] = changed.get(base_name, 0) | bits
        for base_name in base_names & self._known.keys():
            if base_name in changed:
                self._known[base_name] = changed[base_name]
            else:
                del self._known[base_name]
        self._strangers &= self._known.keys()
        return files


def _bits(kind: FileKind) -> int:
    return _IS_NAME | _KIND_BITS.get(kind, 0)


def _odd_bits(kind: FileKind) -> int:
    return _IS_NAME | _KIND_BITS.get(kind, 0) << _ODD_PLACES


def _new_name(spellings: Iterable[str], files: dict[str, list[ScannedFile]]) -> NewName | None:
    """Return the new photo with these spellings of its base name, or None if there are only sidecars."""
    extensions: dict[FileKind, str] = {}
    images = [file for name in spellings for file in files.get(name, ()) if file.kind.is_photo]
    for file in images:
        extensions[file.kind] = min(extensions.get(file.kind, file.extension), file.extension)
    if not extensions:
        return None
    jpg, raw, other = (int(kind in extensions) for kind in _KINDS)
    extension = next(extensions[kind] for kind in _KINDS if kind in extensions)
    # The spelling of a sidecar does not count: other programs find the image by the name of the photo.
    name = min(file.base_name for file in images)
    return NewName(name=name, jpg=jpg, raw=raw, other=other, extension=extension, files=tuple(images))
