"""Merging a folder into the folder of a project with the same name and photos; nothing is overwritten or removed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from flows.step_context import StepContext
from flows.steps.photo_files import relative_path
from storage.journal import FileAction, FileChange, announced, withdraw_entry
from storage.library import (
    FolderNames,
    ProjectFolder,
    ScannedFile,
    move_without_overwrite,
    name_key,
    scan,
    unique_name,
)
from storage.photo_moves import PhotoMovesRepository
from storage.records import Project


def shares_photos(folder: ProjectFolder, other: ProjectFolder) -> bool:
    """Whether a base name of a photo in one folder is in the other as well."""
    names = {name_key(file.base_name) for file in scan(folder) if file.kind.is_photo and file.problem is None}
    return any(name_key(file.base_name) in names for file in scan(other) if file.kind.is_photo and file.problem is None)


@dataclass(slots=True)
class _Group:
    """The files of one base name, and which of them are in the target already."""

    base_name: str
    files: list[ScannedFile] = field(default_factory=list)
    taken: dict[str, Path] = field(default_factory=dict)


class FolderMerge:
    """Moves the files of a folder into a project's, base name by base name.

    Files whose name and contents are in the target already stay where they are, and are reported. A photo of which a
    file has the same name and other contents gets a new name there, with all its files.
    """

    def __init__(self, ctx: StepContext, source: ProjectFolder, target: ProjectFolder, project: Project) -> None:
        self._ctx = ctx
        self._source = source
        self._target = target
        self._project = project
        accepted = target.library.accepted_extensions
        self._names = FolderNames.read(target.path, accepted_extensions=accepted)
        with ctx.read() as connection:
            self._rows = set(PhotoMovesRepository(connection).base_names(project.id))

    def run(self) -> None:
        """Move what can be moved. Repeated after a crash, it goes on where it stopped."""
        groups = self._groups()
        # Shared names last: as long as one is left, the folder is known again as the project's.
        for group in sorted(groups, key=lambda group: (bool(group.taken), group.base_name)):
            self._ctx.checkpoint()
            self._merge(group)

    def _groups(self) -> list[_Group]:
        groups: dict[str, _Group] = {}
        for file in sorted(scan(self._source), key=lambda file: file.name):
            if file.is_hidden:
                continue
            if file.problem is not None:
                self._ctx.report.count("left alone", example=f"{file.printable_name}: {file.problem}")
                continue
            group = groups.setdefault(name_key(file.base_name), _Group(file.base_name))
            group.files.append(file)
            for name in self._names.same_as(file.name):
                group.taken[file.name] = self._target.path / name
        return list(groups.values())

    def _merge(self, group: _Group) -> None:
        same = [file for file in group.files if file.name in group.taken and self._is_same(file, group)]
        different = len(same) < len(group.taken)
        name = group.base_name
        if different:
            name = unique_name(self._names, group.base_name, also_taken=self._rows)
        for file in same:
            self._ctx.report.count("kept", example=f"{file.name}: the project has the same file")
        for file in group.files:
            if file not in same:
                self._move(file, name + file.name[len(file.base_name) :] if different else file.name)

    def _is_same(self, file: ScannedFile, group: _Group) -> bool:
        other = group.taken[file.name]
        if other.lstat().st_size != file.size_bytes:
            return False
        library = self._source.library
        own = library.content_path(self._source.original(file.name))
        return _digest(library.content_path(other)) == _digest(own)

    def _move(self, file: ScannedFile, name: str) -> None:
        source, target = self._source.original(file.name), self._target.original(name)
        change = FileChange(
            action=FileAction.MOVED,
            source=relative_path(self._source, source),
            target=relative_path(self._target, target),
            project_id=self._project.id,
            size_bytes=file.size_bytes,
        )
        # Before the move: these files have no rows by which a repetition could tell that they came from elsewhere.
        with self._ctx.transaction() as connection:
            if announced(connection, change, job_id=self._ctx.job.id) is None:
                self._ctx.journal(connection, [change])
        try:
            move_without_overwrite(source, target, names=self._names)
        except Exception:
            with self._ctx.transaction() as connection:
                entry_id = announced(connection, change, job_id=self._ctx.job.id)
                if entry_id is not None:
                    withdraw_entry(connection, entry_id)
            raise
        self._ctx.report.count("files moved", example=f"{change.source} → {change.target}")


def _digest(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "blake2b").digest()
