"""The step `image_move_files`: it moves photos with all their files into another project, and overwrites no files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows.errors import PermanentStepError, SkipItem, StepTimeout
from flows.handlers.announced_moves import MoveGroup, settled, sync_folders
from flows.handlers.job_targets import TargetItem
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.moving.free_names import FreeNames
from flows.steps.targets.photo_files import (
    by_project,
    current_folder,
    file_moves,
    find_files,
    has_moved,
    record,
    relative_path,
    remove_stray_derivatives,
)
from flows.steps.targets.target_projects import ProjectUnavailable, check_project
from storage.errors import UnknownProject
from storage.history.journal import FileAction, FileChange
from storage.history.photo_snapshots import snapshot_photos
from storage.library import (
    FolderNames,
    ProjectFolder,
    move_without_overwrite,
    remove_derivative,
)
from storage.library.errors import LibraryError, SourceMissing, UnsafePath
from storage.library.paths import PREVIEW_FOLDER, THUMB_FOLDER
from storage.photos.photo_moves import MovedPhoto, PhotoMovesRepository
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.records import Photo, Project
from task_definitions import MAX_ITEMS_PER_JOB

#: The flag, for the `run_if` of a later step, that derivatives are missing.
NEED_DERIVATIVES: Final = "need_generate_derivatives"

#: The folder of each kind of derivative.
DERIVATIVE_FOLDERS: Final = {"thumbnail": THUMB_FOLDER, "preview": PREVIEW_FOLDER}

#: The number of photos in a batch. Their files move first, then their rows are written. A crash interrupts one batch.
BATCH_SIZE = 50


class DestinationUnusable(PermanentStepError):
    """The destination project does not exist, is archived, belongs to another tenant, or has no folder."""


@dataclass(slots=True)
class _Move:
    """The move of one photo."""

    item: TargetItem
    photo: Photo
    name: str
    group: MoveGroup
    error: Exception | None = None


@step("image_move_files", unit="items")
def image_move_files(ctx: StepContext) -> None:
    """Move photos with all their files into another project."""
    ctx.library.check_available()
    destination = _destination(ctx)
    ctx.set_flag(NEED_DERIVATIVES, False)
    for batch in ctx.item_batches(size=MAX_ITEMS_PER_JOB):
        for project, items in by_project(batch):
            if project.id == destination.id:
                _record_arrived(ctx, items)
                continue
            ctx.report.enter_project(project.project_name)
            _move_items(ctx, project, destination, items)
            ctx.report.enter_project(None)


def _record_arrived(ctx: StepContext, items: Sequence[TargetItem]) -> None:
    # An earlier attempt moved these photos, or they were never elsewhere. Their derivatives may still be missing.
    if any(lacks_derivatives(item.photo.thumbnail_status, item.photo.preview_status) for item in items):
        ctx.set_flag(NEED_DERIVATIVES, True)
    for item in items:
        ctx.report.count("already there", example=item.name)
        record(ctx, item)


def _destination(ctx: StepContext) -> Project:
    if ctx.job.project_id is None:
        raise DestinationUnusable(
            "the destination is missing: give the id of the project that receives the photos as project_id"
        )
    with ctx.read() as connection:
        try:
            project = ProjectsRepository(connection).get(ctx.job.project_id, tenant_id=ctx.tenant_id)
        except UnknownProject as error:
            raise DestinationUnusable(str(error)) from error
        has_photos = any(PhotosRepository(connection).iterate_project(project.id, batch_size=1))
    if project.is_archived:
        raise DestinationUnusable(f"project {project.id} ({project.project_name}) is archived; restore it first")
    try:
        folder = ctx.folder_of(project)
        if folder.exists():
            check_project(ctx, project, folder)
        if folder.exists() or not has_photos:
            folder.create()
            return project
    except (UnsafePath, ProjectUnavailable) as error:
        raise DestinationUnusable(str(error)) from error
    raise DestinationUnusable(
        f"the folder of project {project.id} ({project.project_name}) is missing, although it has photos. Restore "
        f"{folder.path}, or run folder_discovery."
    )


def _move_items(ctx: StepContext, project: Project, destination: Project, items: Sequence[TargetItem]) -> None:
    left = {item.id: item for item in items}
    try:
        with ctx.exclusively([project.id, destination.id]):
            destination = _destination(ctx)
            journey = _Journey(ctx, current_folder(ctx, project), ctx.folder_of(destination), destination, items)
            for start in range(0, len(items), BATCH_SIZE):
                batch = items[start : start + BATCH_SIZE]
                errors = _move_batch(journey, batch)
                for item in batch:
                    record(ctx, left.pop(item.id), errors.get(item.id))
    except (SkipItem, LibraryError, OSError) as error:
        for item in left.values():
            record(ctx, item, error)


def _move_batch(journey: _Journey, items: Sequence[TargetItem]) -> dict[int, Exception]:
    ctx = journey.ctx
    errors: dict[int, Exception] = {}
    moves: list[_Move] = []
    for item in items:
        try:
            moves.append(_plan(journey, item))
        except (PermanentStepError, SkipItem) as error:
            errors[item.id] = error
    ctx.announce([move.group for move in moves])
    tried: list[_Move] = []
    try:
        for move in moves:
            ctx.checkpoint()
            tried.append(move)
            _move_photo(journey, move)
    finally:
        _write_rows(journey, tried, moves)
    return errors | {move.item.id: move.error for move in moves if move.error is not None}


class _Journey:
    """The move of a chunk of photos from one project to another: both folders, the current rows and the files."""

    def __init__(
        self,
        ctx: StepContext,
        source: ProjectFolder,
        target: ProjectFolder,
        destination: Project,
        items: Sequence[TargetItem],
    ) -> None:
        self.ctx = ctx
        self.source = source
        self.target = target
        self.destination = destination
        with ctx.read() as connection:
            rows = PhotosRepository(connection).get_many([item.photo.id for item in items])
        read = {item.photo.id: item.photo for item in items}
        #: The photos that have not moved since the items were read.
        self.photos = {photo.id: photo for photo in rows if not has_moved(read[photo.id], photo)}
        self.files = find_files(ctx, source, list(self.photos.values()))
        self.names = FreeNames(ctx, destination, target, self.photos.values(), self.files)


def _plan(journey: _Journey, item: TargetItem) -> _Move:
    photo = journey.photos.get(item.photo.id)
    if photo is None:
        raise SkipItem("the photo has been moved or removed in the meantime")
    files = journey.files[photo.id]
    files.refuse_untouchable()
    if not files.images:
        raise SkipItem("the photo has no file on disk; manifest_check will mark its files as missing")
    name = journey.names.take(photo.filename, files)
    moves = file_moves(files, journey.source, photo.filename, journey.target, name)
    group = MoveGroup(photo.project_id, journey.destination.id, photo.id, moves)
    return _Move(item=item, photo=photo, name=name, group=group)


def _move_photo(journey: _Journey, move: _Move) -> None:
    try:
        remove_stray_derivatives(journey.target, move.name)
        move.group.carry_out(names=journey.names.on_disk, folder=journey.target.path)
    except StepTimeout:
        raise
    except Exception as error:  # noqa: BLE001 - only this photo fails.
        move.error = error


def bring_derivative(
    path_of: Callable[[ProjectFolder, str], Path],
    source: ProjectFolder,
    old: str,
    target: ProjectFolder,
    new: str,
    *,
    is_resumed: bool,
) -> bool:
    """Move a derivative after its photo, and return whether it exists at the new place. If not, it can be made again.

    Args:
        path_of: a function that returns the derivative's path for a project folder and the name of a photo.
        source: the photo's old project folder.
        old: the photo's old name.
        target: the photo's new project folder.
        new: the photo's new name.
        is_resumed: whether an interrupted attempt may have moved the derivative already.
    """
    with contextlib.suppress(LibraryError, OSError):
        old_path, new_path = path_of(source, old), path_of(target, new)
        if old_path.exists() or not is_resumed:
            # The photo's new name was free, so a derivative with this name belongs to a photo that no longer exists.
            remove_derivative(new_path)
            with contextlib.suppress(SourceMissing):
                move_without_overwrite(old_path, new_path, names=FolderNames())
        return new_path.is_file()
    return False


def _write_rows(journey: _Journey, tried: Sequence[_Move], moves: Sequence[_Move]) -> None:
    ctx, destination = journey.ctx, journey.destination
    done = [move for move in tried if move.error is None and move.group.is_done]
    moved = [moved_photo(move.photo, move.name, move.group) for move in done]
    if any(lacks_derivatives(photo.thumbnail_status, photo.preview_status) for photo in moved):
        # The flag is set before the rows are written. An unneeded flag costs one empty step, but thumbnails would stay
        # missing if a crash lost the flag.
        ctx.set_flag(NEED_DERIVATIVES, True)
    sync_folders(move.group for move in done)
    ids = [move.photo.id for move in done]
    with ctx.transaction(photo_ids=ids) as connection:
        rows = snapshot_photos(connection, ids)
        changes = [
            FileChange(
                action=FileAction.MOVED,
                source=relative_path(journey.source, file.source),
                target=relative_path(journey.target, file.target),
                project_id=move.photo.project_id,
                photo_id=move.photo.id,
                size_bytes=file.size_bytes,
                row=rows.get(move.photo.id),
            )
            for move in done
            for file in move.group.originals
        ]
        ctx.journal(connection, changes)
        PhotoMovesRepository(connection).move_rows(moved, project_id=destination.id)
        settled(connection, [move.group for move in moves])
    for move in done:
        ctx.report.count("moved", example=f"{move.photo.filename} to {destination.project_name}")
        ctx.report.count("files moved", len(move.group.originals))
        if move.name != move.photo.filename:
            ctx.report.count("renamed", example=f"{move.photo.filename} → {move.name}")


def moved_photo(photo: Photo, name: str, group: MoveGroup) -> MovedPhoto:
    """Return the new values of a photo's row after its files and derivatives have moved."""
    came = {file.target.parent.name for file in group.moves if file.is_derivative and file.is_done}
    left_behind = tuple(kind for kind, folder in DERIVATIVE_FOLDERS.items() if folder not in came)
    return MovedPhoto(
        id=photo.id,
        old_name=photo.filename,
        name=name,
        thumbnail_status=_status(photo.thumbnail_status, has_file="thumbnail" not in left_behind),
        preview_status=_status(photo.preview_status, has_file="preview" not in left_behind),
        left_behind=left_behind,
    )


def _status(status: str | None, *, has_file: bool) -> str | None:
    return "missing" if status == "generated" and not has_file else status


def lacks_derivatives(*statuses: str | None) -> bool:
    """Return whether one of these statuses means that a derivative must be made."""
    return any(status in (None, "pending", "missing") for status in statuses)
