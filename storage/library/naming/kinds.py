"""Determines the kind of a file in a project folder by its name alone. `flows.imaging` reads the contents.

The settings `jpg_extensions`, `raw_extensions` and `other_extensions` replace the extensions here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from storage.library.naming.companions import CompanionNames, Fit

#: The manifest's file name in each project folder.
MANIFEST_NAME: Final = ".project.yaml"

JPG_EXTENSIONS: Final = frozenset({"jpg", "jpeg", "jpe", "jfif", "mpo"})
RAW_EXTENSIONS: Final = frozenset({
    "raw", "3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "gpr", "iiq", "kdc", "mef", "mos", "mrw",
    "nef", "nrw", "orf", "pef", "raf", "rw2", "rwl", "sr2", "srf", "srw", "x3f",
})  # fmt: skip
OTHER_EXTENSIONS: Final = frozenset(
    {"png", "tif", "tiff", "webp", "heic", "heif", "hif", "heics", "heifs", "avif", "jxl", "jp2"}
)
SIDECAR_EXTENSIONS: Final = frozenset({"xmp"})


class FileKind(StrEnum):
    """The kind of a file in a project folder."""

    JPG = "jpg"
    RAW = "raw"
    OTHER = "other"
    SIDECAR = "sidecar"
    MANIFEST = "manifest"
    HIDDEN = "hidden"
    UNACCEPTED = "unaccepted"

    @property
    def is_photo(self) -> bool:
        """Whether a file of this kind is an image: JPEG, RAW or other."""
        return self in {FileKind.JPG, FileKind.RAW, FileKind.OTHER}

    @property
    def is_hidden(self) -> bool:
        """Whether files of this kind are hidden, such as the manifest. Hidden files are not files of the user."""
        return self in {FileKind.HIDDEN, FileKind.MANIFEST}


#: The order in which the files of a photo are used: its derivatives and metadata come from the first kind that it has.
SOURCE_ORDER: Final = (FileKind.JPG, FileKind.OTHER, FileKind.RAW)


@dataclass(frozen=True, slots=True)
class FileName:
    """A file name and its parts.

    Attributes:
        base_name: the base name of the file's photo; for a companion, the base name of the photo that fits best.
        extension: the extension in lower case, without the dot; empty if there is none.
    """

    name: str
    base_name: str
    extension: str
    kind: FileKind


@dataclass(frozen=True, slots=True)
class AcceptedExtensions:
    """The extensions of image files, for each kind. Case is ignored, and a leading dot is allowed.

    Attributes:
        companion_patterns: names of further files that belong to photos; see `CompanionNames`.

    Raises:
        ValueError: an extension is empty, belongs to two kinds, belongs to sidecars, or has characters other than
            letters and digits; or a pattern is not valid.
    """

    jpg: frozenset[str] = JPG_EXTENSIONS
    raw: frozenset[str] = RAW_EXTENSIONS
    other: frozenset[str] = OTHER_EXTENSIONS
    companion_patterns: tuple[str, ...] = ()
    #: The extensions of all kinds of images, in lower case, without the dot.
    photo_extensions: frozenset[str] = field(init=False, repr=False, compare=False)
    _kinds: dict[str, FileKind] = field(init=False, repr=False, compare=False)
    _companions: CompanionNames = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kinds = dict.fromkeys(SIDECAR_EXTENSIONS, FileKind.SIDECAR)
        for kind in (FileKind.JPG, FileKind.RAW, FileKind.OTHER):
            extensions = _normalized(getattr(self, kind.value))
            object.__setattr__(self, kind.value, extensions)
            for extension in sorted(extensions):
                if extension in kinds:
                    other, place = kinds[extension], f"{kind}_extensions"
                    if other is not FileKind.SIDECAR:
                        place = f"{other}_extensions or {place}"
                    problem = f"extension {extension!r} cannot be both {other} and {kind}"
                    raise ValueError(f"{problem}; remove it from {place}")
                kinds[extension] = kind
        object.__setattr__(self, "_kinds", kinds)
        object.__setattr__(self, "photo_extensions", self.jpg | self.raw | self.other)
        object.__setattr__(self, "_companions", CompanionNames(self.photo_extensions, self.companion_patterns))

    @property
    def companion_folders(self) -> tuple[tuple[str, ...], ...]:
        """The folders below a project's folder that may have companions; see `CompanionNames.folders`."""
        return self._companions.folders

    def is_image(self, name: str) -> bool:
        """Return whether a file of this name is an image; faster than `describe`."""
        stem, _, extension = name.rpartition(".")
        return bool(stem) and extension.lower() in self.photo_extensions and not name.startswith(".")

    def describe(self, name: str) -> FileName:
        """Return the parts of a file name and the kind of the file.

        `name.xmp` and `name.jpg.xmp` are both sidecars of the photo `name`.
        """
        if name.startswith("."):
            kind = FileKind.MANIFEST if name == MANIFEST_NAME else FileKind.HIDDEN
            return FileName(name, name, "", kind)
        base_name, extension = _split(name)
        found = self._kinds.get(extension, FileKind.UNACCEPTED)
        if not found.is_photo:
            base_name = next((fit.base_name for fit in self._companions.fits(name) if fit.after), name)
        return FileName(name, base_name, extension, found)

    def fits(self, path: str) -> list[Fit]:
        """Return the photos that a file may belong to, best first. For an image, this is only its own photo.

        `path` is relative to the project's folder. Hidden files belong to no photo.
        """
        name = path.rpartition("/")[2]
        if name.startswith("."):
            return []
        if "/" not in path:
            base_name, extension = _split(name)
            if self._kinds.get(extension, FileKind.UNACCEPTED).is_photo:
                return [Fit(path, base_name, name[len(base_name) :])]
        return self._companions.fits(path)


def _split(name: str) -> tuple[str, str]:
    base_name, dot, extension = name.rpartition(".")
    return (base_name, extension.lower()) if base_name and dot else (name, "")


def _normalized(extensions: Iterable[str]) -> frozenset[str]:
    if isinstance(extensions, str):
        raise ValueError(f"extensions must be a list of names, not the text {extensions!r}")
    normalized = frozenset(extension.lower().removeprefix(".") for extension in extensions)
    for extension in normalized:
        if not (extension.isascii() and extension.isalnum()):
            raise ValueError(f"{extension!r} is not a file extension: use letters and digits only")
    return normalized


#: The extensions that are accepted if no setting changes them.
DEFAULT_EXTENSIONS: Final = AcceptedExtensions()
