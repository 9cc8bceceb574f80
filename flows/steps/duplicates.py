"""The step `duplicate_resolution`: a base name is the oldest photo's; later ones in other projects are reported.

With the setting `rename_user_files = "rename"` they are renamed, if they are in the projects of the job, each with all
its files, companions and derivatives.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from flows.errors import ItemsFailed
from flows.step import step
from flows.step_context import StepContext
from flows.steps.photo_files import relative_path
from flows.steps.target_projects import check_library, compared, each_project, skip_missing_folder
from storage.duplicate_names import DuplicateNames, photos_named
from storage.journal import FileAction, FileChange, journaled_targets
from storage.library import (
    FileKind,
    FolderNames,
    ProjectFolder,
    move_without_overwrite,
    name_key,
    remove_derivative,
    unique_name,
)
from storage.library.errors import LibraryError, SourceMissing, UnsafePath
from storage.library.names import unsafe_reason
from storage.photo_moves import MovedPhoto, PhotoMovesRepository
from storage.photo_snapshots import snapshot_photos
from storage.photos import PhotosRepository
from storage.records import Photo, Project
from storage.scanned_names import ScannedName, ScannedNames
from storage.temporary_tables import temporary_tables

#: Photos whose files are renamed before their rows are written: what a crash leaves to be repaired.
BATCH_SIZE: Final = 100
#: Photos whose names are read at a time to be reported.
_REPORT_BATCH_SIZE: Final = 2_000


@dataclass(slots=True)
class _Renaming:
    """One base name of a project that becomes another.

    Attributes:
        photos: the rows that have it: one, unless another program wrote it twice.
        files: what is still to be renamed.
        renamed_before: what a run that was cut short had renamed already.
        changes: the renames that were made, as the journal has them.
        left_behind: kinds of derivatives that could not come along.
    """

    photos: list[Photo]
    name: str
    files: list[ScannedName]
    renamed_before: list[ScannedName]
    changes: list[FileChange] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)

    @property
    def old_name(self) -> str:
        return self.photos[0].filename


@step("duplicate_resolution", unit="projects")
def duplicate_resolution(ctx: StepContext) -> None:
    """Report, or rename, later photos that have the base name of an earlier one in another project."""
    projects = ctx.projects()
    if not projects:
        return
    check_library(ctx)
    with ctx.read() as connection, temporary_tables(connection):
        names = DuplicateNames(connection)
        counts = names.find(ctx.tenant_id)
        concerned = [project for project in projects if project.id in counts]
        if ctx.settings.rename_user_files == "report":
            _report(ctx, names, concerned)
            return
        files = ScannedNames(connection, extensions=ctx.library.accepted_extensions)
        work = partial(_resolve, ctx, names, files)
        each_project(ctx, work, projects=concerned)


def _report(ctx: StepContext, names: DuplicateNames, projects: Sequence[Project]) -> None:
    for number, project in enumerate(projects):
        ctx.report.enter_project(project.project_name)
        for ids in names.photo_ids(project.id, batch_size=_REPORT_BATCH_SIZE):
            ctx.checkpoint()
            with ctx.read() as connection:
                photos = PhotosRepository(connection).get_many(ids)
            for photo in photos:
                ctx.report.count("names in use elsewhere", example=photo.filename)
        ctx.report.enter_project(None)
        ctx.progress(number + 1, len(projects))


def _resolve(
    ctx: StepContext, names: DuplicateNames, scanned: ScannedNames, project: Project, folder: ProjectFolder
) -> None:
    if skip_missing_folder(ctx, project, folder):
        return
    with compared(ctx, project, folder) as comparison:
        scanned.replace(comparison)
    errors: list[Exception] = []
    for ids in names.photo_ids(project.id, batch_size=BATCH_SIZE):
        errors += _rename_batch(ctx, names, scanned, project, folder, ids)
    if errors:
        raise ItemsFailed(f"{len(errors)} photos could not be renamed; first: {errors[0]}")


def _rename_batch(
    ctx: StepContext,
    names: DuplicateNames,
    scanned: ScannedNames,
    project: Project,
    folder: ProjectFolder,
    photo_ids: Sequence[int],
) -> list[Exception]:
    with ctx.read() as connection:
        found = PhotosRepository(connection).get_many(photo_ids)
        # Those of the same name in the same project share their files, so they share the new name.
        sharing = photos_named(connection, project.id, sorted({photo.filename for photo in found}))
    by_name = [list(group) for _, group in groupby(sorted(sharing, key=_name_and_id), key=lambda photo: photo.filename)]
    errors: list[Exception] = []
    done: list[_Renaming] = []
    try:
        for photos in by_name:
            ctx.checkpoint()
            try:
                renaming = _plan(ctx, names, scanned, photos)
                if renaming is not None:
                    _rename_files(folder, renaming)
                    done.append(renaming)
                    for photo in photos:
                        names.rename(photo.id, renaming.name)
            except (LibraryError, OSError) as error:
                errors.append(error)
                ctx.report.fail(photos[0].filename, str(error))
    finally:
        if done:
            _write_rows(ctx, project, folder, done)
    return errors


def _name_and_id(photo: Photo) -> tuple[str, int]:
    return (photo.filename, photo.id)


def _plan(ctx: StepContext, names: DuplicateNames, scanned: ScannedNames, photos: list[Photo]) -> _Renaming | None:
    """What is to be renamed and how, or None, reported, where the photo must be left as it is."""
    old_name = photos[0].filename
    reason = unsafe_reason(old_name)
    if reason is not None:
        ctx.report.count("skipped", example=f"photo {photos[0].id}: its name cannot be a file's: {reason}")
        return None
    ids = {photo.id for photo in photos}
    files = [
        file
        for file in scanned.named_like(old_name)
        if (file.base_name == old_name or file.photo_id in ids)
        and (file.kind.is_photo or file.kind is FileKind.SIDECAR)
    ]
    untouchable = next((file for file in files if not file.is_workable), None)
    if untouchable is not None:
        ctx.report.count("skipped", example=f"{untouchable.name}: cannot be renamed, so its photo is not")
        return None
    missing = _missing_kinds(photos, files)
    name, renamed_before = _free_name(names, scanned, old_name, missing)
    if not any(file.kind.is_photo for file in (*files, *renamed_before)):
        ctx.report.count("skipped", example=f"{old_name}: has no file")
        return None
    targets = [name_key(_renamed(file, name)) for file in files]
    if len(set(targets)) < len(targets):
        ctx.report.count("skipped", example=f"{old_name}: two of its files would get the same name")
        return None
    return _Renaming(photos=photos, name=name, files=files, renamed_before=renamed_before)


def _missing_kinds(photos: Sequence[Photo], files: Sequence[ScannedName]) -> set[str]:
    """The kinds of files that the rows say are there, and are not."""
    photo = photos[0]
    said = {"jpg": photo.jpg_available, "raw": photo.raw_available, "other": photo.other_available}
    return {kind for kind, flag in said.items() if flag} - {str(file.kind) for file in files}


def _free_name(
    names: DuplicateNames, scanned: ScannedNames, old_name: str, missing: set[str]
) -> tuple[str, list[ScannedName]]:
    """The first name that is free, or that a run which was cut short has given to files of the photo, with these."""
    taken: list[str] = []
    while True:
        name = unique_name(FolderNames(), old_name, also_taken=taken)
        taken.append(name)
        if names.is_taken(name):
            continue
        there = scanned.named_like(name)
        if not there:
            return name, []
        if missing & {str(file.kind) for file in there} and all(
            file.is_workable and file.base_name == name for file in there
        ):
            return name, there


def _rename_files(folder: ProjectFolder, renaming: _Renaming) -> None:
    taken = FolderNames(file.name for file in renaming.renamed_before)
    moved: list[tuple[Path, Path]] = []
    for file in renaming.renamed_before:
        source = _renamed_back(file, renaming)
        renaming.changes.append(_change(folder, renaming, source, file.name))
    try:
        for file in renaming.files:
            target = _renamed(file, renaming.name)
            move_without_overwrite(folder.original(file.name), folder.original(target), names=taken)
            moved.append((folder.original(file.name), folder.original(target)))
            renaming.changes.append(_change(folder, renaming, file.name, target))
    except Exception:
        # A photo's files stay together: where one cannot be renamed, none is.
        for source_path, target_path in reversed(moved):
            move_without_overwrite(target_path, source_path, names=FolderNames())
        raise
    for kind, path_of in (("thumbnail", folder.thumbnail), ("preview", folder.preview_image)):
        try:
            is_resumed = bool(renaming.renamed_before)
            _rename_derivative(path_of(renaming.old_name), path_of(renaming.name), is_resumed=is_resumed)
        except UnsafePath:
            # The name is too long for a derivative, or something else stands in the way: it is made again.
            renaming.left_behind.append(kind)


def _rename_derivative(source: Path, target: Path, *, is_resumed: bool) -> None:
    if is_resumed and not os.path.lexists(source):
        return
    # No photo has the new name yet, so what lies there is a leftover.
    remove_derivative(target)
    with suppress(SourceMissing):
        move_without_overwrite(source, target, names=FolderNames())


def _write_rows(ctx: StepContext, project: Project, folder: ProjectFolder, done: Sequence[_Renaming]) -> None:
    ids = [photo.id for renaming in done for photo in renaming.photos]
    with ctx.transaction(enqueues=True, photo_ids=ids) as connection:
        rows = snapshot_photos(connection, ids)
        changes = [change for renaming in done for change in renaming.changes]
        known = journaled_targets(
            connection,
            [relative_path(folder, folder.path / file.name) for item in done for file in item.renamed_before],
            project_id=project.id,
        )
        ctx.journal(connection, [_with_row(change, rows) for change in changes if change.target not in known])
        PhotoMovesRepository(connection).move_rows(list(_moved_rows(done)), project_id=project.id)
        ctx.enqueue("upload_postprocess", photo_ids=ids, priority=90, connection=connection)
    for renaming in done:
        ctx.report.count("renamed", example=f"{renaming.old_name} → {renaming.name}")


def _moved_rows(done: Iterable[_Renaming]) -> Iterable[MovedPhoto]:
    for renaming in done:
        for photo in renaming.photos:
            yield MovedPhoto(
                id=photo.id,
                old_name=renaming.old_name,
                name=renaming.name,
                thumbnail_status="missing" if "thumbnail" in renaming.left_behind else photo.thumbnail_status,
                preview_status="missing" if "preview" in renaming.left_behind else photo.preview_status,
                left_behind=tuple(renaming.left_behind),
            )


def _change(folder: ProjectFolder, renaming: _Renaming, source_name: str, target_name: str) -> FileChange:
    target = folder.path / target_name
    return FileChange(
        action=FileAction.RENAMED,
        source=relative_path(folder, folder.path / source_name),
        target=relative_path(folder, target),
        project_id=renaming.photos[0].project_id,
        photo_id=renaming.photos[0].id,
        size_bytes=target.lstat().st_size,
    )


def _with_row(change: FileChange, rows: dict[int, dict[str, Any]]) -> FileChange:
    return replace(change, row=None if change.photo_id is None else rows.get(change.photo_id))


def _renamed(file: ScannedName, name: str) -> str:
    return name + file.name[len(file.base_name) :]


def _renamed_back(file: ScannedName, renaming: _Renaming) -> str:
    return renaming.old_name + file.name[len(renaming.name) :]
