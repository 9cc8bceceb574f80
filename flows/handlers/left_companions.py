"""Finds companions that did not move with their photos, such as a sidecar that was written during the move.

`flows.steps.moving.late_companions` and `flows.handlers.announced_moves` move them.
"""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.database.engine import Database
from storage.library.companion_owners import CompanionOwners
from storage.library.errors import UnsafePath
from storage.library.naming.names import name_key
from storage.library.paths import ProjectFolder
from storage.photos.photos import PhotosRepository


@dataclass(frozen=True, slots=True)
class Side:
    """The folder of a photo before or after a move, and the id of its project; None for a folder without a project."""

    folder: ProjectFolder
    project_id: int | None

    def owners(self, database: Database, names: Iterable[str]) -> CompanionOwners:
        """Read the photos with these base names, and all companions that fit them."""
        rows = () if self.project_id is None else PhotosRepository(database).base_names(self.project_id)
        keys = {name_key(name) for name in names}
        return CompanionOwners.read(self.folder, rows=rows, is_wanted=lambda name: name_key(name) in keys)


@dataclass(frozen=True, slots=True)
class Relocation:
    """The move of a photo from one side, where its base name is `old`, to another, where it is `new`."""

    source: Side
    old: str
    target: Side
    new: str


def left_companions(
    database: Database, relocations: Iterable[Relocation], *, photos_have_left: bool
) -> list[tuple[Relocation, Path, Path]]:
    """Return the companions that are at the old places of photos, each with its path at the new place.

    Companions that would belong to another photo at the new place are left out. With `photos_have_left`, a companion is
    also left out if another photo has the old name now.
    """
    by_sides: dict[tuple[Side, Side], dict[str, Relocation]] = defaultdict(dict)
    for one in relocations:
        by_sides[one.source, one.target][one.old] = one
    found = []
    for (source, target), photos in by_sides.items():
        here = source.owners(database, photos)
        paths = [
            (one, fit.path, fit.renamed(one.new, old=old))
            for old, one in photos.items()
            if not (photos_have_left and here.has_photo(old))
            for fit in here.companions_of(old)
        ]
        if not paths:
            continue
        fits = target.folder.library.accepted_extensions.fits
        there = target.owners(database, (fit.base_name for _, _, path in paths for fit in fits(path)))
        for one, path, new_path in paths:
            owner = there.owner(new_path, arriving=one.new)
            if owner is not None and owner.key == name_key(one.new):
                # A companion behind a symlink is left out, so it stays where it is.
                with suppress(UnsafePath):
                    found.append((one, source.folder.companion(path), target.folder.companion(new_path)))
    return found
