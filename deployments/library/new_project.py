"""Creates a new, empty project: row, folder and manifest together, or none of them."""

from __future__ import annotations

from pathlib import Path

from deployments.errors import DeploymentsError
from storage.database.clock import format_timestamp
from storage.database.engine import Database
from storage.library import Library, Manifest, sanitise_folder_name, write_manifest
from storage.photos.projects import ProjectsRepository
from storage.records import Project
from storage.settings import Settings


class FolderTaken(DeploymentsError):
    """The folder of a new project exists already, or belongs to another project."""


def add_project(
    database: Database, settings: Settings, *, name: str, tenant_id: str, folder: str | None = None
) -> tuple[Project, Path]:
    """Add an empty project; return its row and its folder.

    Args:
        database: the database for the row.
        settings: the settings with the library's root, which must exist.
        name: the name for people.
        tenant_id: the tenant.
        folder: the folder's name; by default derived from `name`.

    Raises:
        FolderTaken: the folder exists, or another project has it.
        LibraryUnavailable: the library's root does not exist.
        UnsafePath: the tenant or the folder cannot be the name of a folder.
    """
    folder = sanitise_folder_name(name) if folder is None else folder
    place = Library(settings.library_root).project(tenant_id, folder)
    with database.begin() as connection:
        projects = ProjectsRepository(connection)
        if any(project.project_folder == folder for project in projects.list_beside(tenant_id)):
            raise FolderTaken(f'"{folder}" is the folder of another project; give another one with --folder.')
        if place.exists():
            raise FolderTaken(
                f"{place.path} is there already. `photojobs run folder_discovery` makes a project of it; or give "
                "another one with --folder."
            )
        project = projects.create(project_name=name, project_folder=folder, tenant_id=tenant_id)
        place.create()
        manifest = Manifest(name=name, id=project.id, created_at=format_timestamp(project.created_at))
        write_manifest(place, manifest, at=database.clock())
    return project, place.path
