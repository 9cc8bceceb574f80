"""The step `file_removal`: files that are not to be kept move to `.trash`. Nothing is unlinked but derivatives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.errors import SkipItem, StepTimeout
from flows.job_targets import TargetItem
from flows.step import step
from flows.step_context import StepContext
from flows.steps.photo_files import (
    PhotoFiles,
    by_project,
    current_folder,
    find_files,
    has_moved,
    raise_failures,
    record,
    relative_path,
)
from storage.derivatives import DerivativesRepository
from storage.journal import FileAction, FileChange, journaled_targets
from storage.library import FileKind, ProjectFolder, list_trash, move_to_trash, parse_trash_name, remove_derivative
from storage.library.errors import LibraryError, UnsafePath
from storage.photo_snapshots import snapshot_photos
from storage.photos import PhotosRepository
from storage.records import Photo, Project
from task_definitions import MAX_ITEMS_PER_JOB

#: Photos whose files are moved before their rows are written: what a crash leaves to be repaired.
BATCH_SIZE = 100


@dataclass(slots=True)
class _Removal:
    """What was done on disk for one photo, and what its row is to become."""

    photo: Photo
    changes: list[FileChange] = field(default_factory=list)
    row_goes: bool = False
    derivatives_gone: bool = False
    values: dict[str, Any] = field(default_factory=dict)


@step("file_removal", unit="items")
def file_removal(ctx: StepContext) -> None:
    """Move the files whose keep flag is 0 to .trash."""
    ctx.library.check_available()
    if not ctx.names_photos:
        _remove_pending_deletions(ctx)
        return
    for batch in ctx.item_batches(size=MAX_ITEMS_PER_JOB):
        for project, items in by_project(batch):
            with ctx.exclusively([project.id]):
                ctx.report.enter_project(project.project_name)
                _remove_items(ctx, project, items)
                ctx.report.enter_project(None)


def _remove_items(ctx: StepContext, project: Project, items: Sequence[TargetItem]) -> None:
    left = {item.photo.id: item for item in items}
    try:
        folder = current_folder(ctx, project)
        for photo, error in _remove_photos(ctx, folder, [item.photo for item in items]):
            record(ctx, left.pop(photo.id), error)
    except (SkipItem, LibraryError, OSError) as error:
        for item in left.values():
            record(ctx, item, error)


def _remove_pending_deletions(ctx: StepContext) -> None:
    projects = ctx.projects()
    for number, project in enumerate(projects):
        with ctx.project(project) as folder:
            errors: list[Exception] = []
            tried = 0
            for batch in _pending_deletions(ctx, project.id):
                tried += len(batch)
                for photo, error in _remove_photos(ctx, folder, batch):
                    if error is not None and not isinstance(error, SkipItem):
                        ctx.report.fail(photo.filename, str(error))
                        errors.append(error)
            raise_failures(errors, tried=tried)
        ctx.progress(number + 1, len(projects))


def _remove_photos(
    ctx: StepContext, folder: ProjectFolder, photos: Sequence[Photo]
) -> Iterator[tuple[Photo, Exception | None]]:
    """Move what is not to be kept of these photos; gives each with its failure, after its row has been written.

    Raises:
        FolderMissing, FolderUnreadable: nothing may be concluded about any of their files.
    """
    with ctx.read() as connection:
        fresh = {photo.id: photo for photo in PhotosRepository(connection).get_many([photo.id for photo in photos])}
    present = [fresh[photo.id] for photo in photos if not has_moved(photo, fresh.get(photo.id))]
    files = find_files(ctx, folder, present)
    trashed = _TrashedBefore(ctx, folder, present, files)
    for start in range(0, len(present), BATCH_SIZE):
        batch = present[start : start + BATCH_SIZE]
        errors = _remove_batch(ctx, folder, batch, files, trashed)
        for photo in batch:
            yield photo, errors.get(photo.id)
    for photo in photos:
        if has_moved(photo, fresh.get(photo.id)):
            yield photo, SkipItem("the photo was moved or removed meanwhile")


def _remove_batch(
    ctx: StepContext,
    folder: ProjectFolder,
    photos: Sequence[Photo],
    files: dict[int, PhotoFiles],
    trashed: _TrashedBefore,
) -> dict[int, Exception]:
    errors: dict[int, Exception] = {}
    removals: list[_Removal] = []
    try:
        for photo in photos:
            ctx.checkpoint()
            # In the list before anything is moved: whatever ends the loop, what was moved is journaled.
            removal = _Removal(photo)
            removals.append(removal)
            try:
                _remove(ctx, folder, files[photo.id], trashed, removal)
            except StepTimeout:
                raise
            except Exception as error:  # noqa: BLE001 - it is the failure of this photo alone.
                errors[photo.id] = error
                removal.values, removal.row_goes = {}, False
    finally:
        _write_rows(ctx, folder, [removal for removal in removals if removal.changes or removal.values])
    return errors


def _remove(
    ctx: StepContext, folder: ProjectFolder, files: PhotoFiles, trashed: _TrashedBefore, removal: _Removal
) -> None:
    photo = removal.photo
    doomed = _doomed_kinds(photo)
    if not doomed:
        ctx.report.count("unchanged", example=photo.filename)
        return
    files.refuse_untouchable()
    something_stays = (
        any(file.kind not in doomed for file in files.images)
        or (FileKind.JPG not in doomed and bool(photo.jpg_available and photo.keep_jpg))
        or (FileKind.RAW not in doomed and bool(photo.raw_available and photo.keep_raw))
        or bool(photo.other_available)
    )
    going = [file for file in files.images if file.kind in doomed] + (
        [] if something_stays else [file for file, _ in files.companions]
    )
    removal.changes += trashed.of(photo, doomed, with_companions=not something_stays)
    for file in going:
        source = folder.companion(file.name)
        target = move_to_trash(folder, source, at=ctx.now())
        removal.changes.append(
            FileChange(
                action=FileAction.TRASHED,
                source=relative_path(folder, source),
                target=relative_path(folder, target),
                project_id=photo.project_id,
                photo_id=photo.id,
                size_bytes=file.size_bytes,
            )
        )
    if FileKind.JPG in doomed or not something_stays:
        _remove_derivatives(ctx, folder, photo)
        removal.derivatives_gone = True
    removal.row_goes = not something_stays
    removal.values = {
        "id": photo.id,
        "jpg_available": 0 if FileKind.JPG in doomed else photo.jpg_available,
        "raw_available": 0 if FileKind.RAW in doomed else photo.raw_available,
        "thumbnail_status": "missing" if removal.derivatives_gone else photo.thumbnail_status,
        "preview_status": "missing" if removal.derivatives_gone else photo.preview_status,
    }


def _doomed_kinds(photo: Photo) -> set[FileKind]:
    # A file that the row does not know of has come since somebody decided what to keep.
    doomed: set[FileKind] = set()
    if photo.jpg_available and not photo.keep_jpg:
        doomed.add(FileKind.JPG)
    if photo.raw_available and not photo.keep_raw:
        doomed.add(FileKind.RAW)
    return doomed


def _remove_derivatives(ctx: StepContext, folder: ProjectFolder, photo: Photo) -> None:
    # A name too long for a derivative has none, and what lies behind a symlink is not ours.
    for path_of in (folder.thumbnail, folder.preview_image):
        with contextlib.suppress(UnsafePath):
            if remove_derivative(path_of(photo.filename)):
                ctx.report.count("derivatives removed")


def _write_rows(ctx: StepContext, folder: ProjectFolder, removals: list[_Removal]) -> None:
    if not removals:
        return
    ids = [removal.photo.id for removal in removals]
    gone = [removal.photo.id for removal in removals if removal.row_goes]
    changed = [removal.values for removal in removals if removal.values and not removal.row_goes]
    with ctx.transaction(photo_ids=ids) as connection:
        rows = snapshot_photos(connection, ids)
        changes: list[FileChange] = []
        for removal in removals:
            row = rows.get(removal.photo.id)
            changes += [_with_row(change, row) for change in removal.changes]
            if removal.row_goes:
                changes.append(
                    FileChange(
                        action=FileAction.REMOVED_ROW,
                        source=f"{relative_path(folder, folder.path)}/{removal.photo.filename}",
                        project_id=removal.photo.project_id,
                        photo_id=removal.photo.id,
                        row=row,
                    )
                )
        ctx.journal(connection, changes)
        photos = PhotosRepository(connection)
        photos.update_many(changed)
        DerivativesRepository(connection).forget([item.photo.id for item in removals if item.derivatives_gone])
        photos.remove_many(gone)
    for removal in removals:
        for change in removal.changes:
            ctx.report.count("trashed", example=change.source)
        if removal.row_goes:
            ctx.report.count("rows removed", example=removal.photo.filename)
        elif removal.values and not removal.changes:
            ctx.report.count("already gone", example=removal.photo.filename)


def _with_row(change: FileChange, row: dict[str, Any] | None) -> FileChange:
    return FileChange(
        action=change.action,
        source=change.source,
        target=change.target,
        project_id=change.project_id,
        photo_id=change.photo_id,
        size_bytes=change.size_bytes,
        row=row,
    )


class _TrashedBefore:
    """What an earlier run had moved to the trash when it died before it could say so in the journal."""

    def __init__(
        self, ctx: StepContext, folder: ProjectFolder, photos: Sequence[Photo], files: dict[int, PhotoFiles]
    ) -> None:
        self._folder = folder
        self._changes: dict[str, list[tuple[FileKind, FileChange]]] = {}
        by_name = {
            photo.filename: photo
            for photo in photos
            if ctx.job.attempts > 0 or any(not files[photo.id].has(kind) for kind in _doomed_kinds(photo))
        }
        if by_name:
            self._look(ctx, by_name)

    def of(self, photo: Photo, kinds: set[FileKind], *, with_companions: bool) -> list[FileChange]:
        """The changes that are still to be journaled for a photo."""
        changes = self._changes.get(photo.filename, [])
        return [change for kind, change in changes if kind in kinds or (with_companions and not kind.is_photo)]

    def _look(self, ctx: StepContext, by_name: dict[str, Photo]) -> None:
        found: list[tuple[str, FileKind, FileChange]] = []
        for entry in list_trash(self._folder):
            accepted, parsed = self._folder.library.accepted_extensions, parse_trash_name(entry.name)
            described = accepted.describe(entry.original_name)
            fits = accepted.fits(entry.original_name)
            photo = next((by_name[fit.base_name] for fit in fits if fit.base_name in by_name), None)
            if photo is None or parsed is None:
                continue
            path = entry.path if parsed.original_name else entry.path / entry.original_name
            change = FileChange(
                action=FileAction.TRASHED,
                source=relative_path(self._folder, self._folder.path / entry.original_name),
                target=relative_path(self._folder, path),
                project_id=photo.project_id,
                photo_id=photo.id,
                size_bytes=path.lstat().st_size,
            )
            found.append((photo.filename, described.kind, change))
        targets = [change.target for _, _, change in found if change.target is not None]
        with ctx.read() as connection:
            known = journaled_targets(connection, targets, project_id=next(iter(by_name.values())).project_id)
        for name, kind, change in found:
            if change.target not in known:
                self._changes.setdefault(name, []).append((kind, change))


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
