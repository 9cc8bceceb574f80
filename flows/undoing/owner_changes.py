"""Refuses moves of an undo that would give a companion to another photo, because photos or files have arrived since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from flows.handlers.announced_moves import FileMove
from flows.handlers.step_context import StepContext
from flows.undoing.places import Places
from flows.undoing.reversal import CannotComeBack
from storage.library.companion_owners import CompanionOwners
from storage.library.naming.names import name_key
from storage.library.paths import TRASH_FOLDER
from storage.photos.photos import PhotosRepository


class OwnerChanges:
    """Checks to which photo each companion would belong after moves. A folder is read again only for new names.

    A file whose move was not refused counts as being at its new place already.
    """

    def __init__(self, ctx: StepContext, places: Places) -> None:
        self._ctx = ctx
        self._places = places
        self._keys: set[str] = set()
        self._read: dict[tuple[str, str], CompanionOwners] = {}

    def prepare(self, names: Iterable[str]) -> None:
        """Let the later checks include all photos to which files with these names may belong."""
        fits = self._ctx.library.accepted_extensions.fits
        keys = {fit.key for name in names for fit in fits(name)}
        if not keys <= self._keys:
            self._keys |= keys
            self._read.clear()

    def refuse(self, moves: Iterable[FileMove], name: str | None) -> None:
        """Raise `CannotComeBack` if the moves would give a companion to another photo.

        Args:
            moves: the moves of one photo's files, or of a single file.
            name: the base name of the photo after the moves; None for a single file.
        """
        leaving: dict[tuple[str, str], list[str]] = defaultdict(list)
        arriving: dict[tuple[str, str], dict[str, str | None]] = defaultdict(dict)
        for move in moves:
            if not move.is_derivative:
                folder, path = self._split(move.source)
                leaving[folder].append(path)
                folder, path = self._split(move.target)
                if not path.startswith(f"{TRASH_FOLDER}/"):
                    arriving[folder][path] = name
        self.prepare(path for paths in arriving.values() for path in paths)
        for folder, paths in arriving.items():
            change = self._owners(folder).change_by(paths, leaving=leaving[folder])
            if change is not None:
                raise CannotComeBack(f"{change}; rename one of them, and undo the task again")
        for folder, paths in arriving.items():
            for path in paths:
                self._owners(folder).add(path)

    def _split(self, path: Path) -> tuple[tuple[str, str], str]:
        tenant_id, folder, *rest = path.relative_to(self._ctx.library.root).parts
        return (tenant_id, folder), "/".join(rest)

    def _owners(self, place: tuple[str, str]) -> CompanionOwners:
        folder = self._ctx.library.project(*place)
        if place not in self._read and not folder.exists():
            self._read[place] = CompanionOwners(self._ctx.library.accepted_extensions)
        if place not in self._read:
            project = self._places.owner(folder.project_folder)
            rows = () if project is None else PhotosRepository(self._ctx.database).base_names(project.id)
            self._read[place] = CompanionOwners.read(
                folder, rows=rows, is_wanted=lambda name: name_key(name) in self._keys
            )
        return self._read[place]
