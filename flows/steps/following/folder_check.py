"""The step `folder_check`: it inserts rows for new photos, and updates the rows of photos that a user moved.

The step reports files of no accepted kind, or moves them to the trash if `unaccepted_files` is `trash`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from flows.errors import ItemsFailed
from flows.handlers.announced_moves import FileMove, MoveGroup, settled, sync_folders
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.following.arrivals import Arrivals
from flows.steps.targets.photo_files import relative_path
from flows.steps.targets.target_projects import check_library, compared, each_project, skip_missing_folder
from storage.history.journal import FileAction, FileChange
from storage.library import ProjectFolder, trash_place
from storage.library.errors import LibraryError, SourceMissing
from storage.records import Project
from task_definitions.wording import quantity

#: Extensions of incomplete downloads and uploads. To move such a file would break the transfer.
UNFINISHED_EXTENSIONS: Final = frozenset(
    {
        "!qb",
        "!ut",
        "aria2",
        "crdownload",
        "download",
        "filepart",
        "opdownload",
        "part",
        "partial",
        "temp",
        "tmp",
        "xltd",
    }
)


@step("folder_check", unit="projects")
def folder_check(ctx: StepContext) -> None:
    """Insert rows for new files on disk, and report files of no accepted kind."""
    projects = ctx.projects()
    if not projects:
        return
    check_library(ctx)
    arrivals = Arrivals(ctx)
    each_project(ctx, partial(_check, ctx, arrivals), projects=projects)
    arrivals.settle()


def _check(ctx: StepContext, arrivals: Arrivals, project: Project, folder: ProjectFolder) -> None:
    if skip_missing_folder(ctx, project, folder):
        return
    errors: list[Exception] = []
    with compared(ctx, project, folder) as comparison:
        arrivals.take(comparison, project, folder)
        for names in comparison.names_of_several():
            for name in names:
                ctx.report.count("names of several pictures", example=name)
        for names in comparison.unaccepted_names():
            if ctx.settings.unaccepted_files == "trash":
                errors += _trash(ctx, project, folder, names)
            else:
                for name in names:
                    ctx.report.count("kept", example=f"{name}: its kind is not accepted")
    if errors:
        raise ItemsFailed(f"{quantity(len(errors), 'file')} could not be moved to .trash; the first: {errors[0]}")


def _trash(ctx: StepContext, project: Project, folder: ProjectFolder, names: Sequence[str]) -> list[Exception]:
    groups: list[MoveGroup] = []
    errors: list[Exception] = []
    for name in names:
        if name.rpartition(".")[2].lower() in UNFINISHED_EXTENSIONS:
            ctx.report.count("kept", example=f"{name}: looks like an unfinished transfer")
            continue
        with suppress(FileNotFoundError):
            path = folder.original(name)
            move = FileMove(path, trash_place(folder, path, at=ctx.now()), path.lstat().st_size)
            groups.append(MoveGroup(project.id, project.id, None, [move]))
    ctx.announce(groups)
    try:
        for group in groups:
            ctx.checkpoint()
            try:
                group.carry_out()
            except SourceMissing:
                continue
            except (LibraryError, OSError) as error:
                errors.append(error)
                ctx.report.fail(group.moves[0].source.name, str(error))
            else:
                ctx.report.count("trashed", example=group.moves[0].source.name)
    finally:
        sync_folders(groups)
        changes = [
            FileChange(
                action=FileAction.TRASHED,
                source=relative_path(folder, move.source),
                target=relative_path(folder, move.target),
                project_id=project.id,
                size_bytes=move.size_bytes,
            )
            for group in groups
            for move in group.moves
            if move.is_done
        ]
        with ctx.transaction() as connection:
            ctx.journal(connection, changes)
            settled(connection, groups)
    return errors
