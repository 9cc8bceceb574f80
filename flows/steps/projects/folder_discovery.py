"""The step `folder_discovery`: it updates the rows of projects after users created, renamed or removed folders.

`manifest_check` and `folder_check` compare the files of known projects. `flows.steps.targets.folder_owner` decides
whether a folder is a renamed one or a copy, and `flows.steps.projects.folder_merge` whether a copy is merged.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count

from flows.errors import StepTimeout, reason_of
from flows.handlers.failures import Failures
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.following.arrivals import Arrivals
from flows.steps.projects.folder_merge import FolderMerge, is_companion_folder
from flows.steps.projects.manifest_check import write_manifest_if_different
from flows.steps.targets.folder_owner import (
    archived_as_gone,
    is_only_name,
    manifest_id,
    other_owner,
    readable_manifest,
    took_project_along,
)
from flows.steps.targets.journal_changes import folder_change, relative_path
from flows.steps.targets.target_projects import ProjectUnavailable, check_disk, check_project, compared
from flows.steps.targets.whereabouts import archive_as_gone
from storage.history.journal import FileAction, FileChange
from storage.history.row_snapshots import snapshot_project
from storage.library.errors import LibraryError
from storage.library.manifest import Manifest
from storage.library.naming.names import MAX_FOLDER_NAME_BYTES, cut_to_bytes, name_key, sanitize_folder_name
from storage.library.paths import ProjectFolder, TenantFolder
from storage.library.scan import ScannedFile, scan
from storage.library.transfer import rename_folder_without_overwrite
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.records import Project


@step("folder_discovery", unit="library")
def folder_discovery(ctx: StepContext) -> None:
    """Make the rows of projects agree with the folders of the library."""
    ctx.library.check_available()
    tenant = ctx.library.tenant(ctx.tenant_id)
    every = ProjectsRepository(ctx.database).list_beside(ctx.tenant_id)
    if any(not project.is_archived for project in every if _is_of(project, ctx)):
        check_disk(ctx)
    if not ctx.library.is_missing_or_empty(tenant.path):
        _Discovery(ctx, tenant, every).run()


@dataclass(slots=True)
class _Found:
    """A folder without a project, and its manifest."""

    folder: ProjectFolder
    manifest: Manifest | None
    has_files: bool

    @property
    def name(self) -> str:
        """The name for the folder's project: the name in the manifest, or else the name of the folder."""
        return self.folder.project_folder if self.manifest is None else self.manifest.name


class _Discovery:
    """One comparison of a tenant's folders with its projects."""

    def __init__(self, ctx: StepContext, tenant: TenantFolder, every: list[Project]) -> None:
        self._ctx = ctx
        self._tenant = tenant
        left_out = ctx.targets.left_out
        own = [project for project in every if _is_of(project, ctx)]
        passed_by = left_out.folders | {one.project_folder for one in own if one.id in left_out.projects}
        self._on_disk = sorted(set(tenant.project_folders()) - passed_by)
        self._projects = {project.id: project for project in own if project.id not in left_out.projects}
        self._taken = {project.project_folder for project in every}
        #: The folder names that projects gave up, because other projects have these folders now, by project id.
        self._given_up: dict[int, str] = {}
        #: The ids of the projects whose renamed folder has the name of another tenant's project.
        self._stuck: set[int] = set()
        self._arrivals = Arrivals(ctx)
        self._failures = Failures()

    def run(self) -> None:
        """Find or create the project of each folder; then archive the projects whose folder is missing."""
        ctx = self._ctx
        known = {project.project_folder: project for project in self._projects.values()}
        tasks = len(self._on_disk)
        # Renamed folders come first, because their photos may have been moved to the other folders.
        for number, name in enumerate(sorted(self._on_disk, key=lambda name: not self._is_renamed(name))):
            ctx.checkpoint()
            try:
                # An earlier iteration may have found the folder's project under another name, so the current row is
                # used.
                project = self._projects[known[name].id] if name in known else None
                if project is not None and project.project_folder == name and not self._gave_up_name(project):
                    self._check_known(project)
                else:
                    self._find_project(name)
            except StepTimeout:
                raise
            except Exception as error:  # noqa: BLE001 - only this folder fails.
                self._fail(name, error)
            ctx.progress(number + 1, tasks)
        self._arrivals.follow_moves()
        for project in list(self._projects.values()):
            ctx.checkpoint()
            if not project.is_archived and project.id not in self._stuck:
                try:
                    self._archive_if_gone(project)
                except (LibraryError, OSError) as error:
                    self._fail(project.project_name, error)
        folders = {*self._on_disk, *(project.project_folder for project in self._projects.values())}
        self._failures.count_tried("folder", len(folders))
        self._failures.raise_if_any()

    def _fail(self, name: str, error: Exception) -> None:
        self._ctx.report.fail(name, reason_of(error))
        self._ctx.logger.warning("folder %s: %s", name, reason_of(error))
        self._failures.add("folder", error, name=name)

    def _is_renamed(self, name: str) -> bool:
        with suppress(LibraryError, OSError):
            owner_id = None if name in self._taken else manifest_id(self._tenant.project(name))
            owner = None if owner_id is None else self._projects.get(owner_id)
            return owner is not None and took_project_along(self._ctx, owner, self._tenant.project(name))
        return False

    def _check_known(self, project: Project) -> None:
        ctx = self._ctx
        folder = ctx.folder_of(project)
        if project.is_archived:
            if self._is_away(project):
                self._reactivate(project, folder)
            return
        if readable_manifest(folder) is None and not folder.manifest_path.exists():
            # The manifest is written last. Without it, an earlier run may not have stored all photos of the project.
            check_project(ctx, project, folder)
            with ctx.exclusively([project.id]):
                self._take_in(project, folder)
            ctx.report.count("projects completed", example=project.project_name)

    def _gave_up_name(self, project: Project) -> bool:
        """Return whether the folder with the name in a project's row is now the folder of another project.

        If so, the row gets a free folder name. Later, the project's own folder is found by its manifest. If there is no
        such folder, the project is archived because its folder is missing.
        """
        ctx, folder = self._ctx, self._ctx.folder_of(project)
        if other_owner(ctx, project, folder) is None:
            return False
        self._rename(project, self._tenant.project(self._free_name(folder.project_folder)))
        self._given_up[project.id] = folder.project_folder
        return True

    def _find_project(self, name: str) -> None:
        folder = self._tenant.project(name)

        def is_content(file: ScannedFile) -> bool:
            return not file.is_hidden and not is_companion_folder(folder, file)

        found = _Found(folder, readable_manifest(folder), any(map(is_content, scan(folder))))
        owner = self._owner(found)
        if owner is not None and self._is_moved(owner, found):
            if name in self._taken:
                self._stuck.add(owner.id)
                self._skip_taken(folder)
            else:
                self._follow_rename(owner, folder)
            return
        if owner is not None and not found.has_files and found.manifest is not None:
            self._ctx.report.count("empty folders ignored", example=relative_path(folder))
            return
        for twin in self._twins(found) if self._ctx.settings.merge_folders and found.has_files else ():
            if self._merge(found, twin):
                return
        # Users copy folders on purpose, for example for prints. A copy becomes a project with the name of its folder.
        self._create(found, name=name if owner is not None else found.name)

    def _owner(self, found: _Found) -> Project | None:
        """Return the project that the found folder belongs to, by its manifest or its name.

        The result is None if there is no such project, or if a user archived the project.
        """
        if found.manifest is not None:
            owner = self._projects.get(found.manifest.id)
        else:
            key = name_key(found.folder.project_folder)
            owner = next((one for one in self._projects.values() if name_key(one.project_folder) == key), None)
        if owner is None or (owner.is_archived and not self._is_away(owner)):
            return None
        return owner

    def _is_moved(self, owner: Project, found: _Found) -> bool:
        if found.manifest is None:
            return is_only_name(self._ctx, owner, found.folder)
        return took_project_along(self._ctx, owner, found.folder)

    def _twins(self, found: _Found) -> Iterator[Project]:
        """Yield the active projects that the found folder may be a copy of, by its name or its manifest."""
        keys = {name_key(found.name), name_key(found.folder.project_folder)}
        for project in list(self._projects.values()):
            same = {name_key(project.project_name), name_key(project.project_folder)}
            is_copied = found.manifest is not None and found.manifest.id == project.id
            is_twin = is_copied or not same.isdisjoint(keys)
            if not project.is_archived and is_twin and self._has_folder(project):
                yield project

    def _has_folder(self, project: Project) -> bool:
        # A folder that leads out of the library, or is unavailable, is reported elsewhere. It must not affect other
        # folders, and nothing is merged into it.
        with suppress(LibraryError, OSError, ProjectUnavailable):
            folder = self._ctx.folder_of(project)
            check_project(self._ctx, project, folder)
            return folder.exists()
        return False

    def _create(self, found: _Found, *, name: str) -> None:
        ctx, folder = self._ctx, found.folder
        if folder.project_folder not in self._taken:
            project = self._add_project(name, folder)
        elif ctx.settings.rename_user_files == "rename":
            project = self._make_under_another_name(folder, name)
        else:
            self._skip_taken(folder)
            return
        ctx.report.count("projects created", example=project.project_name)
        with ctx.exclusively([project.id]):
            self._take_in(project, ctx.folder_of(project))

    def _skip_taken(self, folder: ProjectFolder) -> None:
        reason = "another tenant's project has a folder of this name; rename one of the folders"
        self._ctx.report.count("skipped", example=f"{folder.project_folder}: {reason}")

    def _add_project(self, name: str, folder: ProjectFolder, *, renamed: FileChange | None = None) -> Project:
        ctx = self._ctx
        with ctx.transaction(durable=renamed is not None) as connection:
            project = ProjectsRepository(connection).create(
                project_name=name, project_folder=folder.project_folder, tenant_id=ctx.tenant_id
            )
            if renamed is not None:
                ctx.journal(connection, [renamed])
            ctx.journal_added(connection, project)
        self._remember(project)
        return project

    def _make_under_another_name(self, folder: ProjectFolder, name: str) -> Project:
        """Create a project for a folder whose name another tenant's project has, and rename the folder.

        The row is written first: after a crash, the next run renames the folder to the name in the row.
        """
        stem = _stem(folder.project_folder)
        project = next((one for one in self._projects.values() if self._waits_for_folder(one, name, stem)), None)
        if project is None:
            target = self._tenant.project(self._free_name(folder.project_folder))
            change = folder_change(FileAction.RENAMED_FOLDER, folder, None, target=target)
            project = self._add_project(name, target, renamed=change)
        target = self._ctx.folder_of(project)
        rename_folder_without_overwrite(folder.path, target.path)
        self._ctx.report.count("folders renamed", example=f"{folder.project_folder} → {target.project_folder}")
        return project

    def _free_name(self, project_folder: str) -> str:
        taken = {name_key(name) for name in (*self._on_disk, *self._taken)}
        stem = _stem(project_folder)
        return next(new for number in count(2) if name_key(new := f"{stem}_{number}") not in taken)

    def _waits_for_folder(self, project: Project, name: str, stem: str) -> bool:
        """Return whether an earlier run created the project but was interrupted before it renamed the folder."""
        has_such_names = project.project_name == name and re.fullmatch(
            re.escape(stem) + r"_\d+", project.project_folder
        )
        if not has_such_names or project.is_archived or self._ctx.folder_of(project).exists():
            return False
        return next(PhotosRepository(self._ctx.database).iterate_project(project.id, batch_size=1), None) is None

    def _follow_rename(self, project: Project, folder: ProjectFolder) -> None:
        self._rename(project, folder)
        former = self._given_up.get(project.id, project.project_folder)
        self._ctx.report.count("renames followed", example=f"{former} → {folder.project_folder}")

    def _rename(self, project: Project, folder: ProjectFolder) -> None:
        """Give a project's row the name of another folder. If the folder exists, it gets the project's manifest."""
        ctx = self._ctx
        with ctx.exclusively([project.id]):
            # A user may have given the project another name since the step began.
            project = ctx.reload(project) or project
            # The project's name changes with the folder's name only if both were equal before. If not, a user chose the
            # project's name, so it stays.
            was_aligned = sanitize_folder_name(project.project_name) == project.project_folder
            name = folder.project_folder if was_aligned else project.project_name
            renamed = replace(project, project_name=name, project_folder=folder.project_folder)
            is_found = folder.exists()
            if is_found:
                write_manifest_if_different(ctx, renamed, folder)
            with ctx.transaction(project_ids=[project.id]) as connection:
                projects = ProjectsRepository(connection)
                row = snapshot_project(connection, project.id)
                former = self._tenant.project(project.project_folder)
                change = folder_change(FileAction.FOLLOWED_FOLDER, former, project.id, target=folder, row=row)
                projects.rename(project.id, project_folder=folder.project_folder, project_name=name)
                if project.is_archived and is_found:
                    projects.restore(project.id)
                    renamed = replace(renamed, status=None, archived_at=None)
                ctx.journal(connection, [change])
            self._taken.discard(project.project_folder)
            self._remember(renamed)

    def _merge(self, found: _Found, twin: Project) -> bool:
        """Merge a folder into a project, unless `FolderMerge` refuses it; return whether it was merged."""
        ctx, name = self._ctx, found.folder.project_folder
        with ctx.exclusively([twin.id]):
            target = ctx.folder_of(twin)
            merge = FolderMerge(ctx, found.folder, target, twin)
            refusal = merge.refusal()
            if refusal is not None:
                ctx.report.count("folders not merged", example=f"{name} into {twin.project_name}: {refusal}")
                return False
            merge.run()
            self._add_rows(twin, target)
        ctx.report.count("folders merged", example=f"{name} into {twin.project_name}")
        return True

    def _take_in(self, project: Project, folder: ProjectFolder) -> None:
        folder.create_hidden_folders()
        self._add_rows(project, folder)
        write_manifest_if_different(self._ctx, project, folder)

    def _add_rows(self, project: Project, folder: ProjectFolder) -> None:
        with compared(self._ctx, project, folder) as comparison:
            self._arrivals.take(comparison, project, folder)

    def _reactivate(self, project: Project, folder: ProjectFolder) -> None:
        ctx = self._ctx
        owner_id = manifest_id(folder)
        if owner_id not in (None, project.id):
            reason = f"folder {folder.project_folder} has the manifest of project {owner_id}"
            ctx.report.count("projects kept archived", example=f"{project.project_name}: {reason}")
            return
        with ctx.exclusively([project.id]), ctx.transaction(project_ids=[project.id]) as connection:
            restored = ProjectsRepository(connection).restore(project.id)
        if restored is not None:
            self._remember(restored)
            ctx.report.count("projects reactivated", example=project.project_name)

    def _archive_if_gone(self, project: Project) -> None:
        ctx = self._ctx
        if ctx.folder_of(project).exists():
            return
        with ctx.exclusively([project.id]):
            fresh = ctx.reload(project)
            # A user may have renamed the project or created its folder in the meantime, so the row and the folder are
            # checked again.
            if fresh is None or fresh.is_archived or ctx.folder_of(fresh).exists():
                return
            check_disk(ctx)
            archive_as_gone(ctx, fresh, ctx.folder_of(fresh))

    def _is_away(self, project: Project) -> bool:
        with self._ctx.read() as connection:
            return archived_as_gone(connection, project) is not None

    def _remember(self, project: Project) -> None:
        self._projects[project.id] = project
        self._taken.add(project.project_folder)


def _stem(project_folder: str) -> str:
    # folder_alignment numbers folders in the same way.
    return cut_to_bytes(sanitize_folder_name(project_folder), MAX_FOLDER_NAME_BYTES - 10)


def _is_of(project: Project, ctx: StepContext) -> bool:
    return ctx.tenant_of(project) == ctx.tenant_id
