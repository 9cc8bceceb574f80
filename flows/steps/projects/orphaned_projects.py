"""The step `orphaned_project_cleanup`: it archives projects whose folder is missing, and later removes their rows.

The rows stay for at least `missing_grace_seconds`. A folder counts as missing only if the library and the tenant's
folder can be read, and the tenant has no renamed folder of the project.
"""

from datetime import timedelta
from functools import partial
from itertools import islice

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.following.arrivals import Arrivals
from flows.steps.targets.folder_owner import archived_as_gone
from flows.steps.targets.journal_changes import folder_change, removed_photo
from flows.steps.targets.target_projects import check_disk, each_project
from flows.steps.targets.whereabouts import RenamedFolders, archive_as_gone
from storage.batches import BATCH_SIZE, batched
from storage.database.tables import projects as projects_table
from storage.history.foreign_rows import removal_refusals
from storage.history.journal import FileAction
from storage.history.photo_states import current_projects
from storage.history.row_snapshots import removed_project, snapshot_photos
from storage.library.paths import ProjectFolder
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.records import Project


@step("orphaned_project_cleanup", unit="projects")
def orphaned_project_cleanup(ctx: StepContext) -> None:
    """Archive projects whose folder is missing; remove their rows `missing_grace_seconds` later."""
    projects = [*ctx.projects(archived=True), *ctx.projects()]
    if not projects:
        return
    check_disk(ctx)
    renamed = RenamedFolders(ctx)
    arrivals = Arrivals(ctx)
    with ctx.read() as connection:
        doomed = [project.id for project in projects if archived_as_gone(connection, project) is not None]
    if doomed:
        arrivals.look_everywhere()
        arrivals.follow_moves(adds_rows=False, doomed=doomed)
    each_project(ctx, partial(_archive_or_remove, ctx, renamed, arrivals), projects=projects)


def _archive_or_remove(
    ctx: StepContext, renamed: RenamedFolders, arrivals: Arrivals, project: Project, folder: ProjectFolder
) -> None:
    if not folder.exists():
        # The disk may have been unplugged since the step began.
        check_disk(ctx)
    if not project.is_archived:
        if not folder.exists() and not _is_elsewhere(ctx, renamed, project):
            ctx.checkpoint()
            archive_as_gone(ctx, project, folder)
        return
    with ctx.read() as connection:
        archived = archived_as_gone(connection, project)
    if archived is None:
        return
    if folder.exists():
        _keep(ctx, project, "its folder is back; folder_discovery will make the project active again")
    elif archived.job_id == ctx.job.id or (archived.task_id is not None and archived.task_id == ctx.job.task_id):
        # A repetition of the run that archived the project does not count as a later run.
        _keep(ctx, project, "this run has archived it; a later run removes its rows if its folder stays missing")
    elif (place := renamed.inside_another(project)) is not None:
        _keep(ctx, project, f"its folder is inside another project's folder, {place}; move it back")
    elif archived.created_at > ctx.now() - timedelta(seconds=ctx.settings.missing_grace_seconds):
        # The rows stay for a while, because the disk may only be disconnected.
        _keep(
            ctx,
            project,
            f"its folder has been missing for less than {ctx.settings.missing_grace_seconds} s (missing_grace_seconds)",
        )
    elif _has_found_photos(ctx, arrivals, project):
        _keep(ctx, project, "files of its photos are in other folders; their rows follow in a later run")
    elif not _is_elsewhere(ctx, renamed, project):
        _remove_rows(ctx, project, folder)


def _keep(ctx: StepContext, project: Project, reason: str) -> None:
    ctx.report.count("kept", example=f"{project.project_name}: {reason}")


def _has_found_photos(ctx: StepContext, arrivals: Arrivals, project: Project) -> bool:
    ids = [photo_id for photo_id, project_id in arrivals.found.items() if project_id == project.id]
    with ctx.read() as connection:
        return any(project.id in current_projects(connection, batch) for batch in batched(ids, BATCH_SIZE))


def _is_elsewhere(ctx: StepContext, renamed: RenamedFolders, project: Project) -> bool:
    name = renamed.folder_of(project)
    if name is not None:
        _keep(ctx, project, f"its folder was renamed to {name}; folder_discovery will update the project")
    return name is not None


def _remove_rows(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    with ctx.read() as connection:
        refusals = removal_refusals(connection, projects_table, [project.id])
    if refusals:
        _keep(ctx, project, refusals[project.id])
        return
    is_done = False
    while not is_done:
        ctx.checkpoint()
        with ctx.transaction() as connection:
            repository = PhotosRepository(connection)
            batch = list(islice(repository.iterate_project(project.id), BATCH_SIZE))
            rows = snapshot_photos(connection, [photo.id for photo in batch])
            changes = [removed_photo(folder, project.id, one.id, one.filename, rows[one.id]) for one in batch]
            repository.remove_many(list(rows))
            is_done = len(batch) < BATCH_SIZE
            if is_done:
                row = removed_project(connection, project.id)
                changes.append(folder_change(FileAction.REMOVED_ROW, folder, project.id, row=row))
                ProjectsRepository(connection).remove(project.id)
            ctx.journal(connection, changes)
        ctx.report.count("rows removed", len(batch))
    ctx.report.count("projects removed", example=project.project_name)
