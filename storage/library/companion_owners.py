"""Finds the photo to which each companion in a folder belongs, and what changes if more photos and files arrive.

`storage.library.naming.companions` decides by a file's name which photos the file fits. The file belongs to the first
of them that exists, as an image in the folder or as a row.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
from typing import Self

from storage.library.naming.companions import Fit
from storage.library.naming.folder_names import FolderNames
from storage.library.naming.kinds import AcceptedExtensions
from storage.library.naming.names import name_key, printable
from storage.library.paths import ProjectFolder
from storage.library.scan import scan, scan_companion_folders


class CompanionOwners:
    """The photos of a project's folder and the companions that fit them. The caller adds photos and files that arrive.

    Companions whose names Google Takeout has cut are left out: such a name has only the beginning of the photo's name,
    so the companion still fits after a number is added at the end of the photo's name.
    """

    def __init__(self, accepted_extensions: AcceptedExtensions) -> None:
        self._accepted = accepted_extensions
        self._photos: set[str] = set()
        #: For the key of each photo: the paths of the companions that fit the photo, and for each path all photos that
        #: the companion fits.
        self._fitting: dict[str, dict[str, list[Fit]]] = defaultdict(dict)

    @classmethod
    def read(
        cls,
        folder: ProjectFolder,
        *,
        rows: Iterable[str],
        is_wanted: Callable[[str], bool],
        names: FolderNames | None = None,
    ) -> Self:
        """Read the companions in a folder that fit a wanted photo, and all photos that may own one of them.

        The folder is scanned once, and a second time if a companion fits a wanted photo.

        Args:
            folder: the folder of a project.
            rows: the base names of all photos that have a row in the project.
            is_wanted: returns whether the photos with this base name are wanted.
            names: an object to which the names of all files in the folder that fit a wanted photo are added.

        Raises:
            FolderMissing, FolderUnreadable, UnsafePath: see `scan`.
        """
        owners = cls(folder.library.accepted_extensions)

        def add_wanted(path: str) -> bool:
            if any(is_wanted(base_name) for base_name in owners._possible(path)):
                owners.add(path)
                if names is not None and "/" not in path:
                    names.add(path)
            return False

        def add_owner(name: str) -> bool:
            if owners._is_image(name):
                [base_name] = owners._possible(name)
                if name_key(base_name) in owners._fitting:
                    owners.add_photo(base_name)
            return False

        for _ in chain(scan(folder, is_wanted=add_wanted), scan_companion_folders(folder, is_wanted=add_wanted)):
            pass
        if owners._fitting:
            for _ in scan(folder, is_wanted=add_owner):
                pass
        for name in rows:
            if is_wanted(name) or name_key(name) in owners._fitting:
                owners.add_photo(name)
        return owners

    def add_photo(self, base_name: str) -> None:
        """Add a photo by its base name, for example a photo without files."""
        self._photos.add(name_key(base_name))

    def add(self, path: str) -> None:
        """Add a file by its path relative to the folder: an image, with its photo, or a companion."""
        if self._is_image(path):
            [base_name] = self._possible(path)
            self.add_photo(base_name)
            return
        fits = self._fits(path)
        for fit in fits:
            self._fitting[fit.key][path] = fits

    def has_photo(self, base_name: str) -> bool:
        """Return whether a photo has this base name."""
        return name_key(base_name) in self._photos

    def concern(self, base_name: str) -> bool:
        """Return whether a photo has this base name, or a companion would fit such a photo."""
        return self.has_photo(base_name) or name_key(base_name) in self._fitting

    def owner(self, path: str, *, arriving: str = "") -> Fit | None:
        """Return the photo to which a file belongs; None if it belongs to no photo.

        A photo named `arriving` counts as if it were already in the folder. `path` is relative to the folder; the file
        need not exist.
        """
        return self._first(self._fits(path), {name_key(arriving)})

    def companions_of(self, base_name: str) -> list[Fit]:
        """Return the companions that belong to the photo of this name, or would belong to it if it were added."""
        key = name_key(base_name)
        owners = (self._first(fits, {key}) for fits in self._fitting.get(key, {}).values())
        return [owner for owner in owners if owner is not None and owner.key == key]

    def change_by(self, arriving: Mapping[str, str | None], *, leaving: Collection[str] = ()) -> str | None:
        """Return a text about a companion that would get another photo if files arrive; None if each keeps its photo.

        Args:
            arriving: the paths of the files, each with the base name of its photo; None if the file belongs to no
                photo.
            leaving: the paths of files that leave the folder.
        """
        images = {path for path in arriving if self._is_image(path)}
        new = {name_key(name) for path in images for name in self._possible(path)} - self._photos
        owners = {path: name for path, name in arriving.items() if name is not None and path not in images}
        for path, fits in (item for key in new for item in self._fitting.get(key, {}).items()):
            owner = self._first(fits)
            if owner is not None and path not in leaving:
                owners[path] = owner.base_name
        for path, before in owners.items():
            after = self._first(self._fits(path), new)
            if after is not None and after.key != name_key(before):
                photos = f"photo {printable(before)}, but would belong to photo {printable(after.base_name)}"
                return f"{printable(path)} belongs to {photos}"
        return None

    def _possible(self, path: str) -> list[str]:
        """Return the base names of the photos to which a file may belong."""
        # Most names are image names, for which the slower search for fits is not needed.
        return [path.rpartition(".")[0]] if self._is_image(path) else [fit.base_name for fit in self._fits(path)]

    def _fits(self, path: str) -> list[Fit]:
        return [fit for fit in self._accepted.fits(path) if not fit.is_cut]

    def _is_image(self, path: str) -> bool:
        return "/" not in path and self._accepted.is_image(path)

    def _first(self, fits: Iterable[Fit], arriving: Collection[str] = ()) -> Fit | None:
        return next((fit for fit in fits if fit.key in self._photos or fit.key in arriving), None)
