"""The step `file_removal`: it moves unwanted files to `.trash`. Only derivatives are removed without the trash.

A file is unwanted if the keep flag of its kind, such as `keep_raw`, is 0 in the row of its photo. The step
`trash_maintenance` removes files from the trash. `storage.lifecycle.step_jobs` decides which photos become items of the
step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from flows.errors import PermanentStepError, SkipItem
from flows.handlers.announced_moves import FileMove, MoveGroup
from flows.handlers.photo_files_change import BATCH_SIZE, PhotoFilesChange
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.targets.journal_changes import relative_path, removed_photo
from flows.steps.targets.photo_files import PhotoFiles, find_files, remove_derivatives
from flows.steps.targets.target_photos import Worked, each_photo, has_moved
from flows.steps.targets.target_projects import check_project
from storage.batches import batched
from storage.database.tables import photos as photos_table
from storage.history.foreign_rows import removal_refusals
from storage.history.journal import FileAction, FileChange
from storage.library.errors import LibraryError
from storage.library.naming.kinds import FileKind
from storage.library.paths import ProjectFolder
from storage.library.trash import trash_place
from storage.photos.derivatives import DerivativesRepository
from storage.photos.originals import OriginalsRepository
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.records import Photo
from task_definitions import MAX_ITEMS_PER_JOB

_MOVED: Final = "the photo has been moved or removed in the meantime"


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
    pending_deletions = PhotosRepository(ctx.database).iterate_pending_deletions
    each_photo(ctx, partial(_remove_photos, ctx), partial(pending_deletions, batch_size=MAX_ITEMS_PER_JOB))


def _remove_photos(ctx: StepContext, folder: ProjectFolder, photos: Sequence[Photo]) -> Worked:
    """Move each file whose keep flag is 0 to the trash. Yield each photo with its error or None.

    Raises:
        FolderMissing, FolderUnreadable: the folder cannot be read, so a file that was not found may still exist.
    """
    fresh = {photo.id: photo for photo in PhotosRepository(ctx.database).get_many([photo.id for photo in photos])}
    present = [fresh[photo.id] for photo in photos if not has_moved(photo, fresh.get(photo.id))]
    files = find_files(ctx, folder, present)
    disk_error = _disk_error(ctx, folder, present, files)
    for batch in batched(present, BATCH_SIZE):
        errors = _remove_batch(ctx, folder, batch, files, disk_error)
        for photo in batch:
            yield photo, errors.get(photo.id)
    for photo in photos:
        if has_moved(photo, fresh.get(photo.id)):
            yield photo, SkipItem(_MOVED)


def _disk_error(
    ctx: StepContext, folder: ProjectFolder, photos: Sequence[Photo], files: dict[int, PhotoFiles]
) -> Exception | None:
    """Return the reason why missing files do not count as deleted; None if they count as deleted.

    This is checked once, before any file moves, because the step itself may move the last photo out of the folder.
    """
    if not any(_doomed_kinds(photo) and not files[photo.id].images for photo in photos):
        return None
    try:
        check_project(ctx, ProjectsRepository(ctx.database).get(photos[0].project_id), folder)
    except (LibraryError, OSError, PermanentStepError) as error:
        return error
    return None


def _remove_batch(
    ctx: StepContext,
    folder: ProjectFolder,
    photos: Sequence[Photo],
    files: dict[int, PhotoFiles],
    disk_error: Exception | None,
) -> dict[int, Exception]:
    errors: dict[int, Exception] = {}
    removals: list[_Removal] = []
    with ctx.read() as connection:
        named = PhotosRepository(connection).get_named(
            photos[0].project_id, sorted({photo.filename for photo in photos})
        )
        refusals = removal_refusals(connection, photos_table, [photo.id for photo in named if not _keeps_file(photo)])
        originals = OriginalsRepository(connection).get_many([photo.id for photo in named])
    current = {photo.id: photo for photo in named}
    for known in photos:
        # A user may change keep flags while earlier batches run. If the photo had a file to remove at the start, its
        # fresh row counts. If not, `disk_error` was not checked for it, so a new request to remove waits for the next
        # run.
        photo = current.get(known.id) if _doomed_kinds(known) else known
        if photo is None:
            errors[known.id] = SkipItem(_MOVED)
            continue
        others = [one for one in named if one.filename == photo.filename and one.id != photo.id]
        try:
            # A kept file that is missing may come back. `manifest_cleaning` removes the row if it does not.
            is_awaited = any(
                one.size_bytes is not None and getattr(photo, f"keep_{one.kind}", True)
                for one in originals.get(photo.id, {}).values()
            )
            removal = _plan(ctx, folder, photo, files[photo.id], others, disk_error, refusals.get(photo.id), is_awaited)
        except (LibraryError, OSError, PermanentStepError) as error:
            errors[photo.id] = error
        else:
            if removal is not None:
                removals.append(removal)
    _Removals(ctx, removals, folder).run()
    return errors | {removal.photo.id: removal.error for removal in removals if removal.error is not None}


def _plan(
    ctx: StepContext,
    folder: ProjectFolder,
    photo: Photo,
    files: PhotoFiles,
    others: Sequence[Photo],
    disk_error: Exception | None,
    refusal: str | None,
    is_awaited: bool,
) -> _Removal | None:
    """Plan the removal of a photo's files. `others` are the photos with the same name, which have the same files."""
    doomed = _doomed_kinds(photo)
    if not doomed:
        ctx.report.count("unchanged", example=photo.filename)
        return None
    removable = doomed - {kind for other in others for kind in _kept_kinds(other)}
    files.refuse_untouchable()
    files.refuse_several_pictures(removable)
    if disk_error is not None and not files.images:
        raise disk_error
    row_stays = any(file.kind not in doomed for file in files.images) or _keeps_file(photo) or is_awaited
    if refusal is not None and not row_stays:
        raise PermanentStepError(refusal)
    keepers = [other.id for other in others if _keeps_file(other)]
    if row_stays and removable != doomed:
        keeper = next(other.id for other in others if doomed & _kept_kinds(other))
        raise PermanentStepError(
            f"{photo.filename}: photo {keeper} has the same files and keeps a file that photo {photo.id} does not "
            "keep; give both rows the same keep flags, or remove one of the rows"
        )
    something_stays = row_stays or bool(keepers)
    going = files.all() if not something_stays else [file for file in files.images if file.kind in removable]
    sources = [(folder.companion(file.name), file.size_bytes) for file in going]
    moves = [FileMove(path, trash_place(folder, path, at=ctx.now()), size_bytes) for path, size_bytes in sources]
    derivatives_gone = FileKind.JPG in removable or not something_stays
    return _Removal(
        moves,
        photo.project_id,
        photo.project_id,
        photo.id,
        photo=photo,
        doomed=doomed,
        row_goes=not row_stays,
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
    return _listed_kinds(photo) - _kept_kinds(photo)


def _kept_kinds(photo: Photo) -> set[FileKind]:
    return {kind for kind in _listed_kinds(photo) if getattr(photo, f"keep_{kind}") != 0}


def _listed_kinds(photo: Photo) -> set[FileKind]:
    return {kind for kind in (FileKind.JPG, FileKind.RAW) if getattr(photo, f"{kind}_available")}


def _keeps_file(photo: Photo) -> bool:
    return bool(_kept_kinds(photo) or photo.other_available)


class _Removals(PhotoFilesChange[_Removal]):
    action = FileAction.TRASHED

    def move(self, group: _Removal) -> None:
        super().move(group)
        if group.derivatives_gone:
            remove_derivatives(self.ctx, self.folder, group.photo.filename)

    def changes(self, group: _Removal, row: dict[str, Any] | None) -> Iterator[FileChange]:
        yield from super().changes(group, row)
        if group.row_goes:
            yield removed_photo(self.folder, group.project_id, group.photo_id, group.photo.filename, row)

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
                report.count("files to remove already missing", len(removal.doomed), example=removal.photo.filename)
