"""Builds the journal's entries about folders and rows."""

from pathlib import Path
from typing import Any

from storage.history.journal import FileAction, FileChange
from storage.library.paths import ProjectFolder


def relative_path(folder: ProjectFolder, path: Path | None = None) -> str:
    """Return a path relative to the library's root, as in the journal; by default, the path of the folder itself."""
    return (path or folder.path).relative_to(folder.library.root).as_posix()


def folder_change(
    action: FileAction,
    folder: ProjectFolder,
    project_id: int | None,
    *,
    target: ProjectFolder | None = None,
    row: dict[str, Any] | None = None,
) -> FileChange:
    """Return the journal's entry for a change of a project's folder or row.

    If the folder changes, `target` is the folder after the change. If the row changes, `row` is the row before the
    change. For a folder without a project, `project_id` is None.
    """
    return FileChange(
        action=action,
        source=relative_path(folder),
        target=None if target is None else relative_path(target),
        project_id=project_id,
        row=row,
    )


def removed_photo(
    folder: ProjectFolder, project_id: int | None, photo_id: int | None, name: str, row: dict[str, Any] | None
) -> FileChange:
    """Return the journal's entry for the removal of a photo's row. `name` is the base name of the photo."""
    return FileChange(
        action=FileAction.REMOVED_ROW,
        source=f"{relative_path(folder)}/{name}",
        project_id=project_id,
        photo_id=photo_id,
        row=row,
    )
