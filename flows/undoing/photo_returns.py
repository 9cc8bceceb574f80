"""Moves the files of photos and single files back, and writes the photos' rows as they were before a task.

`flows.undoing.photo_undo` plans what returns where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from flows.handlers.announced_moves import FileMove, MoveGroup
from flows.handlers.photo_files_change import PhotoFilesChange
from flows.handlers.step_context import StepContext
from flows.steps.moving.image_move import DERIVATIVE_FOLDERS
from flows.undoing.added_files import action_of
from flows.undoing.left_entries import leave
from flows.undoing.places import Places
from flows.undoing.reversal import MISSING, CannotComeBack, Reversal
from flows.undoing.ways_back import FILE_ACTIONS, WayBack
from storage.history.journal import FileAction, FileChange, mark_undone
from storage.history.photo_states import PhotoStates
from storage.history.row_snapshots import DERIVATIVES
from storage.history.undo_entries import EntryGroup
from storage.library.atomic_write import fsync_folder
from storage.library.errors import LibraryError, UnsafePath
from storage.library.naming.names import printable
from storage.library.paths import ProjectFolder
from storage.library.transfer import remove_derivative
from storage.library.trash import remove_wrapping
from storage.photos.derivatives import DerivativeKind

_PATHS = {
    DerivativeKind.THUMBNAIL: ProjectFolder.thumbnail,
    DerivativeKind.PREVIEW: ProjectFolder.preview_image,
}

_WORDS = {
    FileAction.RESTORED: "restored from the trash",
    FileAction.TRASHED: "moved to the trash again",
    FileAction.MOVED: "moved back",
    FileAction.RENAMED: "renamed back",
}


@dataclass(slots=True, kw_only=True)
class PhotoReturn(MoveGroup):
    """The undo of a group of journal entries: the files that move back, and the photo's row before and after the undo.

    Attributes:
        group: the journal entries.
        added: the moves of files that the photo got after the task.
        before: the photo's row before the undo; None if the photo has no row.
        reversal: the photo's row after the undo.
        name: the name of the photo; empty if the entries concern a single file.
        lacks_derivatives: whether a thumbnail or preview must be made after the undo.
        counted: what the report counts after the rows were written, each with an example.
        left: the names of files that cannot be restored, each with the reason.
    """

    group: EntryGroup
    ways: list[WayBack]
    added: list[FileMove]
    before: dict[str, Any] | None
    reversal: Reversal
    name: str
    lacks_derivatives: bool = False
    counted: list[tuple[str, str]] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)

    @property
    def photo_ids(self) -> list[int]:
        """An empty list, because `PhotoStates` already writes the journal of the photo's row."""
        return []


def return_photos(ctx: StepContext, groups: Sequence[PhotoReturn], places: Places, states: PhotoStates) -> None:
    """Move the files of a batch of groups back, and write the rows of the groups.

    A group that could not be undone has its error in `error` afterwards.
    """
    _Returns(ctx, groups, places, states).run()


class _Returns(PhotoFilesChange[PhotoReturn]):
    def __init__(self, ctx: StepContext, groups: Sequence[PhotoReturn], places: Places, states: PhotoStates) -> None:
        super().__init__(ctx, groups)
        self._places = places
        self._states = states
        #: The folders in which derivatives were removed.
        self._emptied: set[Path] = set()
        #: The places of files that have returned. A second row of the same files has the same derivatives.
        self._arrived: set[Path] = set()

    def owners(self, group: PhotoReturn, move: FileMove) -> tuple[int | None, int | None]:
        source, target = self._places.owner_of(move.source), self._places.owner_of(move.target)
        return source or group.project_id, target or group.target_project_id

    def move(self, group: PhotoReturn) -> None:
        for move in group.moves:
            if move.is_derivative and move.target not in self._arrived:
                # The name of the photo is free, so a derivative with this name belongs to no photo.
                with suppress(LibraryError, OSError):
                    remove_derivative(move.target)
        group.carry_out(self.ctx.library)
        self._arrived.update(move.target for move in group.moves)
        for move in group.originals:
            remove_wrapping(move.source)
        left = {move.target.parent.name for move in group.moves if not move.is_done}
        group.reversal.wanted |= {kind for kind, folder in DERIVATIVE_FOLDERS.items() if folder in left}
        for way in group.ways:
            if way.is_gone:
                place = printable(str(way.entry.target))
                group.left.append((way.name, f"the file is no longer at {place}, where the task put it"))
                self._mark_unavailable(way, group)
        self._restore_derivatives(group)
        if group.photo_id is not None:
            self._states.put(group.photo_id, group.reversal.state, unneeded_tags=group.reversal.unneeded_tags)
        group.counted += _counted(group)

    def _mark_unavailable(self, way: WayBack, group: PhotoReturn) -> None:
        describe = self.ctx.library.accepted_extensions.describe
        kind, state = describe(way.back.name).kind, group.reversal.state
        has_other = any(describe(other.back.name).kind is kind for other in group.ways if not other.is_gone)
        if kind.is_photo and not has_other and state is not None:
            state[f"{kind}_available"] = 0

    def _restore_derivatives(self, group: PhotoReturn) -> None:
        """Remove the derivatives that the task had made, and mark missing derivatives in the row."""
        reversal, state = group.reversal, group.reversal.state
        old, new = map(self._places.of_photo, (group.before, state))
        for kind, path_of in _PATHS.items():
            with suppress(UnsafePath):
                place = new or old
                if kind in reversal.made and place is not None and remove_derivative(path_of(*place)):
                    self._emptied.add(path_of(*place).parent)
                    group.counted.append(("derivatives removed again", group.name))
            if state is None or kind not in reversal.wanted or (new is not None and _exists(path_of, new)):
                continue
            state[f"{kind}_status"] = MISSING
            state[DERIVATIVES] = {name: known for name, known in state[DERIVATIVES].items() if name != str(kind)}
            if any(state[f"{one}_available"] for one in ("jpg", "raw", "other")):
                group.lacks_derivatives = True
            else:
                reason = f"its {kind} was removed, and no original is left to make a new one"
                group.left.append((group.name, reason))

    def finish(self) -> None:
        for folder in self._emptied:
            fsync_folder(folder)
        super().finish()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self.ctx.transaction(enqueues=True, durable=True) as connection:
            outdated = self._states.changed_since(connection)
            for group in [group for group in self.done if group.photo_id in outdated]:
                # The intents of the group stay, so the next job that claims the group's projects reverses this move.
                self._states.forget(group.photo_id or 0)
                self.done.remove(group)
                group.error = CannotComeBack("its row was changed during the undo; undo the task again")
            yield connection

    def changes(self, group: PhotoReturn, row: dict[str, Any] | None) -> Iterator[FileChange]:
        for way in group.ways:
            if not way.is_gone:
                yield FileChange(
                    action=FILE_ACTIONS[FileAction(way.entry.action)],
                    source=self.path(way.now),
                    target=self.path(way.back),
                    project_id=way.entry.project_id if way.project_id is None else way.project_id,
                    photo_id=way.entry.photo_id,
                    size_bytes=way.entry.size_bytes,
                    row=way.entry.row_json if way.entry.photo_id is None else None,
                )
        merged = next((way.entry for way in group.ways if way.has_no_row), None)
        for move in group.added:
            yield FileChange(
                action=action_of(move),
                source=self.path(move.source),
                target=self.path(move.target),
                project_id=self.owners(group, move)[0],
                photo_id=group.photo_id if merged is None else None,
                size_bytes=move.size_bytes,
                row=None if merged is None else merged.row_json,
            )

    def write(self, connection: Connection) -> None:
        ctx, now = self.ctx, self.ctx.now()
        folders = self._places.folders(self._states.project_ids())
        ctx.journal(connection, self._states.write(connection, tenant_id=ctx.tenant_id, folders=folders, now=now))
        mark_undone(connection, [entry_id for one in self.done for entry_id in one.group.ids], now=now)
        lacking = [one.photo_id for one in self.done if one.lacks_derivatives and one.photo_id is not None]
        ctx.enqueue("generate_derivatives", photo_ids=lacking, connection=connection)

    def report(self) -> None:
        for one in self.done:
            for name, reason in one.left:
                leave(self.ctx, name, reason)
            for word, example in one.counted:
                self.ctx.report.count(word, example=example)


def _counted(one: PhotoReturn) -> Iterator[tuple[str, str]]:
    for name in sorted(one.reversal.kept):
        yield "values kept, because they were changed after the task", f"{one.name}: {name}"
    if one.before is None and one.reversal.state is not None:
        yield "rows restored", one.name
    elif one.before is not None and one.reversal.state is None:
        yield "rows removed again", one.name
    elif any(entry.action == FileAction.CHANGED_ROW for entry in one.group.entries):
        yield "rows changed back", one.name
    for way in one.ways:
        if way.move is None:
            continue
        if way.entry.photo_id is None:
            yield "files moved back", way.entry.source
        else:
            yield _WORDS[FILE_ACTIONS[FileAction(way.entry.action)]], way.name
    for move in one.added:
        yield _WORDS[action_of(move)], printable(move.target.name)


def _exists(path_of: Callable[[ProjectFolder, str], Path], place: tuple[ProjectFolder, str]) -> bool:
    with suppress(UnsafePath, OSError):
        path = path_of(*place)
        return path.is_file() and path.lstat().st_size > 0
    return False
