"""Changes files of photos together with their rows, so that each file is where its row says.

After an error, the files are moved back. After a crash, the next job that claims the project moves them back before it
works there. `flows.handlers.announced_moves` makes all these moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

from sqlalchemy import Connection

from flows.errors import StepTimeout
from flows.handlers.announced_moves import FileMove, MoveGroup
from flows.handlers.step_context import StepContext
from storage.history.journal import FileAction, FileChange
from storage.history.move_intents import MoveIntent, forget_intents, write_intents
from storage.history.row_snapshots import snapshot_photos
from storage.library.naming.folder_names import FolderNames
from storage.library.paths import ProjectFolder
from storage.library.transfer import sync_moves

#: The number of photos in a batch: their files move first, then one transaction writes their rows. A crash interrupts
#: only one batch.
BATCH_SIZE: Final = 100

Group = TypeVar("Group", bound=MoveGroup)


class PhotoFilesChange(Generic[Group]):
    """Moves groups of files, then writes their rows and the journal. Steps override the methods in which they differ.

    The order makes the change safe:

    1. The intents of all groups, which have the old and the new place of each file, are stored durably.
    2. The groups move one after the other, each whole or not at all.
    3. The folders are synced.
    4. One transaction writes the rows and the journal of the groups that moved, and removes the intents.

    After an exception in part 2, parts 3 and 4 still run. If part 4 does not run, or a power cut undoes its commit, the
    next job that claims the projects moves the files back; see `announced_moves`.

    Attributes:
        action: the action of the moves in the journal.
        enqueues: whether `write` requests follow-up work.
        folder: the folder of the project that files move to; not set if they move to several projects.
        names: the names in `folder`, if the step has read them.
        done: the groups that moved.
    """

    action: ClassVar[FileAction]
    enqueues: ClassVar[bool] = False

    def __init__(
        self,
        ctx: StepContext,
        groups: Sequence[Group],
        folder: ProjectFolder | None = None,
        *,
        names: FolderNames | None = None,
    ) -> None:
        self.ctx = ctx
        self.groups = groups
        if folder is not None:
            self.folder = folder
        self.names = names
        self.done: list[Group] = []

    def run(self) -> None:
        """Make the change. A group that could not move has its error in `error` afterwards."""
        self.ctx.checkpoint()
        if not self.groups:
            return
        self._announce()
        try:
            for group in self.groups:
                self.ctx.checkpoint()
                try:
                    self.move(group)
                except StepTimeout:
                    raise
                except Exception as error:  # noqa: BLE001 - only this group fails.
                    self.fail(group, error)
                else:
                    self.done.append(group)
        finally:
            self.finish()

    def move(self, group: Group) -> None:
        """Move all files of a group, or none."""
        group.carry_out(self.ctx.library, names=self.names, folder=self.folder.path)

    def fail(self, group: Group, error: Exception) -> None:
        """Store the error of a group that did not move. If this method raises the error, no more groups move."""
        group.error = error

    def finish(self) -> None:
        """Sync the folders, then write the rows of the groups that moved."""
        # Files of the other groups may have moved and returned, so the folders of all groups are synced.
        sync_moves((move.source, move.target) for group in self.groups for move in group.moves)
        with self.transaction() as connection:
            rows = snapshot_photos(connection, self._photo_ids())
            self.ctx.journal(
                connection,
                (change for group in self.done for change in self.changes(group, rows.get(group.photo_id or 0))),
            )
            self.write(connection)
            done = {group.group_id for group in self.done}
            forget_intents(
                connection, [group.group_id for group in self.groups if group.group_id in done or group.is_at_source]
            )
        self.report()

    def transaction(self) -> AbstractContextManager[Connection]:
        """Open the transaction that writes the rows of the groups that moved."""
        return self.ctx.transaction(enqueues=self.enqueues, photo_ids=self._photo_ids())

    def owners(self, group: Group, move: FileMove) -> tuple[int | None, int | None]:
        """Return the ids of the projects in whose folders a file is before and after its move."""
        return group.project_id, group.target_project_id

    def changes(self, group: Group, row: dict[str, Any] | None) -> Iterator[FileChange]:
        """Yield the journal's entries of a group that moved; `row` is the row of its photo before the change."""
        for move in group.originals:
            yield FileChange(
                action=self.action,
                source=self.path(move.source),
                target=self.path(move.target),
                project_id=group.target_project_id if group.project_id is None else group.project_id,
                photo_id=group.photo_id,
                size_bytes=move.size_bytes,
                row=row,
            )

    def write(self, connection: Connection) -> None:
        """Do nothing by default. A subclass writes the rows of the groups that moved."""

    def report(self) -> None:
        """Do nothing by default. A subclass reports the groups that moved, after their rows were written."""

    def _announce(self) -> None:
        job, now = self.ctx.job, self.ctx.now()
        intents = []
        for group in self.groups:
            for move in group.moves:
                project_id, target_project_id = self.owners(group, move)
                intent = MoveIntent(
                    group_id=group.group_id,
                    tenant_id=job.tenant_id,
                    job_id=job.id,
                    project_id=project_id,
                    target_project_id=target_project_id,
                    photo_id=group.photo_id,
                    source=self.path(move.source),
                    target=self.path(move.target),
                    size_bytes=move.size_bytes,
                    created_at=now,
                )
                intents.append(intent)
        if intents:
            with self.ctx.database.begin(durable=True) as connection:
                write_intents(connection, intents)

    def _photo_ids(self) -> list[int]:
        return [photo_id for group in self.done for photo_id in group.photo_ids]

    def path(self, path: Path) -> str:
        """Return a path relative to the library's root, as in the journal."""
        return path.relative_to(self.ctx.library.root).as_posix()
