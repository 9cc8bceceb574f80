"""The step `derivative_validation`: it corrects the rows of derivatives, and requests missing derivatives.

`storage.comparison.derivative_scan` decides which derivatives are outdated. The derivatives are made by follow-up jobs,
in `flows.steps.images.derivative_steps`. If `manifest_cleaning` or `file_removal` removes a photo or its JPEG, it also
removes the derivatives.
"""

from collections.abc import Sequence
from functools import partial

from flows.errors import named, reason_of
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.imaging.errors import ImagingError
from flows.steps.images.observation import OriginalComparison, is_other
from flows.steps.images.photo_processing import answers_and_pauses
from flows.steps.targets.target_projects import each_project
from storage.batches import batched
from storage.comparison.derivative_scan import DerivativeScan, mark_changed, mark_missing
from storage.database.temporary_tables import BATCH_SIZE, temporary_tables
from storage.library.errors import LibraryError
from storage.library.paths import ProjectFolder
from storage.library.scan import look_at, scan, scan_derivatives
from storage.photos.derivatives import DerivativeKind
from storage.photos.originals import Original, OriginalsRepository
from storage.photos.photos import PhotosRepository
from storage.records import Project
from task_definitions import MAX_ITEMS_PER_JOB


@step("derivative_validation", unit="projects", modifies_files=False)
def derivative_validation(ctx: StepContext) -> None:
    """Find thumbnails and previews that are missing, empty or outdated."""
    ctx.library.check_available()
    projects = ctx.projects()
    with ctx.read() as connection, temporary_tables(connection):
        staged = DerivativeScan(connection)
        each_project(ctx, partial(_validate, ctx, staged), projects=projects, skips_missing=True)


def _validate(ctx: StepContext, staged: DerivativeScan, project: Project, folder: ProjectFolder) -> None:
    staged.begin(project.id)
    for kind, path in ((DerivativeKind.THUMBNAIL, folder.thumb), (DerivativeKind.PREVIEW, folder.preview)):
        for batch in batched(scan_derivatives(path), BATCH_SIZE):
            staged.add_derivatives(kind, batch)
    # Originals are scanned last, so that an original that changes meanwhile looks newer than its derivative.
    for files in batched(scan(folder), BATCH_SIZE):
        ctx.checkpoint()
        staged.add_originals(files)
    for changed in staged.changed_files():
        _update_originals(ctx, folder, changed)
    for kind in DerivativeKind:
        for ids in staged.outdated(kind):
            ctx.checkpoint()
            with ctx.transaction(photo_ids=ids, columns=[f"{kind}_status"]) as connection:
                marked = mark_missing(connection, kind, ids, now=ctx.now())
            ctx.report.count(f"{kind}s found missing", marked)
    for ids in staged.outdated_metadata():
        ctx.enqueue("metadata", photo_ids=ids)
        ctx.report.count("metadata to be read again", len(ids))
    _ask_for_missing(ctx, project)


def _update_originals(ctx: StepContext, folder: ProjectFolder, files: Sequence[tuple[int, str]]) -> None:
    """Write the current size, times and hash of each file that differs from its row."""
    comparison = OriginalComparison(ctx)
    known = OriginalsRepository(ctx.database).get_many(list(dict.fromkeys(photo_id for photo_id, _ in files)))

    def look(named: tuple[int, str]) -> Original | Exception | None:
        photo_id, name = named
        try:
            file = look_at(folder, name)
            if file is None or file.problem is not None:
                return None
            return comparison.compare(photo_id, file, folder.original(name), known[photo_id].get(name))
        except (ImagingError, LibraryError, OSError) as error:
            return error

    originals: list[Original] = []
    changed: list[Original] = []
    for (photo_id, name), original in filter(None, answers_and_pauses(ctx, files, look)):
        if isinstance(original, Exception):
            ctx.report.count("skipped", example=named(name, reason_of(original)))
        elif original is not None:
            originals.append(original)
            before = known[photo_id].get(name)
            if before is not None and before.size_bytes is not None and is_other(before, original):
                changed.append(original)
                ctx.report.count("originals changed", example=name)
    ctx.checkpoint()
    with ctx.transaction() as connection:
        OriginalsRepository(connection).save_many(originals)
        mark_changed(connection, changed, now=comparison.now)


def _ask_for_missing(ctx: StepContext, project: Project) -> None:
    for ids in PhotosRepository(ctx.database).iterate_lacking_derivatives(project.id, batch_size=MAX_ITEMS_PER_JOB):
        ctx.enqueue("generate_derivatives", photo_ids=ids)
        ctx.report.count("photos with derivatives requested", len(ids))
