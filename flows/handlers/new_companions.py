"""Finds companions that photos got after a move that was interrupted, such as a sidecar with a new rating."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.database.engine import Database
from storage.library.companion_owners import CompanionOwners
from storage.library.errors import UnsafePath
from storage.library.naming.names import name_key
from storage.library.paths import ProjectFolder
from storage.photos.photo_moves import PhotoMovesRepository


@dataclass(frozen=True, slots=True)
class Side:
    """The folder of a photo before or after a move, and the id of the folder's project, if any."""

    folder: ProjectFolder
    project_id: int | None

    def owners(self, database: Database, names: Iterable[str]) -> CompanionOwners:
        """Read the photos with these base names, and all companions that fit them."""
        rows = () if self.project_id is None else PhotoMovesRepository(database).base_names(self.project_id)
        keys = {name_key(name) for name in names}
        return CompanionOwners.read(self.folder, rows=rows, is_wanted=lambda name: name_key(name) in keys)


@dataclass(frozen=True, slots=True)
class MovedImage:
    """An image that moved from one side to another, with its former and its new name."""

    source: Side
    old: str
    target: Side
    new: str


def new_companions(
    database: Database, images: Iterable[MovedImage], *, but_for: Collection[Path]
) -> list[tuple[Path, Path]]:
    """Return the companions of photos at their new places, each with its path at the former place.

    The paths `but_for` are left out, and so are companions that would belong to another photo at the former place.
    """
    names: dict[tuple[Side, Side], dict[str, str]] = defaultdict(dict)
    for image in images:
        names[image.source, image.target][_stem(image.new)] = _stem(image.old)
    found = []
    for (source, target), former in names.items():
        there = target.owners(database, former)
        fits = [(fit, new, old) for new, old in former.items() for fit in there.companions_of(new)]
        paths = [(fit.path, fit.renamed(old, old=new), old) for fit, new, old in fits]
        possible = source.folder.library.accepted_extensions.fits
        here = source.owners(database, (fit.base_name for _, path, _ in paths for fit in possible(path)))
        for path, back, old in paths:
            owner = here.owner(back, arriving=old)
            # A symlink or a file with an unsafe name stays where it is.
            if owner is not None and owner.key == name_key(old):
                with suppress(UnsafePath):
                    found.append((target.folder.companion(path), source.folder.companion(back)))
    return [pair for pair in found if pair[0] not in but_for]


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
