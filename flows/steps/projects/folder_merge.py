"""Merges a copy of a project's folder into the original folder. No file is overwritten, renamed or removed.

The files of a photo move together, and each companion stays with its photo. The step
`flows.steps.projects.folder_discovery` merges only if the setting `merge_folders` is true; by default it is false.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, suppress
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from flows.handlers.announced_moves import FileMove, MoveGroup
from flows.handlers.photo_files_change import BATCH_SIZE, PhotoFilesChange
from flows.handlers.step_context import StepContext
from flows.steps.targets.journal_changes import relative_path
from storage.batches import batched
from storage.history.journal import MOVED_TOGETHER, FileAction, FileChange
from storage.library.companion_owners import CompanionOwners
from storage.library.content_hash import hash_contents, matching_hashes
from storage.library.errors import UnsafePath
from storage.library.naming.folder_names import FolderNames
from storage.library.naming.names import name_key
from storage.library.paths import ProjectFolder
from storage.library.scan import ScannedFile, scan, scan_companion_folders
from storage.photos.original_search import originals_of_project
from storage.photos.originals import Original
from storage.photos.photos import PhotosRepository
from storage.records import Project


def is_companion_folder(folder: ProjectFolder, entry: ScannedFile) -> bool:
    """Return whether an entry of a project's folder is a folder where a program stores companions."""
    names = (parts[0] for parts in folder.library.accepted_extensions.companion_folders)
    is_named = any(fnmatchcase(entry.name, name) for name in names)
    return is_named and entry.problem == "not a regular file" and (folder.path / entry.name).is_dir()


class FolderMerge:
    """Moves the files of a folder into a project's folder, if both have photos in common and no file differs.

    A file that the target already has, with the same name and contents, stays where it is and is reported.
    """

    def __init__(self, ctx: StepContext, source: ProjectFolder, target: ProjectFolder, project: Project) -> None:
        self._ctx = ctx
        self._source = source
        self._target = target
        self._project = project
        accepted = target.library.accepted_extensions
        self._names = FolderNames.read(target.path, accepted_extensions=accepted)
        files = [file for file in scan(source) if not file.is_hidden and not is_companion_folder(source, file)]
        files += scan_companion_folders(source, is_wanted=lambda _: True)
        self._files = sorted(files, key=lambda file: file.name)
        rows = list(PhotosRepository(ctx.database).base_names(project.id))
        self._rows = {name_key(name) for name in rows}
        self._own = CompanionOwners(accepted)
        for file in self._files:
            self._own.add(file.name)
        self._owners = CompanionOwners.read(target, rows=rows, is_wanted=self._own.concern)

    def refusal(self) -> str | None:
        """Return why the folder cannot be merged; None if it can be merged.

        The folder cannot be merged if it has no photo of the project, or one of its files has a problem or differs from
        the project's file of the same name. It cannot be merged either if a photo would get the row of another photo
        whose file is missing, or a companion would belong to another photo afterwards.
        """
        photos = [file for file in self._files if file.kind.is_photo and file.problem is None]
        if not any(name_key(file.base_name) in self._rows for file in photos):
            return "it shares no photo with the project"
        for file in self._files:
            if file.problem is not None:
                return f"{file.printable_name}: {file.problem}"
            try:
                if self._same_as(file.name):
                    if not self._is_there(file):
                        return f"{file.name} differs from the project's file of this name"
                elif self._differs_from_missing(file):
                    return f"{file.name} differs from the project's missing file of this name"
            except UnsafePath as error:
                return str(error)
        going = [file.name for file in self._files if not self._same_as(file.name)]
        return self._owners.change_by({name: self._photo_of(name) for name in going})

    def run(self) -> None:
        """Move the files that the target does not have. A repetition after a crash moves the remaining files."""
        going = []
        for file in self._files:
            if self._is_there(file):
                self._ctx.report.count("kept", example=f"{file.name}: the project has the same file")
            else:
                going.append(file)
        groups = self._groups(going)
        for batch in batched(groups, BATCH_SIZE):
            _Merge(self._ctx, batch, self._target, names=self._names).run()
        for folder in {self._source.companion(file.name).parent for file in going if "/" in file.name}:
            while folder != self._source.path:
                with suppress(OSError):
                    folder.rmdir()
                folder = folder.parent

    def _same_as(self, path: str) -> Collection[str]:
        """Return the target's names that are equal to `path`, or differ from it only in spelling."""
        if "/" not in path:
            return self._names.same_as(path)
        return [path] if os.path.lexists(self._target.companion(path)) else []

    def _is_there(self, file: ScannedFile) -> bool:
        """Return whether the target has a file of the same name and contents."""
        library = self._source.library
        for name in self._same_as(file.name):
            other = self._target.path / name
            if other.lstat().st_size != file.size_bytes:
                continue
            own = library.content_path(self._source.companion(file.name))
            if hash_contents(library.content_path(other)) == hash_contents(own):
                return True
        return False

    @cached_property
    def _originals(self) -> dict[str, Original]:
        """The originals with known contents that the project had or has, by `name_key`."""
        with self._ctx.read() as connection, closing(originals_of_project(connection, self._project.id)) as originals:
            return {name_key(one.name): one for one in originals if one.content_hash is not None}

    def _differs_from_missing(self, file: ScannedFile) -> bool:
        if not file.kind.is_photo or name_key(file.base_name) not in self._rows:
            return False
        known = self._originals.get(name_key(file.name))
        path = self._source.library.content_path(self._source.original(file.name))
        return known is not None and not matching_hashes(path, {str(known.content_hash)})

    def _photo_of(self, path: str) -> str | None:
        """Return the base name of the photo to which a file of the source folder belongs; None if there is none."""
        owner = self._own.owner(path)
        return None if owner is None else owner.base_name

    def _groups(self, files: Sequence[ScannedFile]) -> list[MoveGroup]:
        """Return the moves of the files. The files of a photo move together."""
        by_photo: dict[str, list[ScannedFile]] = defaultdict(list)
        for file in files:
            by_photo[name_key(self._photo_of(file.name) or file.name)].append(file)
        groups = []
        # Photos that the project knows move last. After an interruption, the folder is still known as a copy by them.
        for key in sorted(by_photo, key=lambda key: key in self._rows):
            moves = [
                FileMove(self._source.companion(file.name), self._target.companion(file.name), file.size_bytes)
                for file in by_photo[key]
            ]
            groups.append(MoveGroup(moves, None, self._project.id))
        return groups


class _Merge(PhotoFilesChange[MoveGroup]):
    """Moves a batch of files. The first failure ends the merge."""

    action = FileAction.MOVED

    def fail(self, group: MoveGroup, error: Exception) -> None:
        raise error

    def changes(self, group: MoveGroup, row: dict[str, Any] | None) -> Iterator[FileChange]:
        return super().changes(group, {MOVED_TOGETHER: group.group_id})

    def report(self) -> None:
        for move in (move for group in self.done for move in group.moves):
            source, target = (relative_path(self.folder, path) for path in (move.source, move.target))
            self.ctx.report.count("files moved", example=f"{source} → {target}")
