"""The step `duplicate_resolution`: it reports photos that have the base name of an older photo in another project.

`storage.photos.duplicate_names` decides which of the photos keeps the name. With the setting `rename_user_files =
"rename"`, the step renames the other photos in the job's projects, with all their files, companions and derivatives.
The step removes no photo, and no file except derivatives whose photo no longer exists.
"""

import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Final

from sqlalchemy import Connection

from flows.errors import reason_of
from flows.handlers.announced_moves import MoveGroup
from flows.handlers.failures import items_failed
from flows.handlers.left_companions import Relocation, Side
from flows.handlers.photo_files_change import BATCH_SIZE, PhotoFilesChange
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.moving.free_names import FreeNames
from flows.steps.moving.image_move import moved_photo
from flows.steps.moving.late_companions import bring_late_companions
from flows.steps.targets.photo_files import PhotoFiles, file_moves, find_files, remove_stray_derivatives
from flows.steps.targets.target_projects import checked_projects, each_project, has_safe_name
from storage.batches import batched
from storage.database.temporary_tables import temporary_tables
from storage.history.journal import FileAction
from storage.library.content_hash import hash_contents
from storage.library.errors import LibraryError
from storage.library.naming.names import name_key
from storage.library.paths import ProjectFolder
from storage.photos.duplicate_names import DuplicateNames
from storage.photos.photo_moves import move_rows
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.queue.lanes import PRIORITY_LANE_FROM
from storage.records import Photo, Project

#: Largest number of photos whose files are searched for in one scan of their folder.
_SCAN_BATCH_SIZE: Final = 5_000
#: The number of photos that are read from the database at a time for the report.
_REPORT_BATCH_SIZE: Final = 2_000


@dataclass(slots=True, kw_only=True)
class _Renaming(MoveGroup):
    """The change of one base name of a project.

    Attributes:
        photos: the rows with the old name: one row, unless another program inserted a second one.
        name: the new name.
    """

    photos: list[Photo]
    name: str

    @property
    def old_name(self) -> str:
        return self.photos[0].filename

    @property
    def photo_ids(self) -> list[int]:
        return [photo.id for photo in self.photos]


@step("duplicate_resolution", unit="projects")
def duplicate_resolution(ctx: StepContext) -> None:
    """Report or rename photos that have the base name of an older photo in another project."""
    projects = checked_projects(ctx)
    with ctx.read() as connection, temporary_tables(connection):
        names = DuplicateNames(connection)
        counts = names.find(ctx.tenant_id)
        concerned = [project for project in projects if project.id in counts]
        if ctx.settings.rename_user_files == "report":
            _report(ctx, names, concerned)
            return
        each_project(ctx, partial(_resolve, ctx, names), projects=concerned, skips_missing=True)


def _report(ctx: StepContext, names: DuplicateNames, projects: Sequence[Project]) -> None:
    for number, project in enumerate(projects):
        ctx.report.enter_project(project.project_name)
        for ids in names.photo_ids(project.id, batch_size=_REPORT_BATCH_SIZE):
            ctx.checkpoint()
            photos = PhotosRepository(ctx.database).get_many(ids)
            for photo in photos:
                ctx.report.count("names used by other projects", example=photo.filename)
        ctx.report.enter_project(None)
        ctx.progress(number + 1, len(projects))


def _resolve(ctx: StepContext, names: DuplicateNames, project: Project, folder: ProjectFolder) -> None:
    errors: list[Exception] = []
    for ids in names.photo_ids(project.id, batch_size=_SCAN_BATCH_SIZE):
        errors += _rename_all(ctx, names, project, folder, ids)
    if errors:
        raise items_failed("photo", "could not be renamed", errors)


def _rename_all(
    ctx: StepContext, names: DuplicateNames, project: Project, folder: ProjectFolder, photo_ids: Sequence[int]
) -> list[Exception]:
    with ctx.read() as connection:
        repository = PhotosRepository(connection)
        # Rows of the same name in the same project share their files, so they get the same new name.
        sharing = repository.get_named(project.id, sorted({one.filename for one in repository.get_many(photo_ids)}))
    of_name = attrgetter("filename")
    by_name = [list(group) for _, group in groupby(sorted(sharing, key=of_name), key=of_name)]
    files = find_files(ctx, folder, sharing)
    free = FreeNames(ctx, project, folder, sharing, files, is_taken=names.is_taken)
    copies = _Copies(ctx, names, folder)
    errors: list[Exception] = []
    planned: list[_Renaming] = []
    for photos in by_name:
        try:
            # If several rows share the files, the scan gives all files to one of them.
            own = max((files[photo.id] for photo in photos), key=lambda one: len(one.all()) + len(one.untouchable))
            renaming = _plan(ctx, copies, free, folder, photos, own)
        except (LibraryError, OSError) as error:
            errors.append(error)
            ctx.report.fail(photos[0].filename, reason_of(error))
        else:
            if renaming is not None:
                planned.append(renaming)
                for photo in photos:
                    names.rename(photo.id, renaming.name)
    for batch in batched(planned, BATCH_SIZE):
        _Renamings(ctx, batch, folder, names=free.on_disk).run()
    here = Side(folder, project.id)
    done = [renaming for renaming in planned if renaming.error is None]
    bring_late_companions(ctx, {one.photos[0].id: Relocation(here, one.old_name, here, one.name) for one in done})
    return errors + [renaming.error for renaming in planned if renaming.error is not None]


class _Copies:
    """Finds copies in one project: photos whose images equal, byte for byte, the images of another photo of that name.

    Copies are not renamed: backups and phone syncs add the same files repeatedly, so renamed copies would accumulate.
    """

    def __init__(self, ctx: StepContext, names: DuplicateNames, folder: ProjectFolder) -> None:
        self._ctx = ctx
        self._names = names
        self._folder = folder
        self._projects = {one.id: one for one in ProjectsRepository(ctx.database).list()}

    def original_of(self, photo: Photo, files: PhotoFiles) -> str | None:
        """Return the original of a photo, as `project/name`; None if the photo is not a copy.

        The original is a photo of the same name in another project, or a photo in any project that this step renamed
        from this name.
        """
        own = photo.project_id, name_key(photo.filename)
        for other in PhotosRepository(self._ctx.database).get_many(self._names.photos_like(photo.filename)):
            if (other.project_id, name_key(other.filename)) == own:
                continue  # It is the photo itself, or another row of the same files.
            project = self._projects.get(other.project_id)
            with suppress(LibraryError, OSError):
                if project is not None and self._are_there(files, other, self._ctx.folder_of(project)):
                    return f"{project.project_name}/{other.filename}"
        return None

    def _are_there(self, files: PhotoFiles, other: Photo, folder: ProjectFolder) -> bool:
        """Return whether the folder has an equal file for each image, under the name of the other photo."""
        content_path = self._folder.library.content_path
        for file in files.images:
            own = self._folder.original(file.name)
            twin = folder.original(other.filename + file.name[len(file.base_name) :])
            if not stat.S_ISREG(twin.lstat().st_mode) or twin.lstat().st_size != file.size_bytes:
                return False
            if hash_contents(content_path(own)) != hash_contents(content_path(twin)):
                return False
        return True


def _plan(
    ctx: StepContext, copies: _Copies, free: FreeNames, folder: ProjectFolder, photos: list[Photo], files: PhotoFiles
) -> _Renaming | None:
    """Return the renaming of the photos of one name. If they must keep the name, report the reason and return None."""
    old_name = photos[0].filename
    if not has_safe_name(ctx, photos[0].id, old_name):
        return None
    if files.untouchable:
        file = files.untouchable[0]
        ctx.report.count("skipped", example=f"{file.printable_name}: {file.problem}, so its photo is not renamed")
        return None
    if not files.images:
        ctx.report.count("skipped", example=f"{old_name}: the photo has no file")
        return None
    original = copies.original_of(photos[0], files)
    if original is not None:
        ctx.report.count("copies not renamed", example=f"{old_name}: has the same contents as {original}")
        return None
    name = free.take(old_name, files)
    targets = [name_key(path) for _, path in files.renamed(name, old=old_name)]
    if len(set(targets)) < len(targets):
        reason = "two of its files would get the same name, so the photo is not renamed; rename one of these files"
        ctx.report.count("skipped", example=f"{old_name}: {reason}")
        return None
    project_id = photos[0].project_id
    moves = file_moves(files, folder, old_name, folder, name)
    return _Renaming(moves, project_id, project_id, photos[0].id, photos=photos, name=name)


class _Renamings(PhotoFilesChange[_Renaming]):
    action = FileAction.RENAMED
    enqueues = True

    def move(self, group: _Renaming) -> None:
        remove_stray_derivatives(self.folder, group.name)
        super().move(group)

    def fail(self, group: _Renaming, error: Exception) -> None:
        super().fail(group, error)
        self.ctx.report.fail(group.old_name, reason_of(error))

    def write(self, connection: Connection) -> None:
        moved = [moved_photo(photo, group.name, group) for group in self.done for photo in group.photos]
        move_rows(connection, moved, project_id=self.groups[0].photos[0].project_id, now=self.ctx.now())
        ids = [photo.id for photo in moved]
        self.ctx.enqueue("upload_postprocess", photo_ids=ids, priority=PRIORITY_LANE_FROM, connection=connection)

    def report(self) -> None:
        for group in self.done:
            self.ctx.report.count("renamed", example=f"{group.old_name} → {group.name}")
