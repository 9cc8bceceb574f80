"""Finds free base names for photos that move into a project or get another name there.

The steps `image_move_files` and `duplicate_resolution` decide which photos get such a name.
"""

import os
import re
from collections.abc import Callable, Collection, Mapping
from itertools import chain, count
from typing import Final

from flows.handlers.step_context import StepContext
from flows.steps.targets.photo_files import PhotoFiles
from storage.library.companion_owners import CompanionOwners
from storage.library.listing import missing_folder
from storage.library.naming.folder_names import FolderNames
from storage.library.naming.names import DUPLICATE, cut_to_bytes, name_key
from storage.library.paths import ProjectFolder, max_name_bytes
from storage.photos.photos import PhotosRepository
from storage.records import Photo, Project

#: The length in bytes above which a name may be cut before `_duplicate<n>` is added. The beginnings of cut names do not
#: show whether the names are variants of one name. So a long name is compared with all long names.
_LONG_NAME_BYTES: Final = 200

#: The number of bytes of a file name that are kept free for the extension of the file or of its derivatives.
_EXTENSION_BYTES: Final = 10

_NUMBERED: Final = re.compile(rf"{DUPLICATE}\d.*", re.DOTALL)


class FreeNames:
    """Finds free names in a project for photos that move there or are renamed.

    A name is taken in these cases: an image in the folder or a row of the project has the name; `is_taken` returns true
    for it; with this name, the photo would get a companion that is already in the folder; or another photo would get
    one of the photo's companions.

    Raises:
        FolderMissing: the project has no folder.
    """

    def __init__(
        self,
        ctx: StepContext,
        project: Project,
        folder: ProjectFolder,
        photos: Collection[Photo],
        files: Mapping[int, PhotoFiles],
        *,
        is_taken: Callable[[str], bool] = lambda _: False,
    ) -> None:
        if not folder.exists():
            raise missing_folder(folder.path)
        self._folder = folder
        accepted = folder.library.accepted_extensions
        fits = (fit for photo in photos for _, own in files[photo.id].companions for fit in accepted.fits(own.path))
        wanted = {photo.filename for photo in photos} | {fit.base_name for fit in fits}
        self._roots = {_root(name_key(name)) for name in wanted}
        self.on_disk = FolderNames(accepted_extensions=accepted)
        rows = PhotosRepository(ctx.database).base_names(project.id)
        self._owners = CompanionOwners.read(folder, rows=rows, is_wanted=self._is_similar, names=self.on_disk)
        self._is_taken = is_taken

    def take(self, old: str, files: PhotoFiles) -> str:
        """Return a free name for a photo named `old` with these files, and mark the name as taken.

        The free name is `old`, or else `<old>_duplicate<n>` with the lowest free number.
        """
        # A new name has room for the longest ending of a companion, such as `.supplemental-metadata.json`.
        endings = [path.rpartition("/")[2] for _, path in files.renamed("", old=old)]
        longest = max([_EXTENSION_BYTES, *(len(ending.encode()) for ending in endings)])
        max_bytes = max_name_bytes(self._folder.path) - longest
        candidates = chain([old], (_numbered(old, number, max_bytes) for number in count(1)))
        name = next(one for one in candidates if not (self._is_known(one) or self._is_in_the_way(one, old, files)))
        self._owners.add_photo(name)
        for _, path in files.renamed(name, old=old):
            self._owners.add(path)
        return name

    def _is_known(self, name: str) -> bool:
        is_there = self.on_disk.has_base_name(name) or self._owners.has_photo(name)
        return is_there or bool(self._owners.companions_of(name)) or self._is_taken(name)

    def _is_in_the_way(self, name: str, old: str, files: PhotoFiles) -> bool:
        """Return whether the new name of a file is taken, or would make the file a companion of another photo."""
        for _, path in files.renamed(name, old=old):
            if "/" in path:
                if os.path.lexists(self._folder.companion(path)):
                    return True
            elif self.on_disk.same_as(path):
                return True
            owner = self._owners.owner(path, arriving=name)
            if owner is not None and owner.key != name_key(name):
                return True
        return False

    def _is_similar(self, name: str) -> bool:
        key = name_key(name)
        return _root(key) in self._roots or len(key.encode()) > _LONG_NAME_BYTES


def _numbered(name: str, number: int, max_bytes: int) -> str:
    ending = f"{DUPLICATE}{number}"
    return cut_to_bytes(name, max(1, max_bytes - len(ending))) + ending


def _root(key: str) -> str:
    return _NUMBERED.sub("", key)
