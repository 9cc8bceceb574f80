"""The step `duplicate_resolution`: it reports photos that have the base name of an older photo in another project.

With the setting `rename_user_files = "rename"`, the step renames such photos in the job's projects, each with all its
files, companions and derivatives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Final

from flows.errors import ItemsFailed
from flows.handlers.announced_moves import MoveGroup, MoveInterrupted, settled, sync_folders
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.moving.copies import Copies
from flows.steps.moving.free_names import FreeNames
from flows.steps.moving.image_move import DERIVATIVE_FOLDERS
from flows.steps.targets.photo_files import PhotoFiles, file_moves, find_files, relative_path, remove_stray_derivatives
from flows.steps.targets.target_projects import check_library, each_project, skip_missing_folder
from storage.database.temporary_tables import temporary_tables
from storage.history.journal import FileAction, FileChange
from storage.history.photo_snapshots import snapshot_photos
from storage.library import ProjectFolder, name_key
from storage.library.errors import LibraryError
from storage.library.naming.names import unsafe_reason
from storage.photos.duplicate_names import DuplicateNames, photos_named
from storage.photos.photo_moves import MovedPhoto, PhotoMovesRepository
from storage.photos.photos import PhotosRepository
from storage.records import Photo, Project
from task_definitions.wording import quantity

#: The number of photos in a batch. Their files are renamed first, then their rows. A crash interrupts only one batch.
BATCH_SIZE: Final = 100
#: Largest number of photos whose files are searched for in one scan of their folder.
_SCAN_BATCH_SIZE: Final = 5_000
#: The number of photos that are read from the database at a time for the report.
_REPORT_BATCH_SIZE: Final = 2_000


@dataclass(slots=True)
class _Renaming:
    """The change of one base name of a project.

    Attributes:
        photos: the rows with the old name: one, unless another program inserted it twice.
        name: the new name.
        group: the moves of its files and derivatives.
    """

    photos: list[Photo]
    name: str
    group: MoveGroup

    @property
    def old_name(self) -> str:
        return self.photos[0].filename


@step("duplicate_resolution", unit="projects")
def duplicate_resolution(ctx: StepContext) -> None:
    """Report or rename photos that have the base name of an older photo in another project."""
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
        each_project(ctx, partial(_resolve, ctx, names), projects=concerned)


def _report(ctx: StepContext, names: DuplicateNames, projects: Sequence[Project]) -> None:
    for number, project in enumerate(projects):
        ctx.report.enter_project(project.project_name)
        for ids in names.photo_ids(project.id, batch_size=_REPORT_BATCH_SIZE):
            ctx.checkpoint()
            with ctx.read() as connection:
                photos = PhotosRepository(connection).get_many(ids)
            for photo in photos:
                ctx.report.count("names used by other projects", example=photo.filename)
        ctx.report.enter_project(None)
        ctx.progress(number + 1, len(projects))


def _resolve(ctx: StepContext, names: DuplicateNames, project: Project, folder: ProjectFolder) -> None:
    if skip_missing_folder(ctx, project, folder):
        return
    errors: list[Exception] = []
    for ids in names.photo_ids(project.id, batch_size=_SCAN_BATCH_SIZE):
        errors += _rename_all(ctx, names, project, folder, ids)
    if errors:
        raise ItemsFailed(f"{quantity(len(errors), 'photo')} could not be renamed; the first: {errors[0]}")


def _rename_all(
    ctx: StepContext, names: DuplicateNames, project: Project, folder: ProjectFolder, photo_ids: Sequence[int]
) -> list[Exception]:
    with ctx.read() as connection:
        found = PhotosRepository(connection).get_many(photo_ids)
        # Rows of the same name in the same project share their files, so they get the same new name.
        sharing = photos_named(connection, project.id, sorted({photo.filename for photo in found}))
    by_name = [list(group) for _, group in groupby(sorted(sharing, key=_name_and_id), key=lambda photo: photo.filename)]
    files = find_files(ctx, folder, sharing)
    free = FreeNames(ctx, project, folder, sharing, files, is_taken=names.is_taken)
    copies = Copies(ctx, names, project, folder)
    errors: list[Exception] = []
    planned: list[_Renaming] = []
    for photos in by_name:
        try:
            # If several rows share the files, the scan gives all files to one of them.
            own = max((files[photo.id] for photo in photos), key=lambda one: len(one.all()) + len(one.untouchable))
            renaming = _plan(ctx, copies, free, folder, photos, own)
        except (LibraryError, OSError) as error:
            errors.append(error)
            ctx.report.fail(photos[0].filename, str(error))
        else:
            if renaming is not None:
                planned.append(renaming)
                for photo in photos:
                    names.rename(photo.id, renaming.name)
    for start in range(0, len(planned), BATCH_SIZE):
        errors += _rename_batch(ctx, project, folder, free, planned[start : start + BATCH_SIZE])
    return errors


def _rename_batch(
    ctx: StepContext, project: Project, folder: ProjectFolder, free: FreeNames, planned: Sequence[_Renaming]
) -> list[Exception]:
    errors: list[Exception] = []
    ctx.announce([renaming.group for renaming in planned])
    done: list[_Renaming] = []
    try:
        for renaming in planned:
            ctx.checkpoint()
            try:
                _carry_out(renaming, free, folder)
                done.append(renaming)
            except (LibraryError, OSError, MoveInterrupted) as error:
                errors.append(error)
                ctx.report.fail(renaming.old_name, str(error))
    finally:
        _write_rows(ctx, project, folder, done, planned)
    return errors


def _name_and_id(photo: Photo) -> tuple[str, int]:
    return (photo.filename, photo.id)


def _plan(
    ctx: StepContext, copies: Copies, free: FreeNames, folder: ProjectFolder, photos: list[Photo], files: PhotoFiles
) -> _Renaming | None:
    """Return the renaming of the photos of one name. If they must keep the name, report the reason and return None."""
    old_name = photos[0].filename
    reason = unsafe_reason(old_name)
    if reason is not None:
        ctx.report.count("skipped", example=f"photo {photos[0].id}: its name cannot be a file name: {reason}")
        return None
    if files.untouchable:
        name = files.untouchable[0].printable_name
        ctx.report.count("skipped", example=f"{name}: the file cannot be renamed, so its photo is not renamed")
        return None
    if not files.images:
        ctx.report.count("skipped", example=f"{old_name}: the photo has no file")
        return None
    original = copies.original_of(photos[0], files)
    if original is not None:
        ctx.report.count("copies", example=f"{old_name}: has the same contents as {original}")
        return None
    name = free.take(old_name, files)
    targets = [name_key(path) for _, path in files.renamed(name, old=old_name)]
    if len(set(targets)) < len(targets):
        ctx.report.count("skipped", example=f"{old_name}: two of its files would get the same name")
        return None
    project_id = photos[0].project_id
    group = MoveGroup(project_id, project_id, photos[0].id, file_moves(files, folder, old_name, folder, name))
    return _Renaming(photos=photos, name=name, group=group)


def _carry_out(renaming: _Renaming, free: FreeNames, folder: ProjectFolder) -> None:
    remove_stray_derivatives(folder, renaming.name)
    renaming.group.carry_out(names=free.on_disk, folder=folder.path)


def _write_rows(
    ctx: StepContext,
    project: Project,
    folder: ProjectFolder,
    done: Sequence[_Renaming],
    planned: Sequence[_Renaming],
) -> None:
    sync_folders(renaming.group for renaming in done)
    ids = [photo.id for renaming in done for photo in renaming.photos]
    with ctx.transaction(enqueues=True, photo_ids=ids) as connection:
        rows = snapshot_photos(connection, ids)
        changes = [
            FileChange(
                action=FileAction.RENAMED,
                source=relative_path(folder, move.source),
                target=relative_path(folder, move.target),
                project_id=project.id,
                photo_id=renaming.photos[0].id,
                size_bytes=move.size_bytes,
                row=rows.get(renaming.photos[0].id),
            )
            for renaming in done
            for move in renaming.group.originals
        ]
        ctx.journal(connection, changes)
        PhotoMovesRepository(connection).move_rows(list(_moved_rows(done)), project_id=project.id)
        ctx.enqueue("upload_postprocess", photo_ids=ids, priority=90, connection=connection)
        settled(connection, [renaming.group for renaming in planned])
    for renaming in done:
        ctx.report.count("renamed", example=f"{renaming.old_name} → {renaming.name}")


def _moved_rows(done: Iterable[_Renaming]) -> Iterable[MovedPhoto]:
    for renaming in done:
        came = {move.target.parent.name for move in renaming.group.moves if move.is_derivative and move.is_done}
        left = {move.target.parent.name for move in renaming.group.moves if move.is_derivative} - came
        left_behind = tuple(kind for kind, place in DERIVATIVE_FOLDERS.items() if place in left)
        for photo in renaming.photos:
            yield MovedPhoto(
                id=photo.id,
                old_name=renaming.old_name,
                name=renaming.name,
                thumbnail_status="missing" if "thumbnail" in left_behind else photo.thumbnail_status,
                preview_status="missing" if "preview" in left_behind else photo.preview_status,
                left_behind=left_behind,
            )
