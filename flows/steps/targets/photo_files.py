"""Finds the files on disk that belong to each photo. `SOURCE_ORDER` says from which of them derivatives are made.

`storage.library.naming.companions` decides by the name whether a file is a companion of a photo.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from flows.errors import PermanentStepError, SkipItem
from flows.handlers.announced_moves import FileMove
from flows.handlers.step_context import StepContext
from storage.comparison.reconciliation import known_names
from storage.library.errors import LibraryError, UnsafePath
from storage.library.naming.companions import Fit, owner_keys
from storage.library.naming.kinds import SOURCE_ORDER, FileKind
from storage.library.naming.names import is_decodable, name_key
from storage.library.paths import ProjectFolder
from storage.library.scan import ScannedFile, scan, scan_companion_folders
from storage.library.transfer import remove_derivative
from storage.photos.derivatives import Derivative, DerivativeKind
from storage.photos.originals import Original
from storage.records import Photo


class FileLeftAlone(PermanentStepError):
    """A file of a photo must not be used, for example because it is a symlink; no file of the photo was changed."""


class SeveralPictures(PermanentStepError):
    """Several pictures have the same base name, so it is unknown which of them the user saw."""


@dataclass(slots=True)
class PhotoFiles:
    """The files of one photo on disk. Each list is sorted by name.

    Attributes:
        images: the JPEG, RAW and other image files.
        companions: the other files that belong to the photo by their names. The `Fit` of a file describes how its name
            is derived from the photo's name.
        untouchable: the files that must stay unchanged, such as symlinks.
    """

    images: list[ScannedFile] = field(default_factory=list)
    companions: list[tuple[ScannedFile, Fit]] = field(default_factory=list)
    untouchable: list[ScannedFile] = field(default_factory=list)

    def of_kind(self, kind: FileKind) -> list[ScannedFile]:
        """Return the images of one kind."""
        return [file for file in self.images if file.kind is kind]

    def has(self, kind: FileKind) -> bool:
        """Return whether the photo has an image of this kind."""
        return any(file.kind is kind for file in self.images)

    def all(self) -> list[ScannedFile]:
        """Return the images, then the companions."""
        return [*self.images, *(file for file, _ in self.companions)]

    def renamed(self, new: str, *, old: str) -> list[tuple[ScannedFile, str]]:
        """Return each file with the name that it gets if the photo is renamed from `old` to `new`.

        The name of a file in a subfolder is its path below the project's folder.
        """
        images = [(file, new + file.name[len(file.base_name) :]) for file in self.images]
        return images + [(file, fit.renamed(new, old=old)) for file, fit in self.companions]

    def add(self, file: ScannedFile, fit: Fit) -> None:
        """Add a file to the list of its kind."""
        if file.problem is not None:
            self.untouchable.append(file)
        elif file.kind.is_photo:
            self.images.append(file)
        else:
            self.companions.append((file, fit))

    def sources(self) -> list[ScannedFile]:
        """Return the images in the order in which they are used for derivatives and metadata: JPEG, other, RAW.

        Raises:
            FileLeftAlone: the photo has no image, and one of its files must stay unchanged.
            SkipItem: the photo has no file.
        """
        if not self.images:
            self.refuse_untouchable()
            raise SkipItem("the photo has no file on disk")
        return [file for kind in SOURCE_ORDER for file in self.of_kind(kind)]

    def refuse_untouchable(self) -> None:
        """Raise `FileLeftAlone` if a file of the photo must stay unchanged, such as a symlink."""
        for file in self.untouchable:
            if file.problem in ("symlink", "not a regular file"):
                advice = "Replace it with a regular file, or take it out of the library."
            elif file.problem == "unreadable":
                advice = "Check its permissions and its disk."
            else:
                advice = "Rename it, or take it out of the library."
            raise FileLeftAlone(f"{file.printable_name}: {file.problem}. {advice}")

    def refuse_several_pictures(self, kinds: Collection[FileKind]) -> None:
        """Raise `SeveralPictures` if a kind has several pictures, because the user can have seen only one of them."""
        for kind in kinds:
            files = self.of_kind(kind)
            # Files of one kind with different extensions are one picture, such as a RAW file and its conversion to DNG.
            # Files with the same extension are several pictures, and so are two JPEG files.
            shown = 1 if kind is FileKind.JPG else len({file.extension for file in files})
            if len(files) > shown:
                raise SeveralPictures(
                    f"{' and '.join(file.name for file in files)} have the same base name. Only one of them "
                    "is shown, so none goes to the trash. Rename all but one; then each gets its own row."
                )


@dataclass(frozen=True, slots=True)
class PhotoTask:
    """One photo with the files and rows that are needed to process it.

    Attributes:
        known: the rows of the photo's derivatives by kind. A row names the file from which the derivative was made.
        metadata_source: the row that names the file from which the metadata were read; None if they were not read.
        originals: the rows of the photo's files by name.
    """

    photo: Photo
    folder: ProjectFolder
    files: PhotoFiles
    known: dict[DerivativeKind, Derivative]
    metadata_source: Derivative | None
    originals: dict[str, Original]


def find_files(ctx: StepContext, folder: ProjectFolder, photos: Sequence[Photo]) -> dict[int, PhotoFiles]:
    """Return the files of photos of one project, by photo id. Every photo has an entry.

    A file belongs to the photo with exactly its base name; if there is none, to the photo whose name differs only in
    case or Unicode form. A companion belongs to the photo, in the database or on disk, whose name it fits best. If it
    fits several photos equally well, it belongs to none.

    Raises:
        FolderMissing, FolderUnreadable: the project's folder could not be listed.
    """

    def known(names: list[str]) -> set[str]:
        with ctx.read() as connection:
            return known_names(connection, photos[0].project_id, names)

    by_name = {photo.filename: photo for photo in photos}
    names = [photo.filename for photo in reversed(photos)]
    found = _FileSearch(folder, names, known).run()
    return {photo.id: found[photo.filename] if by_name[photo.filename] is photo else PhotoFiles() for photo in photos}


class _FileSearch:
    """Searches for the files of some photos of a project.

    The search lists the folder once, and a second time if a file may fit another photo better. If two of the photos
    have names that differ only in case, a file that fits neither name exactly belongs to the later one of `names`.

    Args:
        folder: the folder of the project.
        names: the base names of the photos.
        known: returns the given names that are names of photos in the database.
    """

    def __init__(
        self, folder: ProjectFolder, names: Sequence[str], known: Callable[[list[str]], Collection[str]]
    ) -> None:
        self._folder = folder
        self._accepted = folder.library.accepted_extensions
        self._known = known
        self._names = set(names)
        self._by_key: dict[str, list[str]] = {}
        for name in names:
            for key in owner_keys(name):
                self._by_key.setdefault(key, []).append(name)

    def run(self) -> dict[str, PhotoFiles]:
        found = {name: PhotoFiles() for name in self._names}
        files = [*scan(self._folder, is_wanted=self._may_belong)]
        files += scan_companion_folders(self._folder, is_wanted=self._may_belong)
        fits = {file.name: self._accepted.fits(file.name) for file in sorted(files, key=lambda file: file.name)}
        by_name = {file.name: file for file in files}
        others = self._others(fits)
        for name, possible in fits.items():
            owner = self._owner(possible, others)
            if owner is not None:
                found[owner[0]].add(by_name[name], owner[1])
        return found

    def _may_belong(self, path: str) -> bool:
        # Most names are image names, for which the slower search for fits is not needed.
        if "/" not in path and self._accepted.is_image(path):
            return name_key(path.rpartition(".")[0]) in self._by_key
        return any(fit.key in self._by_key for fit in self._accepted.fits(path))

    def _others(self, fits: Mapping[str, Sequence[Fit]]) -> dict[str, set[str]]:
        """Return, by `name_key`, the names of other photos to which the found files may belong."""
        keys: set[str] = set()
        spelled: set[str] = set()
        for possible in fits.values():
            for fit in possible:
                if fit.key not in self._by_key or fit.is_cut:
                    keys.add(fit.key)
                if not fit.is_cut and fit.base_name not in self._names and is_decodable(fit.base_name):
                    spelled.add(fit.base_name)
                if fit.key in self._by_key:
                    break
        others: dict[str, set[str]] = {}
        for name in self._known(sorted(spelled)) if spelled else ():
            others.setdefault(name_key(name), set()).add(name)
        if keys:
            self._add_images(others, keys)
        return others

    def _add_images(self, others: dict[str, set[str]], keys: Collection[str]) -> None:
        """Add to `others`, by key, the base names of images on disk that have one of `keys` among their `owner_keys`.

        The photos of this object are left out.
        """

        def note(name: str) -> bool:
            stem = name.rpartition(".")[0]
            if self._accepted.is_image(name) and name_key(stem) not in self._by_key:
                for key in owner_keys(stem):
                    if key in keys:
                        others.setdefault(key, set()).add(stem)
            return False

        for _ in scan(self._folder, is_wanted=note):
            pass

    def _owner(self, fits: Sequence[Fit], others: Mapping[str, Collection[str]]) -> tuple[str, Fit] | None:
        for fit in fits:
            mine, theirs = self._by_key.get(fit.key, []), others.get(fit.key, ())
            if fit.is_cut and len(mine) + len(theirs) > 1:
                return None
            if fit.base_name in mine:
                return fit.base_name, fit
            if fit.base_name in theirs or (theirs and not mine):
                return None
            if mine:
                return mine[-1], fit
        return None


def file_moves(files: PhotoFiles, source: ProjectFolder, old: str, target: ProjectFolder, new: str) -> list[FileMove]:
    """Return the moves of a photo's files and derivatives from one project folder and base name to another."""
    moves = [
        FileMove(source.companion(file.name), target.companion(path), file.size_bytes)
        for file, path in files.renamed(new, old=old)
    ]
    for path_of in (ProjectFolder.thumbnail, ProjectFolder.preview_image):
        # A derivative behind a symlink stays, because it may be outside of the library.
        with suppress(UnsafePath, OSError):
            derivative = path_of(source, old)
            moves.append(FileMove(derivative, path_of(target, new), derivative.lstat().st_size, is_derivative=True))
    return moves


def remove_stray_derivatives(folder: ProjectFolder, name: str) -> None:
    """Remove the derivatives with this base name, because their photo no longer exists."""
    for path_of in (folder.thumbnail, folder.preview_image):
        with suppress(LibraryError, OSError):
            remove_derivative(path_of(name))


def remove_derivatives(ctx: StepContext, folder: ProjectFolder, name: str) -> None:
    """Remove the derivatives of a photo, and count them in the report."""
    # An unsafe path leads through a symlink. The files behind a symlink do not belong to photojobs.
    for path_of in (folder.thumbnail, folder.preview_image):
        with suppress(UnsafePath):
            if remove_derivative(path_of(name)):
                ctx.report.count("derivatives removed")
