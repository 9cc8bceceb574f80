"""Creates a new, empty project: its row, its folder and its manifest."""

from __future__ import annotations

from pathlib import Path

from deployments.errors import DeploymentsError
from storage.database.clock import format_timestamp
from storage.database.engine import Database
from storage.library.manifest import Manifest, write_manifest
from storage.library.naming.names import sanitize_folder_name
from storage.library.paths import TenantFolder
from storage.photos.projects import ProjectsRepository
from storage.records import Project
from storage.settings import Settings


class FolderTaken(DeploymentsError):
    """The folder for a new project exists already, or belongs to another project."""


def add_project(
    database: Database, settings: Settings, *, name: str, tenant_id: str, folder: str | None = None
) -> tuple[Project, Path]:
    """Add an empty project; return its row and its folder.

    People see the project's name. By default, the name of the folder is derived from the name of the project.

    Raises:
        FolderTaken: the folder exists, or belongs to another project.
        LibraryUnavailable: the library's root does not exist, or the disk of existing projects is not mounted.
        UnsafePath: `tenant_id` or `folder` cannot be the name of a folder.
    """
    folder = sanitize_folder_name(name) if folder is None else folder
    place = settings.library.project(tenant_id, folder)
    with database.begin() as connection:
        projects = ProjectsRepository(connection)
        _check_mounted(place.tenant, projects)
        if any(project.project_folder == folder for project in projects.list_beside(tenant_id)):
            raise FolderTaken(f'"{folder}" is the folder of another project; name another folder with --folder.')
        if place.exists():
            raise FolderTaken(
                f"{place.path} already exists. `photojobs run folder_discovery` makes a project of it; or name another "
                "folder with --folder."
            )
        project = projects.create(project_name=name, project_folder=folder, tenant_id=tenant_id)
        place.create()
        manifest = Manifest(name=name, id=project.id, created_at=format_timestamp(project.created_at))
        write_manifest(place, manifest, at=database.clock())
    return project, place.path


def _check_mounted(tenant: TenantFolder, projects: ProjectsRepository) -> None:
    # A folder in an empty mount point would make the library look available, and upkeep would then remove the rows of
    # all projects on the missing disk.
    if projects.list(archived=False):
        tenant.library.check_available()
    active = projects.list(tenant_id=tenant.tenant_id, archived=False)
    tenant.check_available(projects=len(active))
