"""The loop of a handler over the photos of its job, project by project. The loop also ends the job's items.

`flows.steps.targets.target_projects` has the loop over projects.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from itertools import groupby
from typing import TypeAlias

from flows.errors import SkipItem, named, reason_of
from flows.handlers.failures import Failures
from flows.handlers.job_targets import TargetItem
from flows.handlers.step_context import StepContext
from flows.steps.targets.target_projects import ProjectUnavailable, check_owner, each_project
from storage.library.errors import LibraryError
from storage.library.paths import ProjectFolder
from storage.photos.project_labels import project_label
from storage.records import Photo, Project
from task_definitions import MAX_ITEMS_PER_JOB

#: The photos on which a step has worked, each with its error or None.
Worked: TypeAlias = Generator[tuple[Photo, Exception | None], None, None]

#: A function that works on photos of one project.
PhotosWork: TypeAlias = Callable[[ProjectFolder, Sequence[Photo]], Worked]


def each_photo(ctx: StepContext, work: PhotosWork, photos_of: Callable[[int], Iterable[Sequence[Photo]]]) -> None:
    """Work on the photos of the job's items, and end each item.

    A standalone job without items works on the photos that `photos_of` yields for each of the job's projects, in
    batches.
    """

    def work_on_items(project: Project, photos: Sequence[Photo]) -> Worked:
        with ctx.exclusively([project.id]):
            yield from work(current_folder(ctx, project), photos)

    ctx.library.check_available()
    if ctx.names_photos:
        each_item(ctx, work_on_items)
    else:
        each_project_photo(ctx, work, photos_of)


def each_item(ctx: StepContext, work: Callable[[Project, Sequence[Photo]], Worked]) -> None:
    """Call `work` for the photos of the job's items, project by project. End the item of each photo that `work` yields.

    If `work` raises `SkipItem`, `ProjectUnavailable`, `LibraryError` or `OSError`, the other items of the project end
    with this error.
    """
    for batch in ctx.item_batches(size=MAX_ITEMS_PER_JOB):
        batch.sort(key=lambda item: (item.project.id, item.id))
        for _, group in groupby(batch, key=lambda item: item.project.id):
            items = list(group)
            project = items[0].project
            left: dict[int, list[TargetItem]] = {}
            for item in items:
                left.setdefault(item.photo.id, []).append(item)
            ctx.report.enter_project(project.project_name)
            try:
                # `closing` waits for the threads, which must have ended before another executor runs the job.
                with closing(work(project, [own[0].photo for own in left.values()])) as results:
                    for photo, error in results:
                        _end(ctx, left.pop(photo.id), error)
            except (SkipItem, ProjectUnavailable, LibraryError, OSError) as error:
                for own in left.values():
                    _end(ctx, own, error)
            ctx.report.enter_project(None)


def each_project_photo(
    ctx: StepContext, work: PhotosWork, photos_of: Callable[[int], Iterable[Sequence[Photo]]]
) -> None:
    """Call `work` for the photos of the job's projects. A project fails if one of its photos fails."""

    def process(project: Project, folder: ProjectFolder) -> None:
        failures = Failures()
        for photos in photos_of(project.id):
            with closing(work(folder, photos)) as results:
                for photo, error in results:
                    failures.count_tried("photo")
                    if isinstance(error, SkipItem):
                        ctx.report.count("skipped", example=named(photo.filename, reason_of(error)))
                    elif error is not None:
                        ctx.report.fail(photo.filename, reason_of(error))
                        failures.add("photo", error)
        failures.raise_if_any()

    each_project(ctx, process)


def current_folder(ctx: StepContext, project: Project) -> ProjectFolder:
    """Return the current folder of a project. The folder may have been renamed during a wait for the project.

    Raises:
        SkipItem: the project has been removed or archived meanwhile.
        ProjectUnavailable: the folder is now another project's folder; see `check_owner`.
        UnsafePath: the path is a symlink or a file.
    """
    fresh = ctx.reload(project)
    if fresh is None or fresh.is_archived:
        raise SkipItem(f"project {project_label(project)} has been archived or removed meanwhile")
    folder = ctx.folder_of(fresh)
    check_owner(ctx, fresh, folder)
    return folder


def has_moved(photo: Photo, fresh: Photo | None) -> bool:
    """Return whether the current row of a photo is missing, or has another project or name than the row read before."""
    return fresh is None or (fresh.project_id, fresh.filename) != (photo.project_id, photo.filename)


def _end(ctx: StepContext, items: Sequence[TargetItem], error: Exception | None) -> None:
    for item in items:
        with ctx.item(item):
            if error is not None:
                raise error
