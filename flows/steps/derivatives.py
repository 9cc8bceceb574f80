"""The steps that make thumbnails and previews: `generate_derivatives` and `upload_postprocess`.

Whether those that exist are still good is the matter of `derivative_validation`.
"""

from __future__ import annotations

from datetime import datetime

from flows.imaging.isolation import ImageProcessing
from flows.step import step
from flows.step_context import StepContext
from flows.steps.derivative_work import DerivativeWork, UnusableImage, work_on_derivatives
from flows.steps.metadata_work import metadata_values, read_photo_metadata
from flows.steps.photo_files import PhotoFiles
from flows.steps.photo_processing import PhotoResult, PhotoTask, process_items
from storage.library import FileKind
from storage.records import Photo


@step("generate_derivatives", unit="items", modifies_files=False)
def generate_derivatives(ctx: StepContext) -> None:
    """Make the thumbnail and the preview of each photo."""
    images, force, now = ctx.images, _is_forced(ctx), ctx.now()

    def work(task: PhotoTask) -> PhotoResult:
        return _result(task.photo, _derivatives_of(task, images=images, force=force, now=now))

    process_items(ctx, work)


@step("upload_postprocess", unit="items", modifies_files=False)
def upload_postprocess(ctx: StepContext) -> None:
    """Make thumbnail and preview, read metadata and align the keep flags of each photo."""
    images, force, now = ctx.images, _is_forced(ctx), ctx.now()

    def work(task: PhotoTask) -> PhotoResult:
        result = _result(task.photo, _derivatives_of(task, images=images, force=force, now=now))
        try:
            found = read_photo_metadata(task.folder, task.files, images=images)
        except UnusableImage as error:
            result.error = result.error or error
        else:
            values = metadata_values(task.photo, found)
            result.values |= values
            result.counts += [("metadata changed", task.photo.filename)] if values else []
        result.values |= keep_flag_values(task.photo, task.files)
        return result

    process_items(ctx, work)


def keep_flag_values(photo: Photo, files: PhotoFiles) -> dict[str, int]:
    """What of a photo's availability and keep flags is to change, seeing what is on disk.

    What is not there cannot be kept; what has come is. What somebody decided not to keep, and is still there, stays
    a pending deletion.
    """
    untouchable = {file.kind for file in files.untouchable}
    wanted: dict[str, int] = {}
    for kind in (FileKind.JPG, FileKind.RAW, FileKind.OTHER):
        if kind in untouchable:
            continue
        was_there, is_there = bool(getattr(photo, f"{kind}_available")), files.has(kind)
        wanted[f"{kind}_available"] = int(is_there)
        if kind is FileKind.OTHER:
            continue
        keep = getattr(photo, f"keep_{kind}")
        wanted[f"keep_{kind}"] = keep if was_there and is_there else int(is_there)
    return {name: value for name, value in wanted.items() if getattr(photo, name) != value}


def _is_forced(ctx: StepContext) -> bool:
    return bool(ctx.payload.get("force", ctx.params.get("force", False)))


def _derivatives_of(task: PhotoTask, *, images: ImageProcessing, force: bool, now: datetime) -> DerivativeWork:
    return work_on_derivatives(task.photo, task.folder, task.files, task.known, images=images, force=force, now=now)


def _result(photo: Photo, work: DerivativeWork) -> PhotoResult:
    statuses = {f"{kind}_status": status for kind, status in work.statuses.items()}
    result = PhotoResult(
        values={name: status for name, status in statuses.items() if getattr(photo, name) != status},
        derivatives=list(work.derivatives),
        made_anew=[str(kind) for kind in work.made if kind not in work.replaced],
        counts=[(f"{kind}s made", photo.filename) for kind in work.made],
        error=work.error,
    )
    if work.not_supported is not None:
        result.counts.append(("not supported", f"{photo.filename}: {work.not_supported}"))
    elif not work.statuses:
        result.counts.append(("unchanged", photo.filename))
    return result
