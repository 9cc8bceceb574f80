"""Decides which project a folder belongs to if its name and its manifest refer to different projects.

Users rename folders, copy them, exchange the names of two folders, or give a folder the name that another one had.
"""

from contextlib import closing, suppress
from datetime import timedelta

from sqlalchemy import Connection

from flows.handlers.step_context import StepContext
from storage.history.journal import FileAction, JournalEntry, last_entry
from storage.history.undo_entries import archived_as_gone_at
from storage.library.errors import LibraryError, ManifestUnreadable
from storage.library.manifest import Manifest, read_manifest
from storage.library.paths import ProjectFolder
from storage.library.scan import storable_ns
from storage.photos.original_search import originals_of_project
from storage.photos.originals import Original
from storage.photos.projects import ProjectsRepository
from storage.records import Project

#: Largest difference between the times in a row and in the journal that still count as the same change.
_TOLERANCE = timedelta(minutes=1)


def other_owner(ctx: StepContext, project: Project, folder: ProjectFolder) -> Project | None:
    """Return the project whose folder was renamed to the name of this project's folder; None if there is none.

    The photos of the two projects may have the same names, so the rows of one project would get the files of the other
    project. The manifest alone proves nothing, because users put all files of a folder into another folder. So the
    folder must have an unchanged photo of the other project, and no unchanged photo of this project.
    """
    with suppress(LibraryError, OSError):
        owner_id = manifest_id(folder)
        if owner_id is None or owner_id == project.id:
            return None
        with ctx.read() as connection:
            owner = ProjectsRepository(connection).get_by_id(owner_id)
            if owner is None or (owner.is_archived and archived_as_gone(connection, owner) is None):
                return None
        if (
            ctx.tenant_of(owner) == ctx.tenant_of(project)
            and took_project_along(ctx, owner, folder)
            and has_unchanged_photo(ctx, owner, folder, with_change_time=False)
            and not has_unchanged_photo(ctx, project, folder, with_change_time=False)
        ):
            return owner
    return None


def renamed_to(ctx: StepContext, project: Project, folder: ProjectFolder) -> str | None:
    """Return the present name of the project's folder if `folder` is a new folder with its former name; else None.

    A user may rename a folder, and use its former name for new photos, which may have the same names as the old ones.
    The new folder has neither a manifest nor an unchanged photo of the project. The result is None for a project whose
    photos photojobs has not yet read, because no folder can be recognized by them.
    """
    with suppress(LibraryError, OSError):
        if (
            not folder.exists()
            or folder.manifest_path.exists()
            or not has_known_photo(ctx, project)
            or has_unchanged_photo(ctx, project, folder, with_change_time=False)
        ):
            return None
        for name in sorted(folder.tenant.project_folders()):
            with suppress(LibraryError, OSError):
                other = folder.tenant.project(name)
                if manifest_id(other) == project.id and took_project_along(ctx, project, other):
                    return name
    return None


def took_project_along(ctx: StepContext, project: Project, folder: ProjectFolder) -> bool:
    """Return whether a folder whose manifest has the project's id is the renamed folder of the project and not a copy.

    The result depends on the folder that now has the old name, the name in the project's row:

    * No folder has it, or only `folder` itself: True.
    * The folder has the project's manifest, or a manifest that is not valid: False.
    * The folder has no manifest: True if `folder` has an unchanged photo whose change time is also unchanged. The
      files of a copy have new change times.
    * The folder has another project's manifest: True if `folder` has an unchanged photo or a copy of one, and the other
      folder has none.
    """
    if is_only_name(ctx, project, folder):
        return True
    old = ctx.folder_of(project)
    if not old.manifest_path.exists():
        return has_unchanged_photo(ctx, project, folder, with_change_time=True)
    if manifest_id(old) in (None, project.id):
        return False
    has_photo = has_unchanged_photo(ctx, project, folder, with_change_time=False)
    return has_photo and not has_unchanged_photo(ctx, project, old, with_change_time=False)


def is_only_name(ctx: StepContext, project: Project, folder: ProjectFolder) -> bool:
    """Return whether `folder` is the only folder of the project.

    This is so if no folder has the name in the project's row, or if this name is that of `folder` in another case.
    """
    old = ctx.folder_of(project)
    return not old.exists() or old.path.samefile(folder.path)


def has_known_photo(ctx: StepContext, project: Project) -> bool:
    """Return whether the size of at least one original of the project is known, to compare it with files."""
    with ctx.read() as connection, closing(originals_of_project(connection, project.id)) as originals:
        return any(original.size_bytes is not None for original in originals)


def has_unchanged_photo(ctx: StepContext, project: Project, folder: ProjectFolder, *, with_change_time: bool) -> bool:
    """Return whether at least one original of the project is unchanged in a folder.

    With `with_change_time`, the change time of the original must also be unchanged, so that a copy does not count.
    """
    with ctx.read() as connection, closing(originals_of_project(connection, project.id)) as originals:
        return any(_is_unchanged(folder, original, with_change_time) for original in originals)


def _is_unchanged(folder: ProjectFolder, original: Original, with_change_time: bool) -> bool:
    with suppress(LibraryError, OSError):
        status = folder.library.content_path(folder.original(original.name)).lstat()
        if with_change_time and status.st_ctime_ns != original.ctime_ns:
            return False
        return (status.st_size, storable_ns(status.st_mtime_ns)) == (original.size_bytes, original.mtime_ns)
    return False


def readable_manifest(folder: ProjectFolder) -> Manifest | None:
    """Return the manifest of a folder; None if there is none, or it is not valid."""
    try:
        return read_manifest(folder)
    except ManifestUnreadable:
        return None


def manifest_id(folder: ProjectFolder) -> int | None:
    """Return the id of the project to which a folder belongs, by its manifest; None without a valid manifest."""
    manifest = readable_manifest(folder)
    return None if manifest is None else manifest.id


def archived_as_gone(connection: Connection, project: Project) -> JournalEntry | None:
    """Return the journal's entry if a project was archived because its folder was missing; None if a user archived it.

    The result is also None if the project is active.
    """
    if not project.is_archived or project.archived_at is None:
        return None
    # A later entry alone proves nothing: the clock may have been set back between that entry and the user's archiving.
    moments = archived_as_gone_at(connection, project.id)
    if not any(abs(moment - project.archived_at) <= _TOLERANCE for moment in moments):
        return None
    return last_entry(connection, project_id=project.id, action=FileAction.ARCHIVED_AS_GONE)
