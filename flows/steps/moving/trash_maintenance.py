"""The step `trash_maintenance`: it permanently removes files that have been in `.trash` for too long.

The setting `trash_ttl_seconds` is the time for which files stay there. `expired` in `storage.library.trash` decides
for which files this time has passed. The steps `file_removal` and `folder_check` move files to the trash.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from flows.errors import reason_of
from flows.handlers.failures import items_failed
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.steps.targets.journal_changes import relative_path
from flows.steps.targets.target_projects import each_project
from storage.batches import batched
from storage.history.journal import FileAction, FileChange, iterate_trashed, latest_by_target
from storage.library.atomic_write import fsync_folder, remove_stale_temporaries
from storage.library.errors import LibraryError
from storage.library.naming.names import printable
from storage.library.paths import ProjectFolder
from storage.library.scan import companion_folders
from storage.library.trash import TrashEntry, expired, purge
from storage.records import Project

#: The number of files that are removed before the journal is written. After a crash, the journal lacks at most one
#: batch, which the next run adds.
BATCH_SIZE: Final = 200

#: The number of journal entries that are compared with the disk at a time.
_JOURNAL_BATCH_SIZE: Final = 1_000


@step("trash_maintenance", unit="projects")
def trash_maintenance(ctx: StepContext) -> None:
    """Remove files that were in .trash for longer than `trash_ttl_seconds`."""
    each_project(ctx, partial(_empty_trash, ctx))


def _empty_trash(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    errors: list[Exception] = []
    due = expired(folder, now=ctx.now(), ttl_seconds=ctx.settings.trash_ttl_seconds)
    for batch in batched(due, BATCH_SIZE):
        errors += _purge(ctx, project, folder, batch)
    _journal_missed_removals(ctx, project, folder)
    # Crashed processes leave temporary files: incomplete manifests, copies and derivatives. None of them is the only
    # copy of a file.
    for path in (folder.path, folder.thumb, folder.preview, *companion_folders(folder)):
        ctx.report.count(
            "unfinished files removed", remove_stale_temporaries(path, content_path=folder.library.content_path)
        )
    if errors:
        raise items_failed("file", "could not be removed from .trash", errors)


def _purge(ctx: StepContext, project: Project, folder: ProjectFolder, batch: Sequence[TrashEntry]) -> list[Exception]:
    sizes: dict[str, int | None] = {}
    errors: list[Exception] = []
    try:
        for entry in batch:
            ctx.checkpoint()
            source, size_bytes = printable(relative_path(folder, entry.file)), _size_bytes(entry.file)
            try:
                purge(entry)
            except (LibraryError, OSError) as error:
                errors.append(error)
                ctx.report.count("kept", example=f"{printable(entry.original_name)}: {reason_of(error)}")
            else:
                sizes[source] = size_bytes
                ctx.report.count("removed", example=printable(entry.original_name))
    finally:
        if sizes:
            # The folder is synced before the journal is written. Otherwise, after a power cut, a file could be in the
            # trash again although the journal says that it was removed.
            fsync_folder(folder.trash)
            with ctx.transaction() as connection:
                known = latest_by_target(connection, list(sizes), project_id=project.id)
                photo_ids = {source: entry.photo_id for source, entry in known.items()}
                ctx.journal(
                    connection,
                    [_removed(project, source, photo_ids.get(source), size) for source, size in sizes.items()],
                )
    return errors


def _journal_missed_removals(ctx: StepContext, project: Project, folder: ProjectFolder) -> None:
    """Add the missing journal entries for files that a crashed run or a user has removed from the trash."""
    if not (folder.exists() and folder.trash.is_dir()):
        return
    before = ctx.now() - timedelta(seconds=ctx.settings.trash_ttl_seconds)
    for trashed in iterate_trashed(ctx.read, project_id=project.id, before=before, batch_size=_JOURNAL_BATCH_SIZE):
        changes = [
            _removed(project, entry.target, entry.photo_id, entry.size_bytes)
            for entry in trashed
            if entry.target is not None and not _is_in_trash(folder, entry.target)
        ]
        if changes:
            with ctx.transaction() as connection:
                ctx.journal(connection, changes)


def _removed(project: Project, source: str, photo_id: int | None, size_bytes: int | None) -> FileChange:
    return FileChange(
        action=FileAction.REMOVED, source=source, project_id=project.id, photo_id=photo_id, size_bytes=size_bytes
    )


def _is_in_trash(folder: ProjectFolder, target: str) -> bool:
    # The project's folder may have been renamed since the entry was written, so only the file's name in the trash is
    # used. A file with a long name is one folder deeper.
    path = PurePosixPath(target)
    return (folder.trash / path.name).exists() or (folder.trash / path.parent.name / path.name).exists()


def _size_bytes(file: Path) -> int | None:
    try:
        return file.lstat().st_size
    except OSError:
        return None
