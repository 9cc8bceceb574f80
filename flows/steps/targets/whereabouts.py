"""Finds where the folders of projects are now, and whether a file that is not found is really missing.

`flows.steps.targets.target_projects` has the checks that keep the rows of projects whose disk is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum

from flows.handlers.step_context import StepContext
from flows.steps.targets.gone_projects import was_archived_as_gone
from flows.steps.targets.renamed_folders import RenamedFolders
from flows.steps.targets.target_projects import ProjectUnavailable, check_project
from storage.library.errors import LibraryError
from storage.library.paths import ProjectFolder
from storage.photos.original_search import KnownOriginal
from storage.photos.projects import ProjectsRepository
from storage.records import Project


class ProjectState(StrEnum):
    """The state of a project's folder."""

    HERE = "here"
    #: A user renamed the folder. `folder_discovery` will update the row.
    RENAMED = "renamed"
    #: The folder exists under no name, and no user archived the project.
    MISSING = "missing"
    #: The files of the project cannot be read, for example because a disk is missing.
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
        with self._ctx.read() as connection:
            return iter(ProjectsRepository(connection).list(tenant_id=self._ctx.tenant_id, archived=False))

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
            is_wanted = not project.is_archived or was_archived_as_gone(connection, project)
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
