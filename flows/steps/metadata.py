"""The steps that read metadata into rows: `metadata` for items, `regenerate_metadata` for whole projects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from flows.errors import SkipItem
from flows.imaging.isolation import ImageProcessing
from flows.step import step
from flows.step_context import StepContext
from flows.steps.metadata_work import metadata_values, read_photo_metadata
from flows.steps.photo_files import raise_failures
from flows.steps.photo_processing import PhotoResult, PhotoTask, PhotoWork, process_items, process_photos
from storage.photos import PhotosRepository
from storage.records import Photo

#: Photos of a project for which its folder is scanned once.
SCAN_BATCH_SIZE = 10_000


@step("metadata", unit="items", modifies_files=False)
def metadata(ctx: StepContext) -> None:
    """Read date, orientation, camera and size of each photo into SQL."""
    process_items(ctx, _work(ctx.images))


@step("regenerate_metadata", unit="projects", modifies_files=False)
def regenerate_metadata(ctx: StepContext) -> None:
    """Read the metadata of all photos of the projects into SQL again."""
    ctx.library.check_available()
    work = _work(ctx.images)
    projects = ctx.projects()
    for number, project in enumerate(projects):
        with ctx.project(project) as folder:
            errors: list[Exception] = []
            tried = 0
            for batch in _photos(ctx, project.id):
                with closing(process_photos(ctx, folder, batch, work)) as results:
                    for photo, error in results:
                        tried += 1
                        if isinstance(error, SkipItem):
                            ctx.report.count("skipped", example=f"{photo.filename}: {error}")
                        elif error is not None:
                            ctx.report.fail(photo.filename, str(error))
                            errors.append(error)
            raise_failures(errors, tried=tried)
        ctx.progress(number + 1, len(projects))


def _work(images: ImageProcessing) -> PhotoWork:
    def work(task: PhotoTask) -> PhotoResult:
        values = metadata_values(task.photo, read_photo_metadata(task.folder, task.files, images=images))
        name = "metadata changed" if values else "unchanged"
        return PhotoResult(values=values, counts=[(name, task.photo.filename)])

    return work


def _photos(ctx: StepContext, project_id: int) -> Iterator[list[Photo]]:
    last_id = 0
    while True:
        with ctx.read() as connection:
            batch = list(
                islice(PhotosRepository(connection).iterate_project(project_id, after_id=last_id), SCAN_BATCH_SIZE)
            )
        if not batch:
            return
        last_id = batch[-1].id
        yield batch
