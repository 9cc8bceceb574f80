"""The steps that delete projects for good: nothing goes to the trash. No other step removes the folder of a project.

Only archived projects are deleted. `flows.steps.projects.orphaned_projects` removes rows of projects whose folder is
missing.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from flows.errors import PermanentStepError
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.targets.folder_owner import archived_as_gone, has_known_photo, has_unchanged_photo, manifest_id
from flows.steps.targets.journal_changes import folder_change, relative_path
from flows.steps.targets.target_projects import compared, each_project
from storage.database.tables import projects as projects_table
from storage.history.foreign_rows import removal_refusals
from storage.history.journal import FileAction, JournalEntry, last_entry, withdraw_entry
from storage.history.row_snapshots import removed_project, snapshot_project
from storage.library.paths import ProjectFolder
from storage.library.removal import finish_removal, remove_project_folder
from storage.library.scan import scan
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.queue.jobs import JobsRepository
from storage.queue.project_claims import claiming_jobs
from storage.records import Project

#: The end of a message, with what a user can do.
_ANOTHER: Final = "another folder of this name; rename it, and `photojobs run folder_discovery` makes it a project"

#: A function that returns the reason why the folder of a project must not be removed; None if it may be removed.
_ReasonToKeep: TypeAlias = Callable[[StepContext, Project, ProjectFolder], str | None]


class ProjectStillActive(PermanentStepError):
    """The files or rows of a project cannot be deleted because it is not archived."""


class ProjectNotNamed(PermanentStepError):
    """A job that deletes a project names no project, so it would delete all projects of its tenant or of its photos."""


@step("project_stop_processes", unit="projects")
def project_stop_processes(ctx: StepContext) -> None:
    """Archive the project and cancel its other jobs."""
    _refuse_other_scopes(ctx)
    projects = [*ctx.projects(), *ctx.projects(archived=True)]
    was_interrupted = False
    for number, project in enumerate(projects):
        # `ctx.project` is not used, because it waits for the jobs that have claimed the project. This step cancels
        # these jobs.
        with ctx.transaction(enqueues=True, project_ids=[project.id]) as connection:
            working = set(claiming_jobs(connection, project.id)) - {ctx.job.id}
            if not project.is_archived:
                ProjectsRepository(connection).archive(project.id)
                ctx.report.count("archived", example=project.project_name)
            # This job and the jobs of its task are not canceled.
            canceled = JobsRepository(connection).cancel_by_project(
                project.id, except_task_id=ctx.job.task_id, except_job_id=ctx.job.id
            )
        for job in canceled:
            ctx.report.count("canceled", example=f"job {job.id} ({job.type})")
        was_interrupted |= any(job.id in working for job in canceled)
        ctx.progress(number + 1, len(projects))
    if was_interrupted:
        # An executor notices within two heartbeats that its job was canceled. Until then it may still write files into
        # the folder that the next step removes, so this step waits.
        ctx.claim.lost.wait(2 * ctx.settings.heartbeat_seconds)
        ctx.checkpoint()


@step("project_delete_files", unit="projects")
def project_delete_files(ctx: StepContext) -> None:
    """Remove the project's folder and all its files for good, without the trash."""
    ctx.library.check_available()
    _refuse_active(ctx)
    each_project(ctx, partial(_delete_files, ctx), projects=ctx.projects(archived=True))


@step("project_cleanup_db", unit="projects")
def project_cleanup_db(ctx: StepContext) -> None:
    """Remove the rows of the project, its photos and its tags."""
    _refuse_active(ctx)
    each_project(ctx, partial(_remove_row, ctx), projects=ctx.projects(archived=True))


@step("project_scavenge", unit="projects")
def project_scavenge(ctx: StepContext) -> None:
    """Remove the remaining folders of archived projects."""
    ctx.library.check_available()
    each_project(ctx, partial(_remove_folder, ctx, _reason_to_keep), projects=ctx.projects(archived=True))


def _refuse_other_scopes(ctx: StepContext) -> None:
    if ctx.job.scope != "project":
        raise ProjectNotNamed(
            f"{ctx.job.type}: the job names no project, and this step works only on the project that the job names. "
            "Start it for one project, with the scope `project`."
        )


def _refuse_active(ctx: StepContext) -> None:
    _refuse_other_scopes(ctx)
    for project in ctx.projects():
        raise ProjectStillActive(
            f"project {project.id} ({project.project_name}) is active. "
            "Archive it first with the step project_stop_processes."
        )


def _refuse_dependent_rows(ctx: StepContext, project: Project) -> None:
    with ctx.read() as connection:
        for refusal in removal_refusals(connection, projects_table, [project.id]).values():
            raise PermanentStepError(refusal)


def _delete_files(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    # Removed files cannot be restored, so they are removed only if the rows can be removed too.
    _refuse_dependent_rows(ctx, project)
    _remove_folder(ctx, _reason_of_another_folder, project, folder)


def _remove_row(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    ctx.checkpoint()
    _refuse_dependent_rows(ctx, project)
    with ctx.transaction() as connection:
        row = removed_project(connection, project.id)
        ctx.journal(connection, [folder_change(FileAction.REMOVED_ROW, folder, project.id, row=row)])
        removed = ProjectsRepository(connection).remove(project.id)
    ctx.report.count("projects removed", int(removed), example=project.project_name)
    if folder.exists():
        ctx.report.count("folders kept", example=relative_path(folder))


def _remove_folder(ctx: StepContext, reason_to_keep: _ReasonToKeep, project: Project, folder: ProjectFolder) -> None:
    ctx.checkpoint()
    entry = _own_removal(ctx, project)
    # If an earlier attempt has begun the removal, a folder at this place is a new folder, which stays.
    if entry is not None and folder.tenant.path.is_dir() and finish_removal(folder):
        ctx.report.count("folders removed", example=relative_path(folder))
        return
    reason = reason_to_keep(ctx, project, folder)
    if reason is not None:
        ctx.report.count("kept", example=f"{relative_path(folder)}: {reason}")
        return
    if entry is None and folder.exists():
        # The journal is written first, because a removal cannot be undone and may be interrupted.
        with ctx.transaction(durable=True) as connection:
            row = snapshot_project(connection, project.id)
            ctx.journal(connection, [folder_change(FileAction.REMOVED, folder, project.id, row=row)])
        entry = _own_removal(ctx, project)
    try:
        removed = remove_project_folder(folder)
    except Exception:
        if entry is not None and folder.exists():
            with ctx.transaction() as connection:
                withdraw_entry(connection, entry.id)
        raise
    ctx.report.count("folders removed", int(removed), example=relative_path(folder))


def _own_removal(ctx: StepContext, project: Project) -> JournalEntry | None:
    """Return the journal's entry about the removal of the project's folder, if this job has written it."""
    with ctx.read() as connection:
        known = last_entry(connection, project_id=project.id, action=FileAction.REMOVED)
    return known if known is not None and known.job_id == ctx.job.id else None


def _reason_to_keep(ctx: StepContext, project: Project, folder: ProjectFolder) -> str | None:
    """Return the reason why the folder of an archived project must not be removed; None if it may be removed."""
    if not folder.exists():
        return None
    with ctx.read() as connection:
        if archived_as_gone(connection, project) is not None:
            return (
                "the folder was missing when the project was archived, and is back; "
                "folder_discovery reactivates the project"
            )
    owner_id = manifest_id(folder)
    if owner_id is None:
        return (
            _reason_of_earlier_removal(ctx, project, folder)
            or _reason_of_unknown_photos(ctx, project, folder)
            or _reason_of_other_photos(ctx, project, folder)
        )
    if owner_id != project.id:
        return f"the folder's manifest says that the folder belongs to project {owner_id}"
    return None


def _reason_of_another_folder(ctx: StepContext, project: Project, folder: ProjectFolder) -> str | None:
    return _reason_of_earlier_removal(ctx, project, folder) or _reason_of_other_photos(ctx, project, folder)


def _reason_of_earlier_removal(ctx: StepContext, project: Project, folder: ProjectFolder) -> str | None:
    """Return a reason if the project's folder was removed after the project was archived, so this is another folder."""
    if not folder.exists() or manifest_id(folder) is not None:
        return None
    with ctx.read() as connection:
        removed = last_entry(connection, project_id=project.id, action=FileAction.REMOVED)
    if removed is None or removed.job_id == ctx.job.id or removed.source != relative_path(folder):
        return None
    if project.archived_at is not None and removed.created_at < project.archived_at:
        return None
    return f"the project's folder was removed on {removed.created_at:%Y-%m-%d}, so this is {_ANOTHER}"


def _reason_of_unknown_photos(ctx: StepContext, project: Project, folder: ProjectFolder) -> str | None:
    """Return a reason if the folder has a photo that is not a photo of the project, although the project has photos."""
    if next(PhotosRepository(ctx.database).iterate_project(project.id, batch_size=1), None) is None:
        return None
    with compared(ctx, project, folder, is_reported=False) as comparison:
        for names in comparison.new_names():
            return f"it has no manifest, and {names[0].name} is no photo of the project, so it may be {_ANOTHER}"
    return None


def _reason_of_other_photos(ctx: StepContext, project: Project, folder: ProjectFolder) -> str | None:
    """Return a reason if the folder has no manifest, and all its photos differ from the known photos of the project.

    The names of the photos may be the same, because cameras use the same names again.
    """
    if not folder.exists() or manifest_id(folder) is not None:
        return None
    if not has_known_photo(ctx, project) or not any(file.kind.is_photo for file in scan(folder)):
        return None
    if not has_unchanged_photo(ctx, project, folder, with_change_time=False):
        return f"it has no manifest and no unchanged photo of the project, so it may be {_ANOTHER}"
    return None
