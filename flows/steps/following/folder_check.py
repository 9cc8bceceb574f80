"""The step `folder_check`: it inserts rows for new photos, and updates the rows of photos that a user moved.

The step reports files of no accepted kind, or moves them to the trash if `unaccepted_files` is `trash`. The default of
this setting is `keep`. A file that was written to within the last `settle_seconds` stays until a later run.
`flows.steps.following.arrivals` decides which photo was moved.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from flows.errors import reason_of
from flows.handlers.announced_moves import FileMove, MoveGroup
from flows.handlers.failures import items_failed
from flows.handlers.photo_files_change import PhotoFilesChange
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.following.arrivals import Arrivals
from flows.steps.targets.target_projects import checked_projects, compared, each_project
from storage.history.journal import FileAction
from storage.library.errors import SourceMissing
from storage.library.paths import ProjectFolder
from storage.library.trash import trash_place
from storage.records import Project

#: Extensions of incomplete downloads and uploads. Moving such a file would break its transfer.
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
    projects = checked_projects(ctx)
    arrivals = Arrivals(ctx)
    each_project(ctx, partial(_check, ctx, arrivals), projects=projects, skips_missing=True)
    arrivals.follow_moves()


def _check(ctx: StepContext, arrivals: Arrivals, project: Project, folder: ProjectFolder) -> None:
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
        raise items_failed("file", "could not be moved to .trash", errors)


def _trash(ctx: StepContext, project: Project, folder: ProjectFolder, names: Sequence[str]) -> list[Exception]:
    groups: list[MoveGroup] = []
    for name in names:
        if name.rpartition(".")[2].lower() in UNFINISHED_EXTENSIONS:
            ctx.report.count("kept", example=f"{name}: looks like an unfinished transfer")
            continue
        with suppress(FileNotFoundError):
            path = folder.original(name)
            status = path.lstat()
            # The file of a plan has only the modification time of the real file, so no other time is compared. File
            # times come from the clock of this machine.
            if 0 <= time.time_ns() - status.st_mtime_ns < ctx.settings.settle_seconds * 1e9:
                reason = "a program may still be writing it; a later run moves it to .trash"
                ctx.report.count("kept", example=f"{name}: {reason}")
                continue
            move = FileMove(path, trash_place(folder, path, at=ctx.now()), status.st_size)
            groups.append(MoveGroup([move], project.id, project.id))
    _Trashing(ctx, groups, folder).run()
    return [group.error for group in groups if group.error is not None]


class _Trashing(PhotoFilesChange[MoveGroup]):
    action = FileAction.TRASHED

    def fail(self, group: MoveGroup, error: Exception) -> None:
        if not isinstance(error, SourceMissing):
            super().fail(group, error)
            self.ctx.report.fail(group.moves[0].source.name, reason_of(error))

    def report(self) -> None:
        for group in self.done:
            self.ctx.report.count("trashed", example=group.moves[0].source.name)
