"""Projects that were archived because their folder was missing, for example on an unplugged disk.

The journal distinguishes these projects from projects that a user archived, because only files of projects that a user
archived may be deleted.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from flows.handlers.step_context import StepContext
from storage.history.journal import FileAction, FileChange, last_entry
from storage.history.photo_snapshots import snapshot_project
from storage.library.paths import ProjectFolder
from storage.photos.projects import ProjectsRepository
from storage.records import Project

#: Largest accepted difference between the times in the row and in the journal, because a clock may have been set back.
_TOLERANCE = timedelta(minutes=1)


def archive_as_gone(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    """Archive a project because its folder is missing, and write this reason to the journal."""
    with ctx.transaction(project_ids=[project.id]) as connection:
        row = snapshot_project(connection, project.id)
        ProjectsRepository(connection).archive(project.id)
        change = FileChange(
            action=FileAction.ARCHIVED_AS_GONE,
            source=folder.path.relative_to(folder.library.root).as_posix(),
            project_id=project.id,
            row=row,
        )
        ctx.journal(connection, [change])


def was_archived_as_gone(connection: Connection, project: Project) -> bool:
    """Return whether a project was archived because its folder was missing, and not by a user."""
    if not project.is_archived or project.archived_at is None:
        return False
    entry = last_entry(connection, project_id=project.id, action=FileAction.ARCHIVED_AS_GONE)
    return entry is not None and entry.created_at >= project.archived_at - _TOLERANCE
