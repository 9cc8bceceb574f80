"""The step `manifest_check`: it writes manifests from the database, and updates which files are marked as available.

`flows.steps.following.manifest_cleaning` decides when the row of a photo without files is removed.
"""

from functools import partial

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.targets.journal_changes import relative_path
from flows.steps.targets.target_projects import checked_projects, compared, each_project, has_safe_name
from storage.comparison.reconciliation import ProjectComparison
from storage.database.clock import format_timestamp
from storage.history.journal import FileAction, FileChange
from storage.library.manifest import Manifest, WrittenManifest, write_manifest
from storage.library.paths import ProjectFolder
from storage.photos.availability import AVAILABILITY_COLUMNS, write_availability
from storage.records import Project


@step("manifest_check", unit="projects")
def manifest_check(ctx: StepContext) -> None:
    """Repair the manifest, and make the rows say which files are available on disk."""
    each_project(ctx, partial(_check, ctx), projects=checked_projects(ctx), skips_missing=True)


def manifest_of(project: Project) -> Manifest:
    """Return the manifest that a project should have."""
    return Manifest(
        name=project.project_name or project.project_folder,
        id=project.id,
        created_at=format_timestamp(project.created_at),
    )


def write_manifest_if_different(ctx: StepContext, project: Project, folder: ProjectFolder) -> bool:
    """Write and journal a project's manifest if it differs from the row. Return whether it was written.

    The journal and all earlier commits are made durable first, because later runs trust the manifest.
    """

    def announce(written: WrittenManifest) -> None:
        path = relative_path(folder, folder.manifest_path)
        row = {"before": written.before, "after": written.after}
        changes = [FileChange(action=FileAction.WROTE_MANIFEST, source=path, project_id=project.id, row=row)]
        if written.trashed is not None:
            target = relative_path(folder, written.trashed)
            trash = FileChange(action=FileAction.TRASHED, source=path, target=target, project_id=project.id)
            changes.insert(0, trash)
        with ctx.transaction(durable=True) as connection:
            # The entries are for an undo, and a job without a task cannot be undone.
            if ctx.job.task_id is not None:
                ctx.journal(connection, changes)

    return write_manifest(folder, manifest_of(project), at=ctx.now(), announce=announce) is not None


def _check(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    # The manifest is written last, so that the rows are right even if the manifest cannot be written.
    with compared(ctx, project, folder) as comparison:
        _align_availability(ctx, comparison)
    ctx.checkpoint()
    if write_manifest_if_different(ctx, project, folder):
        ctx.report.count("manifests written", example=project.project_name)


def _align_availability(ctx: StepContext, comparison: ProjectComparison) -> None:
    for batch in comparison.differing_availability():
        changes = [change for change in batch if has_safe_name(ctx, change.photo_id, change.filename)]
        ctx.checkpoint()
        ids = [change.photo_id for change in changes]
        with ctx.transaction(photo_ids=ids, columns=AVAILABILITY_COLUMNS) as connection:
            write_availability(connection, changes, now=ctx.now())
        for change in changes:
            kinds = [kind for kind, flag in zip(("JPEG", "RAW", "other"), change.flags, strict=True) if flag]
            ctx.report.count(
                "photos with updated availability", example=f"{change.filename}: {', '.join(kinds) or 'no file'}"
            )
