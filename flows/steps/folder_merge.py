"""Merging a folder into the folder of a project that it is a copy of; nothing is overwritten, renamed or removed."""

from __future__ import annotations

import hashlib
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
)
from storage.photo_moves import PhotoMovesRepository
from storage.records import Project


class FolderMerge:
    """Moves the files of a folder into a project's, if both have photos in common and no file differs.

    Files whose name and contents are in the target already stay where they are, and are reported.
    """

    def __init__(self, ctx: StepContext, source: ProjectFolder, target: ProjectFolder, project: Project) -> None:
        self._ctx = ctx
        self._source = source
        self._target = target
        self._project = project
        accepted = target.library.accepted_extensions
        self._names = FolderNames.read(target.path, accepted_extensions=accepted)
        self._files = sorted((file for file in scan(source) if not file.is_hidden), key=lambda file: file.name)
        with ctx.read() as connection:
            self._rows = {name_key(name) for name in PhotoMovesRepository(connection).base_names(project.id)}

    def refusal(self) -> str | None:
        """Why the folder is a project of its own: they share no photo, or a file of one name differs; else None."""
        photos = [file for file in self._files if file.kind.is_photo and file.problem is None]
        if not any(name_key(file.base_name) in self._rows for file in photos):
            return "it shares no photo with the project"
        for file in self._files:
            if file.problem is not None:
                return f"{file.printable_name}: {file.problem}"
            if self._names.same_as(file.name) and not self._is_there(file):
                return f"{file.name} is another file there"
        return None

    def run(self) -> None:
        """Move what is not there yet. Repeated after a crash, it goes on where it stopped."""
        for file in self._files:
            self._ctx.checkpoint()
            if self._is_there(file):
                self._ctx.report.count("kept", example=f"{file.name}: the project has the same file")
            else:
                self._move(file)

    def _is_there(self, file: ScannedFile) -> bool:
        """Whether the target has the file under the same name."""
        library = self._source.library
        for name in self._names.same_as(file.name):
            other = self._target.path / name
            if other.lstat().st_size != file.size_bytes:
                continue
            own = library.content_path(self._source.original(file.name))
            if _digest(library.content_path(other)) == _digest(own):
                return True
        return False

    def _move(self, file: ScannedFile) -> None:
        source, target = self._source.original(file.name), self._target.original(file.name)
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
