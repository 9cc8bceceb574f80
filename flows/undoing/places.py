"""Finds the current paths of files in the journal, because project folders may have been renamed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from flows.handlers.step_context import StepContext
from flows.steps.targets.target_projects import ProjectUnavailable, check_owner
from storage.library.errors import LibraryError, UnsafePath
from storage.library.paths import ProjectFolder
from storage.photos.projects import ProjectsRepository
from storage.records import Project


class Places:
    """Turns paths of the journal into paths of the library, each checked to stay inside its project."""

    def __init__(self, ctx: StepContext) -> None:
        self._ctx = ctx
        self._projects: dict[int, Project] = {}
        self._by_folder: dict[str, int] = {}

    def refresh(self) -> None:
        """Read the current folder of each project again."""
        with self._ctx.read() as connection:
            every = ProjectsRepository(connection).list_beside(self._ctx.tenant_id)
        self._projects = {project.id: project for project in every}
        self._by_folder = {project.project_folder: project.id for project in every}

    def project(self, project_id: int | None) -> Project | None:
        """Return the tenant's project with this id; None if the tenant has no such project now."""
        found = self._projects.get(project_id) if project_id is not None else None
        return found if found is not None and self._ctx.tenant_of(found) == self._ctx.tenant_id else None

    def of_photo(self, row: Mapping[str, Any] | None) -> tuple[ProjectFolder, str] | None:
        """Return the folder and the base name of a photo by its row; None without a row or without a project."""
        project = None if row is None else self.project(int(row["project_id"]))
        return None if row is None or project is None else (self._ctx.folder_of(project), str(row["filename"]))

    def owner(self, project_folder: str) -> Project | None:
        """Return the project, of any tenant, that occupies this folder name now; None if the name is free."""
        return self._projects.get(self._by_folder.get(project_folder, 0))

    def owner_of(self, file: Path) -> int | None:
        """Return the id of the project that occupies the folder of a file now; None if the folder name is free."""
        return self._by_folder.get(file.relative_to(self._ctx.library.root).parts[1])

    def folders(self, project_ids: Iterable[int]) -> dict[int, str]:
        """Return the folder names of these projects by project id; projects that do not exist are left out."""
        return {one: self._projects[one].project_folder for one in project_ids if one in self._projects}

    def unavailable(self, project_ids: Iterable[int]) -> dict[int, str]:
        """Return the projects whose folders do not have their files now, each with the reason."""
        found = {}
        for project_id in project_ids:
            project = self.project(project_id)
            with suppress(LibraryError, OSError):
                if project is None:
                    continue
                folder = self._ctx.folder_of(project)
                if folder.is_empty():
                    found[project_id] = (
                        "the project's folder is empty; its disk may not be mounted. Mount it, and undo the task again"
                    )
                    continue
                try:
                    check_owner(self._ctx, project, folder)
                except ProjectUnavailable as error:
                    found[project_id] = f"{error} Then undo the task again."
        return found

    def folder(self, path: str, project_id: int | None) -> ProjectFolder:
        """Return the project folder that contains a path of the journal.

        Args:
            path: a path from the journal.
            project_id: the project that had the folder; None for a folder without a project.

        Raises:
            UnsafePath: the path is not inside a project folder of the tenant, or the folder now belongs to a project
                of another tenant.
        """
        parts = PurePosixPath(path).parts
        if len(parts) < 2 or parts[0] != self._ctx.tenant_id:
            raise UnsafePath(
                f"the journal names {path}, which is not inside a project folder of tenant {self._ctx.tenant_id}, so "
                f"nothing is moved. Search the library for {PurePosixPath(path).name}, and move it into the folder of "
                "its project."
            )
        tenant = self._ctx.library.tenant(parts[0])
        owner, project = self.owner(parts[1]), self.project(project_id)
        if project is not None and (owner is None or owner.id != project.id):
            current, former = tenant.project(project.project_folder), tenant.project(parts[1])
            # A user may have given the folder its former name back, and `folder_discovery` has not seen it yet.
            return former if owner is None and former.exists() and not current.exists() else current
        if owner is not None and self._ctx.tenant_of(owner) != self._ctx.tenant_id:
            raise UnsafePath(
                f"{path}: folder {parts[1]} now belongs to a project of another tenant, so the file stays where the "
                f"task put it. If you need it elsewhere, move it into another folder of tenant {self._ctx.tenant_id}."
            )
        return tenant.project(parts[1])

    def file(self, path: str, project_id: int | None) -> Path:
        """Return the current path of a file in the journal, even if it is missing. Raises the errors of `folder`."""
        folder = self.folder(path, project_id)
        return folder.inside("/".join(PurePosixPath(path).parts[2:]))
