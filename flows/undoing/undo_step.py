"""The step `undo`: it undoes the moves, removals, renames and changes in a task's journal, as far as possible.

The docstring of `flows.undoing` names the modules that decide what is possible.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

from flows.errors import StepTimeout, reason_of
from flows.handlers.failures import items_failed
from flows.handlers.photo_files_change import BATCH_SIZE
from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from flows.undoing.left_entries import report_left
from flows.undoing.photo_undo import PhotoUndo
from flows.undoing.places import Places
from flows.undoing.project_undo import ProjectUndo
from flows.undoing.reversal import CannotComeBack
from flows.undoing.task_to_undo import task_to_undo
from flows.undoing.ways_back import FILE_ACTIONS
from storage.history.photo_states import current_projects
from storage.history.undo_entries import (
    EntryGroup,
    count_undoable,
    iterate_groups,
    projects_added,
    projects_removed_with_folder,
)
from storage.library.errors import LibraryError

#: Largest number of groups that are undone under one claim. Each folder is listed once for all of them.
_MAX_TOGETHER: Final = 2_000


@step("undo", unit="library")
def undo(ctx: StepContext) -> None:
    """Restore the files and rows that another task moved, removed, renamed or changed."""
    task = task_to_undo(ctx.payload, tenant_id=ctx.tenant_id, source=ctx.database)
    ctx.library.check_available()
    _Undo(ctx, task.id).run()


class _Undo:
    """One pass backwards through the journal of a task."""

    def __init__(self, ctx: StepContext, task_id: str) -> None:
        self._ctx = ctx
        self._task_id = task_id
        self._places = Places(ctx)
        with ctx.read() as connection:
            removed = projects_removed_with_folder(connection, task_id=task_id)
            added = projects_added(connection, task_id=task_id)
            self._total = sum(count_undoable(connection, task_id=task_id).values())
        self._photos = PhotoUndo(ctx, self._places)
        self._projects = ProjectUndo(ctx, self._places, removed=removed, added=added)
        self._done = 0
        #: The groups of photos and files that wait to be undone together, and their projects.
        self._waiting: list[EntryGroup] = []
        self._waiting_projects: set[int] = set()

    def run(self) -> None:
        """Undo all entries, the newest first."""
        is_image = self._ctx.library.accepted_extensions.is_image
        for page in iterate_groups(self._ctx.database, task_id=self._task_id, is_image=is_image):
            for group in page:
                self._ctx.checkpoint()
                if self._is_left_out(group):
                    self._undo_photos()
                    self._photos.keep(group)
                    self._advance(len(group.entries))
                elif group.photo_id is not None or group.entries[0].action in FILE_ACTIONS:
                    if not self._has_room(group):
                        self._undo_photos()
                    self._waiting.append(group)
                    self._waiting_projects |= group.project_ids()
                else:
                    self._undo_photos()
                    self._undo_one(group)
                    self._advance(len(group.entries))
        self._undo_photos()
        if failures := self._photos.failures:
            raise items_failed("change", "could not be undone", failures)

    def _advance(self, entries: int) -> None:
        self._done += entries
        self._ctx.progress(self._done, self._total)

    def _has_room(self, group: EntryGroup) -> bool:
        """Return whether the group is undone with the waiting groups: these are few, or concern the same projects."""
        number = len(self._waiting)
        return number < BATCH_SIZE or (number < _MAX_TOGETHER and group.project_ids() <= self._waiting_projects)

    def _undo_photos(self) -> None:
        groups, self._waiting, self._waiting_projects = self._waiting, [], set()
        if not groups:
            return
        photo_ids = [group.photo_id for group in groups if group.photo_id is not None]
        with self._ctx.read() as connection:
            held = current_projects(connection, photo_ids).union(*(group.project_ids() for group in groups))
        self._places.refresh()
        owners = (self._places.owner(folder) for group in groups for folder in _folders(group))
        held |= {owner.id for owner in owners if owner is not None}
        with self._ctx.exclusively(sorted(held)):
            self._places.refresh()
            for entries in self._photos.run(groups, unavailable=self._places.unavailable(held)):
                self._advance(entries)

    def _undo_one(self, group: EntryGroup) -> None:
        try:
            with self._ctx.exclusively(sorted(group.project_ids())):
                self._places.refresh()
                reasons = {} if group.is_of_project else self._places.unavailable(group.project_ids())
                for reason in reasons.values():
                    raise CannotComeBack(reason)
                self._projects.run(group)
        except CannotComeBack as error:
            report_left(self._ctx, group.entries, str(error))
        except StepTimeout:
            raise
        except (LibraryError, OSError) as error:
            self._photos.fail(group, reason_of(error))

    def _is_left_out(self, group: EntryGroup) -> bool:
        left_out = self._ctx.targets.left_out
        if (left_out.projects | self._photos.stuck) & group.project_ids():
            return True
        return any(folder in left_out.folders for folder in _folders(group))


def _folders(group: EntryGroup) -> Iterable[str]:
    for entry in group.entries:
        for path in (entry.source, entry.target):
            parts = PurePosixPath(path or "").parts
            if len(parts) > 1:
                yield parts[1]
