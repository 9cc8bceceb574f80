"""The steps that read metadata of photos into their rows: `metadata` for items, `regenerate_metadata` for projects."""

from __future__ import annotations

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.images.metadata_work import work_on_metadata
from flows.steps.images.photo_processing import PhotoResult, PhotoWork, process_items, process_projects
from flows.steps.targets.photo_files import PhotoTask


@step("metadata", unit="items", modifies_files=False)
def metadata(ctx: StepContext) -> None:
    """Read the date, orientation, camera and size of each photo, and write them to its row."""
    process_items(ctx, _work(ctx))


@step("regenerate_metadata", unit="projects", modifies_files=False)
def regenerate_metadata(ctx: StepContext) -> None:
    """Read the metadata of all photos of the projects again, and write them to the rows."""
    process_projects(ctx, _work(ctx))


def _work(ctx: StepContext) -> PhotoWork:
    images, now, settle_seconds = ctx.images, ctx.now(), ctx.settings.settle_seconds

    def work(task: PhotoTask) -> PhotoResult:
        result = PhotoResult()
        result.take_metadata(task, work_on_metadata(task, images=images, settle_seconds=settle_seconds, now=now))
        if not result.counts and result.error is None:
            result.counts.append(("unchanged", task.photo.filename))
        return result

    return work
