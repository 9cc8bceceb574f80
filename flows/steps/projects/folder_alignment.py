"""The step `folder_alignment`: it reports project folders whose name differs from the name of the project.

With the setting `rename_user_files = "rename"`, the step renames these folders. Of their contents, only the manifest
may change. The default of the setting is `report`. `flows.steps.projects.folder_discovery` follows folders that a user
renamed.
"""

import re
from functools import partial

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.projects.manifest_check import write_manifest_if_different
from flows.steps.targets.folder_owner import manifest_id
from flows.steps.targets.journal_changes import folder_change
from flows.steps.targets.target_projects import check_project, checked_projects, each_project
from storage.errors import ConstraintViolated
from storage.history.journal import FileAction
from storage.history.row_snapshots import snapshot_project
from storage.library.errors import Collision, CrossesFileSystems, UnsafePath
from storage.library.naming.names import MAX_FOLDER_NAME_BYTES, cut_to_bytes, name_key, sanitize_folder_name
from storage.library.paths import ProjectFolder
from storage.library.transfer import rename_folder_without_overwrite
from storage.photos.projects import ProjectsRepository
from storage.records import Project


@step("folder_alignment", unit="projects")
def folder_alignment(ctx: StepContext) -> None:
    """Report or rename project folders whose name differs from the project's name."""
    projects = checked_projects(ctx)
    each_project(ctx, partial(_align, ctx, _FolderOwners(ctx)), projects=projects)


class _FolderOwners:
    """The projects by folder name, so that no two projects of the tenant get the same folder."""

    def __init__(self, ctx: StepContext) -> None:
        projects = ProjectsRepository(ctx.database).list_beside(ctx.tenant_id)
        self._owners: dict[str, set[int]] = {}
        for project in projects:
            self._owners.setdefault(name_key(project.project_folder), set()).add(project.id)

    def is_free(self, name: str, project: Project) -> bool:
        return self._owners.get(name_key(name), set()) <= {project.id}

    def move(self, project: Project, name: str) -> None:
        self._owners.get(name_key(project.project_folder), set()).discard(project.id)
        self._owners.setdefault(name_key(name), set()).add(project.id)

    def name_for(self, project: Project) -> str:
        """Return the project's name as a folder name, with a number if another project has that name."""
        wanted = sanitize_folder_name(project.project_name, fallback=f"project-{project.id}")
        if self.is_free(wanted, project):
            return wanted
        number = 2
        while True:
            ending = f"_{number}"
            candidate = cut_to_bytes(wanted, MAX_FOLDER_NAME_BYTES - len(ending)).rstrip(". ") + ending
            if re.fullmatch(re.escape(candidate.removesuffix(ending)) + r"_\d+", project.project_folder):
                return project.project_folder
            if self.is_free(candidate, project):
                return candidate
            number += 1


def _align(ctx: StepContext, owners: _FolderOwners, project: Project, folder: ProjectFolder) -> None:
    wanted = owners.name_for(project)
    if wanted == folder.project_folder:
        return
    if ctx.settings.rename_user_files == "report":
        example = f"{folder.project_folder}: the name of its project would make it {wanted}"
        ctx.report.count("folders that are not named like their projects", example=example)
        return
    # True if a user renamed the folder. Only the first attempt can know this: a later attempt may find a folder that
    # an earlier, interrupted attempt renamed.
    is_followed = False
    try:
        target = folder.tenant.project(wanted)
        if folder.exists():
            # The manifest is written before the rename, so that the next run finds the folder after an interruption.
            ctx.checkpoint()
            check_project(ctx, project, folder)
            write_manifest_if_different(ctx, project, folder)
            # The number of attempts must be durable before the rename, because a later attempt relies on it.
            ctx.database.sync()
            rename_folder_without_overwrite(folder.path, target.path)
        elif manifest_id(target) == project.id:
            is_followed = ctx.job.attempts == 0
        else:
            ctx.report.count("skipped", example=f"{folder.project_folder}: the folder is missing")
            return
    except (Collision, CrossesFileSystems, UnsafePath) as error:
        ctx.report.count("skipped", example=f"{folder.project_folder}: {error}")
        return
    if _write_row(ctx, project, folder, target, is_followed=is_followed):
        owners.move(project, wanted)


def _write_row(
    ctx: StepContext, project: Project, folder: ProjectFolder, target: ProjectFolder, *, is_followed: bool
) -> bool:
    try:
        with ctx.transaction(project_ids=[project.id]) as connection:
            action = FileAction.FOLLOWED_FOLDER if is_followed else FileAction.RENAMED_FOLDER
            row = snapshot_project(connection, project.id)
            ProjectsRepository(connection).rename(project.id, project_folder=target.project_folder)
            ctx.journal(connection, [folder_change(action, folder, project.id, target=target, row=row)])
    except ConstraintViolated:
        # Another program has created a project with that folder. This project's row still has the old folder name, so
        # the folder is renamed back.
        rename_folder_without_overwrite(target.path, folder.path)
        reason = f"another project already has the folder {target.project_folder}, so the folder keeps its name"
        ctx.report.count("skipped", example=f"{folder.project_folder}: {reason}")
        return False
    ctx.report.count("renamed", example=f"{folder.project_folder} → {target.project_folder}")
    return True
