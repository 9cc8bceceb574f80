"""The step `folder_check`: new files get a row, and files of no accepted kind are reported, or trashed where so set.

A file gets its row as soon as it is seen, even while it is still being written: post-processing fails for a part of a
picture with the reason, and does it again when the file has changed. Rows never move a file, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from flows.announced_moves import FileMove, MoveGroup, settled, sync_folders
from flows.errors import ItemsFailed
from flows.step import step
from flows.step_context import StepContext
from flows.steps.photo_files import relative_path
from flows.steps.target_projects import check_library, compared, each_project, skip_missing_folder
from storage.journal import FileAction, FileChange
from storage.library import ProjectFolder, trash_place
from storage.library.errors import LibraryError, SourceMissing
from storage.photos import PhotosRepository
from storage.reconciliation import ProjectComparison, known_names
from storage.records import Project
from task_definitions.wording import quantity

#: What browsers and upload programs call a file until it is complete; moving it away would break the transfer.
UNFINISHED_EXTENSIONS: Final = frozenset({"part", "partial", "crdownload", "download", "filepart", "tmp", "temp"})


@step("folder_check", unit="projects")
def folder_check(ctx: StepContext) -> None:
    """Give new files on disk a row, and report files of no accepted kind."""
    projects = ctx.projects()
    if not projects:
        return
    check_library(ctx)
    each_project(ctx, partial(_check, ctx), projects=projects)


def _check(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    if skip_missing_folder(ctx, project, folder):
        return
    errors: list[Exception] = []
    with compared(ctx, project, folder) as comparison:
        add_new_photos(ctx, comparison, project)
        for names in comparison.names_of_several():
            for name in names:
                ctx.report.count("several pictures of one name", example=name)
        for names in comparison.unaccepted_names():
            if ctx.settings.unaccepted_files == "trash":
                errors += _trash(ctx, project, folder, names)
            else:
                for name in names:
                    ctx.report.count("kept", example=f"{name}: of no accepted kind")
    if errors:
        raise ItemsFailed(f"{quantity(len(errors), 'file')} could not be moved to .trash; first: {errors[0]}")


def add_new_photos(ctx: StepContext, comparison: ProjectComparison, project: Project) -> None:
    """Give the names that were found without a row their rows, and ask for their post-processing."""
    for batch in comparison.new_names():
        ctx.checkpoint()
        with ctx.transaction(enqueues=True) as connection:
            # Whoever uploaded the files may have written their rows since the scan.
            known = known_names(connection, project.id, [new.name for new in batch])
            fresh = [new for new in batch if new.name not in known]
            ids = PhotosRepository(connection).create_many(
                {
                    "project_id": project.id,
                    "filename": new.name,
                    "ext": new.extension,
                    "jpg_available": new.jpg,
                    "raw_available": new.raw,
                    "other_available": new.other,
                    "keep_jpg": new.jpg,
                    "keep_raw": new.raw,
                    "thumbnail_status": "pending",
                    "preview_status": "pending",
                }
                for new in fresh
            )
            ctx.enqueue("upload_postprocess", photo_ids=ids, priority=90, connection=connection)
            ctx.journal_added(connection, project, dict(zip(ids, (new.name for new in fresh), strict=True)))
        for new in fresh:
            ctx.report.count("added", example=new.name)


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
