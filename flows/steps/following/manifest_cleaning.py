"""The step `manifest_cleaning`: it removes rows and derivatives of photos whose files have been missing for long.

The setting `missing_grace_seconds` is the time for which they must be missing. `flows.steps.targets.target_projects`
decides whether missing files count as deleted.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.following.arrivals import Arrivals
from flows.steps.targets.journal_changes import removed_photo
from flows.steps.targets.photo_files import remove_derivatives
from flows.steps.targets.target_projects import checked_projects, compared, each_project, has_safe_name
from storage.comparison.part_comparison import PhotoWithoutFile
from storage.comparison.reconciliation import known_names
from storage.database.tables import photos as photos_table
from storage.history.foreign_rows import removal_refusals
from storage.history.row_snapshots import snapshot_photos
from storage.library.paths import ProjectFolder
from storage.photos.availability import has_photos_marked_without_file, has_rows_to_remove, still_marked_without_file
from storage.photos.originals import ORIGINAL_KINDS, OriginalsRepository
from storage.photos.photos import PhotosRepository
from storage.queue.tasks import TasksRepository
from storage.records import Project


@step("manifest_cleaning", unit="projects")
def manifest_cleaning(ctx: StepContext) -> None:
    """Remove the rows of photos that have had no file for `missing_grace_seconds`."""
    projects = checked_projects(ctx)
    arrivals = Arrivals(ctx)
    with ctx.read() as connection:
        ids = [project.id for project in projects]
        is_due = has_rows_to_remove(connection, ids, missing_before=ctx.now() - _grace(ctx))
    if is_due:
        arrivals.look_everywhere()
        arrivals.follow_moves(adds_rows=False)
    each_project(ctx, partial(_clean, ctx, arrivals), projects=projects, skips_missing=True)


def _grace(ctx: StepContext) -> timedelta:
    return timedelta(seconds=ctx.settings.missing_grace_seconds)


def _clean(ctx: StepContext, arrivals: Arrivals, project: Project, folder: ProjectFolder) -> None:
    with ctx.read() as connection:
        if not has_photos_marked_without_file(connection, project.id):
            return
    # The flags in the rows may be older than the latest upload, so the step compares with the disk.
    with compared(ctx, project, folder) as comparison:
        for batch in comparison.photos_without_file():
            named = [photo for photo in batch if has_safe_name(ctx, photo.photo_id, photo.filename)]
            doomed = [photo for photo in _without_grace(ctx, named) if photo.photo_id not in arrivals.found]
            if doomed:
                _remove(ctx, project, folder, doomed)


def _without_grace(ctx: StepContext, photos: Sequence[PhotoWithoutFile]) -> list[PhotoWithoutFile]:
    """Return the photos that an earlier run found without files, at least the grace period ago. Report the others."""
    ids = [photo.photo_id for photo in photos]
    now, grace = ctx.now(), _grace(ctx)
    with ctx.transaction() as connection:
        originals = OriginalsRepository(connection)
        originals.mark_missing(ids, ORIGINAL_KINDS, now=now)
        since = originals.missing_since(ids)
        task = None if ctx.job.task_id is None else TasksRepository(connection).get_by_id(ctx.job.task_id)
        began_at = ctx.job.created_at if task is None else min(ctx.job.created_at, task.created_at)
    expired = []
    for photo in photos:
        moment = since[photo.photo_id]
        if moment < began_at and moment <= now - grace:
            expired.append(photo)
        else:
            ctx.report.count("missing, row kept", example=f"{photo.filename}: missing since {moment:%Y-%m-%d}")
    return expired


def _remove(ctx: StepContext, project: Project, folder: ProjectFolder, doomed: Sequence[PhotoWithoutFile]) -> None:
    names = {photo.photo_id: photo.filename for photo in doomed}
    with ctx.read() as connection:
        ids = still_marked_without_file(connection, list(names))
        refusals = removal_refusals(connection, photos_table, ids)
        ids = [photo_id for photo_id in ids if photo_id not in refusals]
        shared = known_names(connection, project.id, sorted({names[photo_id] for photo_id in ids}), but_for=ids)
    for photo_id, reason in refusals.items():
        ctx.report.count("rows kept", example=f"{names[photo_id]}: {reason}")
    # Derivatives are removed before the rows, because only the row shows to which photo they belong.
    for photo_id in ids:
        ctx.checkpoint()
        if names[photo_id] not in shared:
            remove_derivatives(ctx, folder, names[photo_id])
    with ctx.transaction() as connection:
        ids = still_marked_without_file(connection, ids)
        rows = snapshot_photos(connection, ids)
        ctx.journal(connection, [removed_photo(folder, project.id, one, names[one], rows[one]) for one in ids])
        PhotosRepository(connection).remove_many(ids)
    for photo_id in ids:
        ctx.report.count("rows removed", example=names[photo_id])
