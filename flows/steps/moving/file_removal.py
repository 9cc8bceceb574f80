"""The step `file_removal`: it moves files that are not to be kept to `.trash`. It unlinks only derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from flows.errors import PermanentStepError, SkipItem
from flows.handlers.announced_moves import FileMove, MoveGroup
from flows.handlers.job_targets import TargetItem
from flows.handlers.photo_files_change import PhotoFilesChange
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.targets.photo_files import (
    PhotoFiles,
    by_project,
    current_folder,
    find_files,
    has_moved,
    raise_failures,
    record,
    relative_path,
    remove_derivatives,
)
from flows.steps.targets.target_projects import each_project
from storage.history.journal import FileAction, FileChange
from storage.library.errors import LibraryError
from storage.library.naming.kinds import FileKind
from storage.library.paths import ProjectFolder
from storage.library.trash import trash_place
from storage.photos.derivatives import DerivativesRepository
from storage.photos.originals import OriginalsRepository
from storage.photos.photos import PhotosRepository
from storage.records import Photo, Project
from task_definitions import MAX_ITEMS_PER_JOB

#: The number of photos in a batch. Their files move first, then their rows are written. A crash interrupts one batch.
BATCH_SIZE = 100


@dataclass(slots=True, kw_only=True)
class _Removal(MoveGroup):
    """The removal of one photo's files, and the new values of its row."""

    photo: Photo
    doomed: set[FileKind]
    row_goes: bool
    derivatives_gone: bool
    values: dict[str, Any]


@step("file_removal", unit="items")
def file_removal(ctx: StepContext) -> None:
    """Move the files whose keep flag is 0 to .trash."""
    ctx.library.check_available()
    if not ctx.names_photos:
        _remove_pending_deletions(ctx)
        return
    for batch in ctx.item_batches(size=MAX_ITEMS_PER_JOB):
        for project, items in by_project(batch):
            ctx.report.enter_project(project.project_name)
            _remove_items(ctx, project, items)
            ctx.report.enter_project(None)


def _remove_items(ctx: StepContext, project: Project, items: Sequence[TargetItem]) -> None:
    left = {item.photo.id: item for item in items}
    try:
        with ctx.exclusively([project.id]):
            folder = current_folder(ctx, project)
            for photo, error in _remove_photos(ctx, folder, [item.photo for item in items]):
                record(ctx, left.pop(photo.id), error)
    except (SkipItem, LibraryError, OSError) as error:
        for item in left.values():
            record(ctx, item, error)


def _remove_pending_deletions(ctx: StepContext) -> None:
    def remove(project: Project, folder: ProjectFolder) -> None:
        errors: list[Exception] = []
        tried = 0
        for batch in _pending_deletions(ctx, project.id):
            tried += len(batch)
            for photo, error in _remove_photos(ctx, folder, batch):
                if error is not None and not isinstance(error, SkipItem):
                    ctx.report.fail(photo.filename, str(error))
                    errors.append(error)
        raise_failures(errors, tried=tried)

    each_project(ctx, remove)


def _remove_photos(
    ctx: StepContext, folder: ProjectFolder, photos: Sequence[Photo]
) -> Iterator[tuple[Photo, Exception | None]]:
    """Move the files that the rows of their photos do not keep to the trash; then yield each photo with its error.

    Raises:
        FolderMissing, FolderUnreadable: the folder cannot be read, so a file that was not found may still exist.
    """
    with ctx.read() as connection:
        fresh = {photo.id: photo for photo in PhotosRepository(connection).get_many([photo.id for photo in photos])}
    present = [fresh[photo.id] for photo in photos if not has_moved(photo, fresh.get(photo.id))]
    files = find_files(ctx, folder, present)
    for start in range(0, len(present), BATCH_SIZE):
        batch = present[start : start + BATCH_SIZE]
        errors = _remove_batch(ctx, folder, batch, files)
        for photo in batch:
            yield photo, errors.get(photo.id)
    for photo in photos:
        if has_moved(photo, fresh.get(photo.id)):
            yield photo, SkipItem("the photo has been moved or removed in the meantime")


def _remove_batch(
    ctx: StepContext, folder: ProjectFolder, photos: Sequence[Photo], files: dict[int, PhotoFiles]
) -> dict[int, Exception]:
    errors: dict[int, Exception] = {}
    removals: list[_Removal] = []
    for photo in photos:
        try:
            removal = _plan(ctx, folder, photo, files[photo.id])
        except (LibraryError, OSError, PermanentStepError) as error:
            errors[photo.id] = error
        else:
            if removal is not None:
                removals.append(removal)
    _Removals(ctx, removals, folder).run()
    return errors | {removal.photo.id: removal.error for removal in removals if removal.error is not None}


def _plan(ctx: StepContext, folder: ProjectFolder, photo: Photo, files: PhotoFiles) -> _Removal | None:
    doomed = _doomed_kinds(photo)
    if not doomed:
        ctx.report.count("unchanged", example=photo.filename)
        return None
    files.refuse_untouchable()
    files.refuse_several_pictures(doomed)
    something_stays = (
        any(file.kind not in doomed for file in files.images)
        or (FileKind.JPG not in doomed and bool(photo.jpg_available and photo.keep_jpg))
        or (FileKind.RAW not in doomed and bool(photo.raw_available and photo.keep_raw))
        or bool(photo.other_available)
    )
    going = files.all() if not something_stays else [file for file in files.images if file.kind in doomed]
    moves = []
    for file in going:
        source = folder.companion(file.name)
        moves.append(FileMove(source, trash_place(folder, source, at=ctx.now()), file.size_bytes))
    derivatives_gone = FileKind.JPG in doomed or not something_stays
    return _Removal(
        moves,
        photo.project_id,
        photo.project_id,
        photo.id,
        photo=photo,
        doomed=doomed,
        row_goes=not something_stays,
        derivatives_gone=derivatives_gone,
        values={
            "id": photo.id,
            "jpg_available": 0 if FileKind.JPG in doomed else photo.jpg_available,
            "raw_available": 0 if FileKind.RAW in doomed else photo.raw_available,
            "thumbnail_status": "missing" if derivatives_gone else photo.thumbnail_status,
            "preview_status": "missing" if derivatives_gone else photo.preview_status,
        },
    )


def _doomed_kinds(photo: Photo) -> set[FileKind]:
    # A file that the row does not list has arrived after the user chose which files to keep, so it stays.
    doomed: set[FileKind] = set()
    if photo.jpg_available and not photo.keep_jpg:
        doomed.add(FileKind.JPG)
    if photo.raw_available and not photo.keep_raw:
        doomed.add(FileKind.RAW)
    return doomed


class _Removals(PhotoFilesChange[_Removal]):
    """Moves files of a batch of photos to the trash."""

    action = FileAction.TRASHED

    def move(self, group: _Removal) -> None:
        super().move(group)
        if group.derivatives_gone:
            remove_derivatives(self.ctx, self.folder, group.photo.filename)

    def changes(self, group: _Removal, row: dict[str, Any] | None) -> Iterator[FileChange]:
        yield from super().changes(group, row)
        if group.row_goes:
            yield FileChange(
                action=FileAction.REMOVED_ROW,
                source=f"{relative_path(self.folder, self.folder.path)}/{group.photo.filename}",
                project_id=group.project_id,
                photo_id=group.photo_id,
                row=row,
            )

    def write(self, connection: Connection) -> None:
        photos = PhotosRepository(connection)
        staying = [removal for removal in self.done if not removal.row_goes]
        photos.update_many([removal.values for removal in staying])
        OriginalsRepository(connection).forget_kinds({removal.photo.id: removal.doomed for removal in staying})
        DerivativesRepository(connection).forget([one.photo.id for one in self.done if one.derivatives_gone])
        photos.remove_many([removal.photo.id for removal in self.done if removal.row_goes])

    def report(self) -> None:
        report = self.ctx.report
        for removal in self.done:
            for move in removal.moves:
                report.count("trashed", example=relative_path(self.folder, move.source))
            if removal.row_goes:
                report.count("rows removed", example=removal.photo.filename)
            elif not removal.moves:
                report.count("already missing", example=removal.photo.filename)


def _pending_deletions(ctx: StepContext, project_id: int) -> Iterator[list[Photo]]:
    last_id = 0
    while True:
        with ctx.read() as connection:
            photos = PhotosRepository(connection)
            batch = photos.list_pending_deletions(project_id, after_id=last_id, limit=MAX_ITEMS_PER_JOB)
        if not batch:
            return
        last_id = batch[-1].id
        yield batch
