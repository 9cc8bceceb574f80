"""Finds photos whose files are equal, byte for byte, to the files of another photo with the same name."""

from __future__ import annotations

import stat
from contextlib import suppress

from flows.handlers.step_context import StepContext
from flows.steps.targets.photo_files import PhotoFiles
from storage.library.content_hash import hash_contents
from storage.library.errors import LibraryError
from storage.library.paths import ProjectFolder
from storage.photos.duplicate_names import DuplicateNames
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.records import Photo, Project


class Copies:
    """Finds the original photo of each copy in one project.

    Copies are not renamed: backups and phone syncs add the same files repeatedly, so renamed copies would accumulate.
    """

    def __init__(self, ctx: StepContext, names: DuplicateNames, project: Project, folder: ProjectFolder) -> None:
        self._ctx = ctx
        self._names = names
        self._project = project
        self._folder = folder
        with ctx.read() as connection:
            self._projects = {one.id: one for one in ProjectsRepository(connection).list()}

    def original_of(self, photo: Photo, files: PhotoFiles) -> str | None:
        """Return the original of a photo, as `project/name`; None if the photo is not a copy.

        The original may be a photo with the same name in another project, or a photo of this project that had the name
        before it was renamed.
        """
        with self._ctx.read() as connection:
            others = PhotosRepository(connection).get_many(self._names.photos_like(photo.filename, but_for=photo.id))
        for other in others:
            project = self._projects.get(other.project_id)
            with suppress(LibraryError, OSError):
                if project is not None and self._are_there(files, other, self._ctx.folder_of(project)):
                    return f"{project.project_name}/{other.filename}"
        return None

    def _are_there(self, files: PhotoFiles, other: Photo, folder: ProjectFolder) -> bool:
        """Return whether the folder has an equal file for each image, under the name of the other photo."""
        content_path = self._folder.library.content_path
        for file in files.images:
            own = self._folder.original(file.name)
            twin = folder.original(other.filename + file.name[len(file.base_name) :])
            if not stat.S_ISREG(twin.lstat().st_mode) or twin.lstat().st_size != file.size_bytes:
                return False
            if hash_contents(content_path(own)) != hash_contents(content_path(twin)):
                return False
        return True
