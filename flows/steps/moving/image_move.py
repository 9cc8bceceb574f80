"""The step `image_move_files`: it moves photos with all their files into another project, and overwrites no files.

`flows.steps.moving.free_names` decides the new name of a photo whose name is taken there. A definition makes missing
derivatives in a later step, by the flag `NEED_DERIVATIVES` and `run_if`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Connection

from flows.errors import PermanentStepError, SkipItem
from flows.handlers.announced_moves import MoveGroup
from flows.handlers.left_companions import Relocation, Side
from flows.handlers.photo_files_change import BATCH_SIZE, PhotoFilesChange
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.moving.free_names import FreeNames
from flows.steps.moving.late_companions import bring_late_companions
from flows.steps.targets.photo_files import file_moves, find_files, remove_stray_derivatives
from flows.steps.targets.target_photos import Worked, current_folder, each_item, has_moved
from flows.steps.targets.target_projects import ProjectUnavailable, check_project
from flows.steps.targets.whereabouts import create_folder
from storage.batches import batched
from storage.errors import UnknownProject
from storage.history.journal import FileAction
from storage.library.errors import UnsafePath
from storage.library.paths import PREVIEW_FOLDER, THUMB_FOLDER, ProjectFolder
from storage.photos.photo_moves import MovedPhoto, move_rows
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.records import Photo, Project

#: The flag that is set if derivatives are missing. The `run_if` of a later step reads this flag.
NEED_DERIVATIVES: Final = "need_generate_derivatives"

#: The folder of each kind of derivative.
DERIVATIVE_FOLDERS: Final = {"thumbnail": THUMB_FOLDER, "preview": PREVIEW_FOLDER}


class DestinationUnusable(PermanentStepError):
    """The destination project is not named, does not exist, is archived, or has another tenant or no usable folder."""


@dataclass(slots=True, kw_only=True)
class _Move(MoveGroup):
    """The move of one photo, which gets the base name `name`."""

    photo: Photo
    name: str


@step("image_move_files", unit="items")
def image_move_files(ctx: StepContext) -> None:
    """Move photos with all their files into another project."""
    ctx.library.check_available()
    destination = _destination(ctx)
    ctx.set_flag(NEED_DERIVATIVES, False)
    each_item(ctx, partial(_move_photos, ctx, destination))


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
    if project.is_archived:
        raise DestinationUnusable(
            f"project {project.id} ({project.project_name}) is archived; choose another project. If its folder was "
            "missing and has returned, `photojobs run folder_discovery` makes the project active again"
        )
    try:
        folder = ctx.folder_of(project)
        if folder.exists():
            check_project(ctx, project, folder)
            folder.create_hidden_folders()
        else:
            create_folder(ctx, folder, project)
    except (UnsafePath, ProjectUnavailable) as error:
        raise DestinationUnusable(str(error)) from error
    return project


def _move_photos(ctx: StepContext, destination: Project, project: Project, photos: Sequence[Photo]) -> Worked:
    if project.id == destination.id:
        # These photos were always in the destination, or an earlier attempt moved them. In both cases, derivatives may
        # be missing.
        if any(lacks_derivatives(photo.thumbnail_status, photo.preview_status) for photo in photos):
            ctx.set_flag(NEED_DERIVATIVES, True)
        for photo in photos:
            ctx.report.count("photos already there", example=photo.filename)
            yield photo, None
        return
    with ctx.exclusively([project.id, destination.id]):
        destination = _destination(ctx)
        journey = _Journey(ctx, current_folder(ctx, project), ctx.folder_of(destination), destination, photos)
        for batch in batched(photos, BATCH_SIZE):
            _destination(ctx)
            errors = _move_batch(journey, batch)
            for photo in batch:
                yield photo, errors.get(photo.id)
        bring_late_companions(ctx, journey.relocations)


class _Journey:
    """The move of a chunk of photos from one project to another: both folders, the current rows and the files."""

    def __init__(
        self,
        ctx: StepContext,
        source: ProjectFolder,
        target: ProjectFolder,
        destination: Project,
        photos: Sequence[Photo],
    ) -> None:
        self.ctx = ctx
        self.source = source
        self.target = target
        self.destination = destination
        rows = PhotosRepository(ctx.database).get_many([photo.id for photo in photos])
        read = {photo.id: photo for photo in photos}
        #: The photos that have not moved since the items were read.
        self.photos = {photo.id: photo for photo in rows if not has_moved(read[photo.id], photo)}
        self.files = find_files(ctx, source, list(self.photos.values()))
        names = sorted({photo.filename for photo in self.photos.values()})
        named = Counter(one.filename for one in PhotosRepository(ctx.database).get_named(photos[0].project_id, names))
        #: The base names of several photos, which therefore have the same files.
        self.shared = {name for name, number in named.items() if number > 1}
        self.names = FreeNames(ctx, destination, target, self.photos.values(), self.files)
        #: The moves of the photos that have moved, by photo id.
        self.relocations: dict[int, Relocation] = {}

    def note(self, moves: Iterable[_Move]) -> None:
        """Add photos that have moved to `relocations`."""
        for move in moves:
            source, target = Side(self.source, move.project_id), Side(self.target, self.destination.id)
            self.relocations[move.photo.id] = Relocation(source, move.photo.filename, target, move.name)


def _move_batch(journey: _Journey, photos: Sequence[Photo]) -> dict[int, Exception]:
    errors: dict[int, Exception] = {}
    moves: list[_Move] = []
    for photo in photos:
        try:
            moves.append(_plan(journey, photo.id))
        except (PermanentStepError, SkipItem) as error:
            errors[photo.id] = error
    _PhotoMove(journey, moves).run()
    journey.note(move for move in moves if move.error is None)
    return errors | {move.photo.id: move.error for move in moves if move.error is not None}


def _plan(journey: _Journey, photo_id: int) -> _Move:
    photo = journey.photos.get(photo_id)
    if photo is None:
        raise SkipItem("the photo has been moved or removed in the meantime")
    if photo.filename in journey.shared:
        raise PermanentStepError(
            f"several photos of the project have the name {photo.filename}, so they have the same files; remove all "
            "rows but one, and move the photo again"
        )
    files = journey.files[photo.id]
    files.refuse_untouchable()
    if not files.images:
        raise SkipItem("the photo has no file on disk; manifest_check will mark its files as missing")
    name = journey.names.take(photo.filename, files)
    moves = file_moves(files, journey.source, photo.filename, journey.target, name)
    return _Move(moves, photo.project_id, journey.destination.id, photo.id, photo=photo, name=name)


class _PhotoMove(PhotoFilesChange[_Move]):
    action = FileAction.MOVED

    def __init__(self, journey: _Journey, moves: Sequence[_Move]) -> None:
        super().__init__(journey.ctx, moves, journey.target, names=journey.names.on_disk)
        self._destination = journey.destination

    @property
    def _moved(self) -> list[MovedPhoto]:
        return [moved_photo(move.photo, move.name, move) for move in self.done]

    def move(self, group: _Move) -> None:
        remove_stray_derivatives(self.folder, group.name)
        super().move(group)

    def finish(self) -> None:
        if any(lacks_derivatives(photo.thumbnail_status, photo.preview_status) for photo in self._moved):
            # The flag is set before the rows change. If the process then dies, the flag only makes a step run that
            # finds no work. Without the flag, photos would stay without thumbnails.
            self.ctx.set_flag(NEED_DERIVATIVES, True)
        super().finish()

    def write(self, connection: Connection) -> None:
        move_rows(connection, self._moved, project_id=self._destination.id, now=self.ctx.now())

    def report(self) -> None:
        report = self.ctx.report
        for move in self.done:
            report.count("moved", example=f"{move.photo.filename} to {self._destination.project_name}")
            report.count("files moved", len(move.originals))
            if move.name != move.photo.filename:
                report.count("renamed", example=f"{move.photo.filename} → {move.name}")


def moved_photo(photo: Photo, name: str, group: MoveGroup) -> MovedPhoto:
    """Return the new values of a photo's row after its files and derivatives moved."""
    statuses = {"thumbnail": photo.thumbnail_status, "preview": photo.preview_status}
    came = {file.target.parent.name: file.is_done for file in group.moves if file.is_derivative}
    left_behind = tuple(
        kind for kind, status in statuses.items() if not came.get(DERIVATIVE_FOLDERS[kind], status != "generated")
    )
    statuses |= dict.fromkeys(left_behind, "missing")
    return MovedPhoto(
        id=photo.id,
        old_name=photo.filename,
        name=name,
        thumbnail_status=statuses["thumbnail"],
        preview_status=statuses["preview"],
        left_behind=left_behind,
    )


def lacks_derivatives(*statuses: str | None) -> bool:
    """Return whether one of these statuses means that a derivative must be made."""
    return any(status in (None, "pending", "missing") for status in statuses)
