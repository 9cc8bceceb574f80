"""The steps that read metadata into rows: `metadata` for items, `regenerate_metadata` for whole projects."""

from __future__ import annotations

from flows.imaging.isolation import ImageProcessing
from flows.step import step
from flows.step_context import StepContext
from flows.steps.metadata_work import metadata_values, read_photo_metadata
from flows.steps.photo_processing import PhotoResult, PhotoTask, PhotoWork, process_items, process_projects


@step("metadata", unit="items", modifies_files=False)
def metadata(ctx: StepContext) -> None:
    """Read date, orientation, camera and size of each photo into SQL."""
    process_items(ctx, _work(ctx.images))


@step("regenerate_metadata", unit="projects", modifies_files=False)
def regenerate_metadata(ctx: StepContext) -> None:
    """Read the metadata of all photos of the projects into SQL again."""
    process_projects(ctx, _work(ctx.images))


def _work(images: ImageProcessing) -> PhotoWork:
    def work(task: PhotoTask) -> PhotoResult:
        values = metadata_values(task.photo, read_photo_metadata(task.folder, task.files, images=images))
        name = "metadata changed" if values else "unchanged"
        return PhotoResult(values=values, counts=[(name, task.photo.filename)])

    return work
