"""The step `image_move_files`: photos move into another project, whole, and nothing there is overwritten.

Before the first file of a photo moves, its item notes the name it is about to get; whoever repeats the step after a
crash finds there where the photo's files have gone.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flows.errors import FlowsError, PermanentStepError, SkipItem, StepTimeout
from flows.job_targets import TargetItem
from flows.step import step
from flows.step_context import StepContext
from flows.steps.photo_files import (
    PhotoFiles,
    by_project,
    current_folder,
    find_files,
    find_files_named,
    has_moved,
    record,
    relative_path,
)
from storage.errors import UnknownProject
from storage.journal import FileAction, FileChange
from storage.library import (
    FolderNames,
    ProjectFolder,
    ScannedFile,
    move_without_overwrite,
    name_key,
    owner_keys,
    remove_derivative,
    unique_name,
)
from storage.library.errors import FolderMissing, LibraryError, SourceMissing, UnsafePath
from storage.photo_moves import MovedPhoto, PhotoMovesRepository, intent_text
from storage.photo_snapshots import snapshot_photos
from storage.photos import PhotosRepository
from storage.projects import ProjectsRepository
from storage.records import Photo, Project
from task_definitions import MAX_ITEMS_PER_JOB

#: The flag that a later step's `run_if` names.
NEED_DERIVATIVES: Final = "need_generate_derivatives"

#: Photos whose files are moved before their rows are written: what a crash leaves to be repaired.
BATCH_SIZE = 50

#: Names longer than this are cut when a number is added, so they are compared with every other long name.
_LONG_NAME_BYTES: Final = 200

_NUMBERED: Final = re.compile(r"_duplicate\d.*", re.DOTALL)


class DestinationUnusable(PermanentStepError):
    """The project that photos are to be moved into does not exist, is archived, is another's, or has no folder."""


class MoveInterrupted(FlowsError):
    """A photo's files could be moved only in part, and not back either; a repetition goes on where this one stopped."""


@dataclass(slots=True)
class _Move:
    """One photo on its way.

    Attributes:
        arrived: files that an attempt which was cut short had moved already, each with its name before.
        is_resumed: whether there was such an attempt.
    """

    item: TargetItem
    photo: Photo
    name: str
    files: PhotoFiles
    arrived: list[tuple[ScannedFile, str]] = field(default_factory=list)
    is_resumed: bool = False
    changes: list[FileChange] = field(default_factory=list)
    derivatives: dict[str, bool] = field(default_factory=dict)
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
            with ctx.exclusively([project.id, destination.id]):
                ctx.report.enter_project(project.project_name)
                _move_items(ctx, project, _destination(ctx), items)
                ctx.report.enter_project(None)


def _record_arrived(ctx: StepContext, items: Sequence[TargetItem]) -> None:
    # Moved by an attempt that died before it could say so, or never elsewhere: derivatives may be missing all the same.
    if any(_lacks_derivatives(item.photo.thumbnail_status, item.photo.preview_status) for item in items):
        ctx.set_flag(NEED_DERIVATIVES, True)
    for item in items:
        ctx.report.count("already there", example=item.name)
        record(ctx, item)


def _destination(ctx: StepContext) -> Project:
    if ctx.job.project_id is None:
        raise DestinationUnusable("no destination: give the project that the photos are to be moved to as project_id")
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
        if folder.exists() or not has_photos:
            folder.create()
            return project
    except UnsafePath as error:
        raise DestinationUnusable(str(error)) from error
    raise DestinationUnusable(
        f"the folder of project {project.id} ({project.project_name}) is missing, though it has photos. Bring "
        f"{folder.path} back, or run folder_discovery."
    )


def _move_items(ctx: StepContext, project: Project, destination: Project, items: Sequence[TargetItem]) -> None:
    left = {item.id: item for item in items}
    try:
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
    with ctx.transaction() as connection:
        PhotoMovesRepository(connection).note_intents(
            {move.item.id: move.name for move in moves}, project_id=journey.destination.id
        )
    try:
        for move in moves:
            ctx.checkpoint()
            _move_photo(journey, move)
    finally:
        _write_rows(ctx, journey.destination, [move for move in moves if move.error is None and move.derivatives])
    return errors | {move.item.id: move.error for move in moves if move.error is not None}


class _Journey:
    """A chunk of photos on their way from one project to another, with what is known of both ends."""

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
            intents = PhotoMovesRepository(connection).intents([photo.id for photo in rows])
        read = {item.photo.id: item.photo for item in items}
        #: The photos that are still where they were when the items were read.
        self.photos = {photo.id: photo for photo in rows if not has_moved(read[photo.id], photo)}
        self.intents = {photo_id: intent for photo_id, intent in intents.items() if intent.project_id == destination.id}
        self.files = find_files(ctx, source, list(self.photos.values()))
        noted = {intent.name for intent in self.intents.values()}
        self.arrived = find_files_named(target, noted) if noted else {}
        self.names = _Names(ctx, destination, target, self.photos.values(), self.files)


def _plan(journey: _Journey, item: TargetItem) -> _Move:
    photo = journey.photos.get(item.photo.id)
    if photo is None:
        raise SkipItem("the photo was moved or removed meanwhile")
    names, own = journey.names, journey.files[photo.id]
    own.refuse_untouchable()
    intent = journey.intents.get(photo.id)
    if intent is not None and not names.is_taken_by_row(intent.name):
        # Nobody else may have this name, so what is there under it came with the move that was cut short.
        there = journey.arrived[intent.name]
        if there.all():
            names.reserve(intent.name)
            # A file that is on both sides is in the middle of its move, which is finished like any other.
            still_here = {path for _, path in own.renamed(intent.name, old=photo.filename)}
            back = there.renamed(photo.filename, old=intent.name)
            gone = [(file, path) for file, path in back if file.name not in still_here]
            return _Move(item=item, photo=photo, name=intent.name, files=own, arrived=gone, is_resumed=True)
    if not own.images:
        raise SkipItem("no file of it is on disk; manifest_check will say so in its row")
    return _Move(item=item, photo=photo, name=names.take(photo.filename, own), files=own)


def _move_photo(journey: _Journey, move: _Move) -> None:
    done: list[tuple[Path, Path]] = []
    photo, source, target = move.photo, journey.source, journey.target
    try:
        for file, path in move.arrived:
            old, new = source.companion(path), target.companion(file.name)
            move.changes.append(_change(source, old, target, new, photo, file.size_bytes))
        for file, path in move.files.renamed(move.name, old=photo.filename):
            old, new = source.companion(file.name), target.companion(path)
            if new.parent != target.path:
                new.parent.mkdir(parents=True, exist_ok=True)
            move_without_overwrite(old, new, names=journey.names.on_disk if new.parent == target.path else None)
            done.append((old, new))
            move.changes.append(_change(source, old, target, new, photo, file.size_bytes))
    except StepTimeout:
        raise
    except Exception as error:  # noqa: BLE001 - it is the failure of this photo alone.
        move.error = error
        _move_back(done, move, journey, error)
        return
    for kind, path_of in (("thumbnail", ProjectFolder.thumbnail), ("preview", ProjectFolder.preview_image)):
        is_there = bring_derivative(path_of, source, photo.filename, target, move.name, is_resumed=move.is_resumed)
        move.derivatives[kind] = is_there


def _move_back(done: list[tuple[Path, Path]], move: _Move, journey: _Journey, error: Exception) -> None:
    is_half = bool(move.arrived)
    for old, new in reversed(done):
        try:
            move_without_overwrite(new, old)
            if new.parent == journey.target.path:
                journey.names.on_disk.discard(new.name)
        except (LibraryError, OSError):
            is_half = True
    if is_half:
        # The reason begins with the intent, so that the next attempt still finds the files.
        intent = intent_text(journey.destination.id, move.name)
        move.error = MoveInterrupted(f"{intent}: stopped half way: {error}")


def bring_derivative(
    path_of: Callable[[ProjectFolder, str], Path],
    source: ProjectFolder,
    old: str,
    target: ProjectFolder,
    new: str,
    *,
    is_resumed: bool,
) -> bool:
    """Move a derivative along; False where there is none afterwards. It can always be made again.

    Args:
        path_of: of a project and a photo's name.
        source: where the photo was.
        old: its name there.
        target: where the photo is now.
        new: its name there.
        is_resumed: whether an attempt that was cut short may have brought it already.
    """
    with contextlib.suppress(LibraryError, OSError):
        old_path, new_path = path_of(source, old), path_of(target, new)
        if old_path.exists() or not is_resumed:
            # The name was free, so what has it was left by a photo that is gone.
            remove_derivative(new_path)
            with contextlib.suppress(SourceMissing):
                move_without_overwrite(old_path, new_path, names=FolderNames())
        return new_path.is_file()
    return False


def _write_rows(ctx: StepContext, destination: Project, moves: list[_Move]) -> None:
    if not moves:
        return
    moved = [_moved_photo(move) for move in moves]
    if any(_lacks_derivatives(photo.thumbnail_status, photo.preview_status) for photo in moved):
        # Before the rows: a flag too many costs one empty step, one that a crash swallowed would lose thumbnails.
        ctx.set_flag(NEED_DERIVATIVES, True)
    ids = [move.photo.id for move in moves]
    with ctx.transaction(photo_ids=ids) as connection:
        rows = snapshot_photos(connection, ids)
        changes = [
            FileChange(
                action=change.action,
                source=change.source,
                target=change.target,
                project_id=change.project_id,
                photo_id=change.photo_id,
                size_bytes=change.size_bytes,
                row=rows.get(move.photo.id),
            )
            for move in moves
            for change in move.changes
        ]
        ctx.journal(connection, changes)
        PhotoMovesRepository(connection).move_rows(moved, project_id=destination.id)
    for move in moves:
        ctx.report.count("moved", example=f"{move.photo.filename} to {destination.project_name}")
        ctx.report.count("files moved", len(move.changes))
        if move.name != move.photo.filename:
            ctx.report.count("renamed", example=f"{move.photo.filename} → {move.name}")


def _moved_photo(move: _Move) -> MovedPhoto:
    left_behind = tuple(kind for kind, came in move.derivatives.items() if not came)
    return MovedPhoto(
        id=move.photo.id,
        old_name=move.photo.filename,
        name=move.name,
        thumbnail_status=_status(move.photo.thumbnail_status, has_file="thumbnail" not in left_behind),
        preview_status=_status(move.photo.preview_status, has_file="preview" not in left_behind),
        left_behind=left_behind,
    )


def _status(status: str | None, *, has_file: bool) -> str | None:
    return "missing" if status == "generated" and not has_file else status


def _lacks_derivatives(*statuses: str | None) -> bool:
    return any(status in (None, "pending", "missing") for status in statuses)


def _change(
    source: ProjectFolder, old: Path, target: ProjectFolder, new: Path, photo: Photo, size_bytes: int
) -> FileChange:
    return FileChange(
        action=FileAction.MOVED,
        source=relative_path(source, old),
        target=relative_path(target, new),
        project_id=photo.project_id,
        photo_id=photo.id,
        size_bytes=size_bytes,
    )


class _Names:
    """The names in the destination that could be in the way of a chunk: of files, and of rows without files."""

    def __init__(
        self,
        ctx: StepContext,
        destination: Project,
        folder: ProjectFolder,
        photos: Collection[Photo],
        files: Mapping[int, PhotoFiles],
    ) -> None:
        if not folder.exists():
            raise FolderMissing(f"Project folder {folder.path} does not exist.")
        self._folder = folder
        self._accepted = folder.library.accepted_extensions
        fits = (
            fit for photo in photos for _, own in files[photo.id].companions for fit in self._accepted.fits(own.path)
        )
        wanted = {photo.filename for photo in photos} | {fit.base_name for fit in fits}
        self._roots = {_root(name_key(name)) for name in wanted}
        self.on_disk = FolderNames.read(folder.path, accepted_extensions=self._accepted, is_wanted=self._is_similar)
        with ctx.read() as connection:
            names = PhotoMovesRepository(connection).base_names(destination.id)
            self._rows = {name_key(name) for name in names if self._is_similar(name)}
        self._given: set[str] = set()

    def take(self, old: str, files: PhotoFiles) -> str:
        """A free name for a photo that is called `old` and has these files; from now on it is taken."""
        name, taken = old, self._rows | self._given
        refused: set[str] = set()
        while name_key(name) in taken or self.on_disk.has_base_name(name) or self._is_in_the_way(name, old, files):
            refused.add(name)
            name = unique_name(self.on_disk, old, also_taken=taken | refused)
        self.reserve(name)
        return name

    def reserve(self, name: str) -> None:
        """Note that a photo of this chunk gets that name."""
        self._given.add(name_key(name))

    def is_taken_by_row(self, name: str) -> bool:
        """Whether a photo of the destination, or another of this chunk, has the name."""
        return name_key(name) in self._rows | self._given

    def _is_in_the_way(self, name: str, old: str, files: PhotoFiles) -> bool:
        """Whether a companion's new name is taken, or would make it the companion of another photo there."""
        for file, path in files.renamed(name, old=old):
            if "/" in path:
                if os.path.lexists(self._folder.companion(path)):
                    return True
            elif self.on_disk.same_as(path):
                return True
            for fit in () if file.kind.is_photo else self._accepted.fits(path):
                if fit.key in owner_keys(name):
                    break
                if self.is_taken_by_row(fit.base_name) or self.on_disk.has_base_name(fit.base_name):
                    return True
        return False

    def _is_similar(self, name: str) -> bool:
        key = name_key(name)
        return _root(key) in self._roots or len(key.encode()) > _LONG_NAME_BYTES


def _root(key: str) -> str:
    return _NUMBERED.sub("", key)
