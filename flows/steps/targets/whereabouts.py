"""Finds where the folders of projects are now, and whether a file that is not found is really missing.

A project whose folder is missing, for example on an unplugged disk, is archived. Such a project becomes active again
when its folder returns, and the step `project_scavenge` does not delete its files. So the journal distinguishes such a
project from a project that a user archived.

`flows.steps.targets.target_projects` has the checks that keep the rows of projects whose disk is missing, and
`flows.steps.projects.orphaned_projects` decides when the rows of a project are removed.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum

from flows.handlers.step_context import StepContext
from flows.steps.targets.folder_owner import archived_as_gone, manifest_id, other_owner
from flows.steps.targets.journal_changes import folder_change
from flows.steps.targets.target_projects import ProjectUnavailable, check_project
from storage.history.journal import FileAction
from storage.history.row_snapshots import snapshot_project
from storage.library.errors import FolderUnreadable, LibraryError, ManifestUnreadable, UnsafePath
from storage.library.manifest import read_manifest
from storage.library.paths import ProjectFolder, TenantFolder
from storage.photos.original_search import KnownOriginal
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.records import Project


def archive_as_gone(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    """Archive a project because its folder is missing, and write this reason to the journal."""
    with ctx.transaction(project_ids=[project.id]) as connection:
        row = snapshot_project(connection, project.id)
        ProjectsRepository(connection).archive(project.id)
        ctx.journal(connection, [folder_change(FileAction.ARCHIVED_AS_GONE, folder, project.id, row=row)])
    ctx.report.count("archived", example=project.project_name)


def folders_without_project(ctx: StepContext) -> list[str]:
    """Return the sorted names of the tenant's folders that are in no row of a project."""
    known = {project.project_folder for project in ProjectsRepository(ctx.database).list(tenant_id=ctx.tenant_id)}
    return sorted(set(ctx.library.tenant(ctx.tenant_id).project_folders()) - known)


def folders_inside(tenant: TenantFolder) -> Iterator[ProjectFolder]:
    """Yield the folders inside the project folders of a tenant, at any depth. Leave out folders that cannot be read."""
    with suppress(LibraryError, OSError):
        for name in sorted(tenant.project_folders()):
            with suppress(LibraryError, OSError):
                outer = replace(tenant, path=tenant.project(name).path)
                for inner in sorted(outer.project_folders()):
                    yield outer.project(inner)
                yield from folders_inside(outer)


class RenamedFolders:
    """Finds renamed folders by their manifests: folders without a project, and folders with an `other_owner`.

    The tenant's folders are read once, at the first call.
    """

    def __init__(self, ctx: StepContext) -> None:
        self._ctx = ctx
        self._by_id: dict[int, str] | None = None
        self._inside: dict[int, str] | None = None
        self._unreadable: list[str] = []

    def folder_of(self, project: Project) -> str | None:
        """Return the present name of the project's folder if the folder was renamed, or None.

        Raises:
            FolderUnreadable: no such folder was found, but a folder that cannot be read may be the project's folder.
        """
        if self._by_id is None:
            self._by_id = self._look()
        name = self._by_id.get(project.id)
        if name is None and self._unreadable:
            raise FolderUnreadable(
                f"Folder {self._unreadable[0]} cannot be read, so it may be the folder of project {project.id} "
                f"({project.project_name}) under another name. Correct the permissions of the folder."
            )
        return name

    def inside_another(self, project: Project) -> str | None:
        """Return the path of the project's folder if a user has moved it into another project's folder, or None.

        The path is relative to the tenant's folder.
        """
        if self._inside is None:
            self._inside = {}
            tenant = self._ctx.library.tenant(self._ctx.tenant_id)
            for folder in folders_inside(tenant):
                with suppress(LibraryError, OSError):
                    inner_id = manifest_id(folder)
                    if inner_id is not None:
                        self._inside.setdefault(inner_id, folder.path.relative_to(tenant.path).as_posix())
        return self._inside.get(project.id)

    def _look(self) -> dict[int, str]:
        tenant = self._ctx.library.tenant(self._ctx.tenant_id)
        found: dict[int, str] = {}
        for name in folders_without_project(self._ctx):
            try:
                manifest = read_manifest(tenant.project(name))
            except OSError:
                self._unreadable.append(name)
            except ManifestUnreadable as error:
                # A folder whose manifest can be read but is not valid belongs to no project.
                if isinstance(error.__cause__, OSError):
                    self._unreadable.append(name)
            except UnsafePath:
                continue
            else:
                if manifest is not None:
                    found.setdefault(manifest.id, name)
        for project in ProjectsRepository(self._ctx.database).list(tenant_id=self._ctx.tenant_id):
            with suppress(LibraryError, OSError):
                owner = other_owner(self._ctx, project, self._ctx.folder_of(project))
                if owner is not None:
                    found.setdefault(owner.id, project.project_folder)
        return found


def create_folder(ctx: StepContext, folder: ProjectFolder, project: Project | None) -> None:
    """Create a missing folder for files that move there, for example the folder of a new project.

    Args:
        ctx: the job's context.
        folder: the folder.
        project: the project that the folder belongs to; None for a folder without a project.

    Raises:
        ProjectUnavailable: the project has photos, so its folder must be elsewhere or on a missing disk; or a user has
            renamed its folder.
        FolderUnreadable: a folder of the tenant cannot be read, so it may be the project's folder.
    """
    if project is not None:
        has_photos = next(PhotosRepository(ctx.database).iterate_project(project.id, batch_size=1), None) is not None
        if has_photos or RenamedFolders(ctx).folder_of(project) is not None:
            raise ProjectUnavailable(
                f"the folder of project {project.id} ({project.project_name}) is missing: {folder.path}. Mount its "
                "disk. If you renamed the folder, run `photojobs run folder_discovery`."
            )
    folder.create()


class ProjectState(StrEnum):
    """The state of a project's folder."""

    HERE = "here"
    #: A user renamed the folder. `folder_discovery` will update the row.
    RENAMED = "renamed"
    #: The folder exists under no name, and no user archived the project.
    MISSING = "missing"
    #: The files of the project cannot be read, for example because a disk is missing or the project does not exist.
    UNAVAILABLE = "unavailable"


class Whereabouts:
    """Finds the folders of the tenant's projects. It searches for a folder once, at the first call for the project."""

    def __init__(self, ctx: StepContext) -> None:
        self._ctx = ctx
        self._renamed = RenamedFolders(ctx)
        self._projects: dict[int, Project] = {}
        self._places: dict[int, tuple[ProjectState, ProjectFolder | None]] = {}

    def __iter__(self) -> Iterator[Project]:
        """Iterate over the tenant's active projects."""
        return iter(ProjectsRepository(self._ctx.database).list(tenant_id=self._ctx.tenant_id, archived=False))

    def project(self, project_id: int) -> Project:
        """Return the project's row as it was when this object searched for the folder."""
        self.state(project_id)
        return self._projects[project_id]

    def state(self, project_id: int) -> ProjectState:
        """Return the state of the project's folder."""
        if project_id not in self._places:
            self._places[project_id] = self._look_at(project_id)
        return self._places[project_id][0]

    def look_again(self, project_id: int) -> ProjectState:
        """Search for the project's folder again, and return its state."""
        self._places.pop(project_id, None)
        return self.state(project_id)

    def is_missing(self, known: KnownOriginal) -> bool:
        """Return whether a file is missing from the folder of its project, even if that folder was renamed."""
        state = self.state(known.project_id)
        folder = self._places[known.project_id][1]
        if folder is None:
            return state is ProjectState.MISSING
        try:
            os.lstat(folder.path / known.name)
        except FileNotFoundError:
            return True
        except OSError:
            pass
        return False

    def _look_at(self, project_id: int) -> tuple[ProjectState, ProjectFolder | None]:
        ctx = self._ctx
        with ctx.read() as connection:
            project = ProjectsRepository(connection).get_by_id(project_id)
            if project is None:
                return ProjectState.UNAVAILABLE, None
            is_wanted = not project.is_archived or archived_as_gone(connection, project) is not None
        self._projects[project_id] = project
        with suppress(LibraryError, OSError, ProjectUnavailable):
            folder = ctx.folder_of(project)
            if folder.exists():
                check_project(ctx, project, folder)
                return ProjectState.HERE, folder
            if is_wanted:
                name = self._renamed.folder_of(project)
                if name is not None:
                    return ProjectState.RENAMED, folder.tenant.project(name)
                return ProjectState.MISSING, None
        return ProjectState.UNAVAILABLE, None
