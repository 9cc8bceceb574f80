"""Where a path of the journal lies now: folders of projects may have been renamed since it was written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from flows.handlers.step_context import StepContext
from storage.library import ProjectFolder
from storage.library.errors import UnsafePath
from storage.photos.projects import ProjectsRepository
from storage.records import Project


class Places:
    """Turns paths of the journal into paths of the library, each checked to stay inside its project."""

    def __init__(self, ctx: StepContext) -> None:
        self._ctx = ctx
        self._projects: dict[int, Project] = {}
        self._by_folder: dict[str, int] = {}

    def look(self) -> None:
        """Read which project has which folder now."""
        with self._ctx.read() as connection:
            every = ProjectsRepository(connection).list_beside(self._ctx.tenant_id)
        self._projects = {project.id: project for project in every}
        self._by_folder = {project.project_folder: project.id for project in every}

    def project(self, project_id: int | None) -> Project | None:
        """The tenant's project of that id, if there is one now."""
        found = self._projects.get(project_id) if project_id is not None else None
        return found if found is not None and self._ctx.tenant_of(found) == self._ctx.tenant_id else None

    def owner(self, project_folder: str) -> Project | None:
        """The project because of which no other one of the tenant can have this folder now."""
        return self._projects.get(self._by_folder.get(project_folder, 0))

    def folders(self, project_ids: Iterable[int]) -> dict[int, str]:
        """The folder of each of these projects."""
        return {one: self._projects[one].project_folder for one in project_ids if one in self._projects}

    def folder(self, path: str, project_id: int | None) -> ProjectFolder:
        """The project folder that a path of the journal lies in.

        Args:
            path: as the journal has it.
            project_id: whose folder it was; None for a folder that no project had.

        Raises:
            UnsafePath: it is no path in a folder of the tenant's, or another project's now.
        """
        parts = PurePosixPath(path).parts
        if len(parts) < 2 or parts[0] != self._ctx.tenant_id:
            raise UnsafePath(f"{path} lies in no project folder of tenant {self._ctx.tenant_id}.")
        tenant = self._ctx.library.tenant(parts[0])
        owner, project = self.owner(parts[1]), self.project(project_id)
        if project is not None and (owner is None or owner.id != project.id):
            literal = tenant.project(parts[1])
            if owner is not None or not literal.exists():
                return tenant.project(project.project_folder)
            return literal
        if owner is not None and self._ctx.tenant_of(owner) != self._ctx.tenant_id:
            raise UnsafePath(f"{path}: its folder belongs to another tenant's project.")
        return tenant.project(parts[1])

    def file(self, path: str, project_id: int | None) -> Path:
        """Where the file of a path of the journal lies, or would lie. Raises as `folder` does."""
        folder = self.folder(path, project_id)
        return folder.inside("/".join(PurePosixPath(path).parts[2:]))
