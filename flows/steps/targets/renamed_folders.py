"""Finds project folders that a user renamed: folders without a project whose manifest has the id of a project."""

from __future__ import annotations

from contextlib import closing, suppress

from flows.handlers.step_context import StepContext
from storage.library.errors import FolderUnreadable, LibraryError, ManifestUnreadable, UnsafePath
from storage.library.manifest import read_manifest
from storage.library.paths import ProjectFolder
from storage.photos.original_search import originals_of_project
from storage.photos.originals import Original
from storage.photos.projects import ProjectsRepository
from storage.records import Project


def took_project_along(ctx: StepContext, project: Project, folder: ProjectFolder) -> bool:
    """Return whether a folder whose manifest has the project's id is the renamed folder of the project and not a copy.

    It is the renamed folder if no other folder has the old name. If another folder without a manifest has the old name,
    it is the renamed folder if a photo in it is unchanged, because copies of files have another change time.
    """
    if is_only_name(ctx, project, folder):
        return True
    old = ctx.folder_of(project)
    if old.manifest_path.exists():
        return False
    with ctx.read() as connection, closing(originals_of_project(connection, project.id)) as originals:
        return any(_is_unchanged(folder, original) for original in originals)


def is_only_name(ctx: StepContext, project: Project, folder: ProjectFolder) -> bool:
    """Return whether the project's old folder name names no folder, or the same folder with another case."""
    old = ctx.folder_of(project)
    return not old.exists() or old.path.samefile(folder.path)


def _is_unchanged(folder: ProjectFolder, original: Original) -> bool:
    with suppress(LibraryError, OSError):
        status = folder.original(original.name).lstat()
        found = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return found == (original.size_bytes, original.mtime_ns, original.ctime_ns)
    return False


class RenamedFolders:
    """Finds the renamed folders of projects. The tenant's folders are read once, at the first call."""

    def __init__(self, ctx: StepContext) -> None:
        self._ctx = ctx
        self._by_id: dict[int, str] | None = None
        self._unreadable: list[str] = []

    def folder_of(self, project: Project) -> str | None:
        """Return the name of the folder without a project whose manifest has the project's id, or None.

        Raises:
            FolderUnreadable: no such folder was found, but it may be one that cannot be read.
        """
        if self._by_id is None:
            self._by_id = self._look()
        name = self._by_id.get(project.id)
        if name is None and self._unreadable:
            raise FolderUnreadable(
                f"Folder {self._unreadable[0]} cannot be read, so it may be this project's folder under another name. "
                "Correct the permissions of the folder."
            )
        return name

    def _look(self) -> dict[int, str]:
        tenant = self._ctx.library.tenant(self._ctx.tenant_id)
        with self._ctx.read() as connection:
            known = {
                project.project_folder for project in ProjectsRepository(connection).list_beside(self._ctx.tenant_id)
            }
        found: dict[int, str] = {}
        for name in sorted(set(tenant.project_folders()) - known):
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
        return found
