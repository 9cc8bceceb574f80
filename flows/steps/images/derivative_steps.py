"""The steps that make thumbnails and previews: `generate_derivatives` and `upload_postprocess`.

The step `derivative_validation` checks thumbnails and previews that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.images.derivative_work import DerivativeWork, work_on_derivatives
from flows.steps.images.metadata_work import work_on_metadata
from flows.steps.images.photo_processing import PhotoResult, process_items
from flows.steps.targets.photo_files import PhotoFiles, PhotoTask
from storage.library.naming.kinds import FileKind
from storage.records import Photo


@step("generate_derivatives", unit="items", modifies_files=False)
def generate_derivatives(ctx: StepContext) -> None:
    """Make the thumbnail and the preview of each photo."""
    make = _maker(ctx)

    def work(task: PhotoTask) -> PhotoResult:
        return _result(task, make(task))

    process_items(ctx, work)


@step("upload_postprocess", unit="items", modifies_files=False)
def upload_postprocess(ctx: StepContext) -> None:
    """Make the thumbnail and the preview of each photo, read its metadata, and update its keep flags."""
    make = _maker(ctx, with_metadata=True)
    images, now, settle_seconds = ctx.images, ctx.now(), ctx.settings.settle_seconds

    def work(task: PhotoTask) -> PhotoResult:
        made = make(task)
        result = _result(task, made)
        read = work_on_metadata(
            task,
            images=images,
            settle_seconds=settle_seconds,
            now=now,
            original=made.original,
            found=made.metadata,
        )
        result.take_metadata(task, read)
        result.values |= keep_flag_values(task.photo, task.files)
        return result

    process_items(ctx, work)


def _maker(ctx: StepContext, *, with_metadata: bool = False) -> Callable[[PhotoTask], DerivativeWork]:
    force = bool(ctx.payload.get("force", ctx.params.get("force", False)))
    return partial(
        work_on_derivatives,
        images=ctx.images,
        force=force,
        settle_seconds=ctx.settings.settle_seconds,
        now=ctx.now(),
        with_metadata=with_metadata,
    )


def keep_flag_values(photo: Photo, files: PhotoFiles) -> dict[str, int]:
    """Return the availability and keep flags of a photo that differ from its files on disk, with their new values.

    The keep flag of a missing file becomes 0, that of a new file becomes 1. A file whose keep flag a user has cleared
    stays marked for deletion.
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


def _result(task: PhotoTask, work: DerivativeWork) -> PhotoResult:
    photo = task.photo
    statuses = {f"{kind}_status": status for kind, status in work.statuses.items()}
    seen = [original for original in (work.original, *work.others) if original is not None]
    result = PhotoResult(
        values={name: status for name, status in statuses.items() if getattr(photo, name) != status},
        derivatives=list(work.derivatives),
        originals=[original for original in seen if original != task.originals.get(original.name)],
        made_anew=[str(kind) for kind in work.made if kind not in work.replaced],
        has_written_files=bool(work.made),
        counts=[
            *((f"{kind}s made", photo.filename) for kind in work.made),
            *(("originals not hashed", reason) for reason in work.unreadable),
        ],
        error=work.error,
    )
    if work.not_supported is not None:
        result.counts.append(("not supported", f"{photo.filename}: {work.not_supported}"))
    elif not work.statuses:
        result.counts.append(("unchanged", photo.filename))
    return result
