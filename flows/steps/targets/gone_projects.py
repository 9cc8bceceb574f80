"""Projects that are archived because their folder is away, as an unplugged disk makes it, and not to be deleted.

The journal tells them from projects that somebody wants to be rid of: those alone may lose their files.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from flows.handlers.step_context import StepContext
from storage.history.journal import FileAction, FileChange, last_entry
from storage.history.photo_snapshots import snapshot_project
from storage.library import ProjectFolder
from storage.photos.projects import ProjectsRepository
from storage.records import Project

#: How far the moments of the row and of the journal may lie apart; clocks are set back now and then.
_TOLERANCE = timedelta(minutes=1)


def archive_as_gone(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    """Archive a project whose folder is not there, and say in the journal that this is why."""
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
    """Whether an archived project is so only because its folder was not there."""
    if not project.is_archived or project.archived_at is None:
        return False
    entry = last_entry(connection, project_id=project.id, action=FileAction.ARCHIVED_AS_GONE)
    return entry is not None and entry.created_at >= project.archived_at - _TOLERANCE
